"""The ledger's claims: what becomes of each delivery, and that what is restored is what was."""

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.scheduler.policy.decisions import Decisions, Found, Gone, NoAnswer
from services.scheduler.policy.ledger import Ledger
from services.scheduler.policy.lines import Check, Line, Shut
from services.scheduler.policy.pauses import Paused
from shared.protocol.control import ControlView
from shared.records.codec import Unreadable, encode
from shared.records.control import Claim, Directive, Heartbeat
from shared.records.delivery import Delivery
from shared.records.event import Event
from shared.records.grant import Grant
from shared.records.lanemap import propose
from shared.records.outcome import Handback, Outcome, Reply, Result, Started, Wire
from shared.records.state import STATE
from shared.records.tlslevel import TlsLevel
from shared.runtime import defaults
from shared.runtime.settings import (
    LimitRow,
    Pool,
    Provider,
    Rate,
    Settings,
    Source,
    Stream,
    Tenant,
    UnknownPolicy,
)
from shared.runtime.windows import Window
from shared.runtime.workings import Timing
from tests.unit.services.scheduler.policy.making import delivery

S = 1_000_000_000
START = 1_700_000_000 * S


def make_settings(**limits: LimitRow) -> Settings:
    sources = {
        f"ip-{at}": Source(
            f"ip-{at}", at, "bind", "none", ehlo=f"m{at}.example.com", address=f"127.0.0.{11 + at}"
        )
        for at in range(2)
    }
    return Settings(
        sources=sources,
        pools={"main": Pool("main", {"ip-0": 1, "ip-1": 1}), "one": Pool("one", {"ip-0": 1})},
        tenants={
            "acme": Tenant("acme", ("acme.example",), {"transactional": "main", "bulk": "main"})
        },
        classes=defaults.CLASSES,
        providers={"big": Provider("big", (".big.example",))},
        limits={**defaults.LIMITS, **limits},
        timing=Timing(),
    )


@dataclass
class World:
    """One partition of one, two slots with owners, and a clock."""

    config: Settings = field(default_factory=make_settings)
    now: int = START
    offset: int = 0
    state: dict[str, bytes] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    grants: list[Grant] = field(default_factory=list)
    view: ControlView = field(default_factory=ControlView)
    epochs: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Publish a lane map, claim both slots, say ready."""
        self.control(propose(1, 1, self.config.providers, []))
        for slot in (0, 1):
            self.claim(slot)
        self.ledger = self.fresh()

    def fresh(self) -> Ledger:
        return Ledger(0, self.config, self.view, random.Random(7))

    def control(self, record: object) -> int:
        at = self.view.position
        self.view.feed(at, self.now, record)  # type: ignore[arg-type]
        return at

    def claim(self, slot: int) -> None:
        self.epochs[slot] = self.control(
            Claim(slot=slot, source=f"ip-{slot}", process="p", pod="p")
        )
        self.beat()

    def beat(self) -> None:
        for slot, epoch in self.epochs.items():
            self.control(
                Heartbeat(
                    slot=slot, epoch=epoch, process="p", ready=True, mono_ns=0, wall_ns=self.now
                )
            )

    def deliver(self, id_: str, **more: object) -> Delivery:
        record = delivery(id_, self.now, 72 * 3600 * S, **more)
        self.ledger.on_delivery(record.class_, self.offset, record)
        self.offset += 1
        return record

    def turn(self, seconds: float = 0, *, beat: bool = True) -> Decisions:
        """Pass time, run a round, and write what it decided as the changelog would."""
        self.now += int(seconds * S)
        if beat:
            self.beat()
        self.ledger.begin(self.now)
        self.ledger.on_log_time(self.now)
        self.ledger.judge()
        self.ledger.plan(1000, 1 << 30)
        return self.commit()

    def commit(self) -> Decisions:
        decided = self.ledger.take()
        for id_, entry in decided.deliveries.items():
            if entry is None:
                self.state.pop(id_, None)
            else:
                self.state[id_] = encode(entry)
        for pair in decided.pairs:
            self.state[f"{pair.slot}/{pair.key}"] = encode(pair)
        for key, slot in decided.forgotten:
            self.state.pop(f"{slot}/{key}", None)
        for total in decided.totals:
            self.state[total.key] = encode(total)
        for which, domain in decided.domains.items():
            if domain is None:
                self.state.pop(f"s/{which}", None)
            else:
                self.state[f"s/{which}"] = encode(domain)
        for offset, order in decided.orders.items():
            if order is None:
                self.state.pop(f"o/{offset}", None)
            else:
                self.state[f"o/{offset}"] = encode(order)
        self.events += decided.events
        self.grants += [granted.grant for granted in decided.granted]
        return decided

    def restart(self) -> None:
        """Throw the memory away and read it back."""
        self.ledger = self.fresh()
        for value in self.state.values():
            record = STATE.decode(value)
            assert not isinstance(record, Unreadable), record
            self.ledger.restore(record)
        self.ledger.restored()
        self.ledger.begin(self.now)

    def answer(
        self, grant: Grant, result: Result, category: str = "", scope: str = "", **more: Any
    ) -> None:
        outcome = Outcome(
            id=grant.id,
            n=grant.n,
            slot=grant.slot,
            epoch=grant.epoch,
            result=result,
            category=category,
            scope=scope,
            **more,
        )
        self.ledger.on_outcome(self.now, outcome)

    def started(self, grant: Grant, stamp: int | None = None) -> None:
        record = Started(id=grant.id, n=grant.n, slot=grant.slot, epoch=grant.epoch)
        self.ledger.on_outcome(stamp or self.now, record)

    def only(self) -> Grant:
        assert len(self.grants) == 1, self.grants
        return self.grants.pop()

    def said(self) -> list[str]:
        return [event.type for event in self.events]


def test_what_is_over_before_its_turn_expires_without_a_grant() -> None:
    """The next token comes after the expiry: the delivery ends, and leaves the token to the others."""
    world = World(make_settings(big=LimitRow(rate=Rate(1, 10 * S))))
    world.turn(20)
    world.deliver("d1", pool="one")
    world.turn()
    world.only()
    world.deliver("otp", pool="one", class_="transactional", expires_ns=world.now + 9 * S)
    world.deliver("d2", pool="one", class_="transactional")
    world.turn(8.5)
    assert world.only().id == "d2"
    assert [(event.type, event.delivery) for event in world.events] == [("expired", "otp")]


def test_a_grant_says_when_its_delivery_expires_and_handed_back_then_it_ends() -> None:
    world = World()
    record = world.deliver("otp", expires_ns=world.now + 5 * S)
    world.turn()
    grant = world.only()
    assert grant.expires_ns == record.expires_ns
    world.turn(6)
    assert world.events == []
    world.ledger.on_outcome(
        world.now,
        Handback(id="otp", n=grant.n, slot=grant.slot, epoch=grant.epoch, reason="over"),
    )
    world.turn()
    assert world.said() == ["expired"]
    assert world.events[0].attempt is None


def test_a_line_that_is_shut_is_asked_about_once_however_many_rounds_pass() -> None:
    asked: list[Line] = []

    class Gate:
        shuts = True

        def at(self, limit_key: str, provider: str | None) -> Check:
            return self.check

        def check(self, line: Line, _now_ns: int) -> Shut:
            asked.append(line)
            return Shut(None, "directive")

    world = World()
    world.ledger._queues.gates.append(Gate())
    for number in range(50):
        world.deliver(f"d{number}")
    for _ in range(20):
        world.turn(1)
    assert asked == [Line("bulk", "acme", "", "acme.example")]
    world.ledger._queues.reopen(world.now, "big")
    world.turn()
    assert len(asked) == 2


def test_thousands_that_become_due_in_the_same_second_hold_up_nobody() -> None:
    """Retries of other tenants and classes that are due then go in the first round; each round does its share of the crowd."""
    world = World()
    at = world.now + 3_600 * S
    for number in range(6_000):
        world.deliver(f"x{number}", tenant="crowd", not_before_ns=at)
    world.deliver("otp", class_="transactional", not_before_ns=at)
    world.deliver("mine", not_before_ns=at)
    world.turn()
    for _ in range(120):
        world.now = max(world.now, at - 60 * S)
        world.turn(0.5)
        if world.now >= at:
            break
    first = [grant.id for grant in world.grants]
    assert world.now == at
    assert len(first) <= 1_000
    assert first[0] == "otp"
    assert "mine" in first[:4]


def test_what_has_a_send_window_waits_for_it_and_is_then_given_evenly() -> None:
    """The stream's window holds, else the tenant's for the class; nobody else waits, and nothing uses an attempt."""
    day = START // (86_400 * S) * 86_400 * S
    nine, noon = (Window((True,) * 7, 60 * hour, 1440, UTC) for hour in (9, 12))
    config = make_settings(big=LimitRow(rate=Rate(1_000, S)))
    acme = replace(
        config.tenants["acme"], windows={"bulk": nine}, streams={"news": Stream(window=noon)}
    )
    world = World(replace(config, tenants={"acme": acme}), now=day + 8 * 3600 * S)
    for number in range(100):
        world.deliver(f"d{number}")
    world.deliver("news", stream="news")
    world.deliver("receipt", class_="transactional")
    world.turn()
    world.answer(world.only(), "delivered")
    assert {reason for entry, reason in world.ledger.reasons() if entry.open is None} == {"window"}
    world.turn(3600)
    assert world.said() == ["delivered"]
    released = []
    for _ in range(5):
        world.turn(0.2)
        released.append(len(world.grants))
    assert [abs(count - 20 * (at + 1)) <= 2 for at, count in enumerate(released)] == [True] * 5
    assert released[-1] == 100
    world.grants.clear()
    world.turn(3 * 3600)
    assert "news" in {grant.id for grant in world.grants}


def test_what_is_near_its_deadline_goes_before_what_waits_longer() -> None:
    """Urgent from the start, or as time passes; and after a restart as before it."""
    world = World(make_settings(big=LimitRow(rate=Rate(1, 60 * S))))
    world.deliver("first", pool="one", class_="transactional")
    world.turn(60)
    world.only()
    for number in range(5):
        world.deliver(f"d{number}", pool="one", class_="transactional")
    life = 690 * S
    world.deliver(
        "soon",
        pool="one",
        class_="transactional",
        not_before_ns=world.now + 1,
        expires_ns=world.now + life,
    )
    world.commit()
    world.restart()
    world.turn(60)
    assert world.only().id != "soon"
    world.turn(60)
    assert world.only().id == "soon"
    world.deliver("otp", pool="one", class_="transactional", expires_ns=world.now + 200 * S)
    world.turn(60)
    world.turn(60)
    assert "otp" in {grant.id for grant in world.grants}


def test_a_million_that_expire_together_do_not_hold_up_a_round() -> None:
    """They end in portions; none of them is granted meanwhile, and the others' mail goes."""
    world = World()
    for number in range(5_000):
        world.deliver(f"x{number}", pool="one", expires_ns=world.now + 60 * S)
    world.ledger.begin(world.now)
    world.commit()
    world.now += 61 * S
    world.deliver("mine", pool="one", class_="transactional")
    world.turn()
    assert world.only().id == "mine"
    assert 1_000 <= len(world.events) < 5_000
    for _ in range(5):
        world.turn(1)
    assert world.grants == []
    assert world.said() == ["expired"] * 5_000


def test_a_delivery_is_granted_once_and_ends_with_its_outcome() -> None:
    world = World()
    world.deliver("d1")
    world.turn()
    grant = world.only()
    assert grant.epoch == world.epochs[grant.slot]
    world.turn(1)
    assert world.grants == []
    world.answer(grant, "delivered")
    world.commit()
    assert world.said() == ["delivered"]
    assert world.events[0].final
    assert "d1" not in world.state


@pytest.mark.parametrize(
    ("provider", "tenant", "level"),
    [
        ("opportunistic", "opportunistic", "opportunistic"),
        ("encrypted", "opportunistic", "encrypted"),
        ("opportunistic", "verified", "verified"),
        ("encrypted", "verified", "verified"),
        ("verified", "encrypted", "verified"),
    ],
)
def test_a_grant_carries_the_stricter_of_what_provider_and_tenant_want_of_tls(
    provider: TlsLevel, tenant: TlsLevel, level: TlsLevel
) -> None:
    base = make_settings()
    world = World(
        replace(
            base,
            providers={"big": replace(base.providers["big"], tls=provider)},
            tenants={"acme": replace(base.tenants["acme"], tls=tenant)},
        )
    )
    world.deliver("d1")
    world.turn()
    assert world.only().tls == level


def test_the_providers_row_is_not_asked_of_the_smart_host_before_it() -> None:
    base = make_settings()
    relay = Source("relay", 1, "smarthost", "none", host="relay.example.net")
    world = World(
        replace(
            base,
            sources={"ip-0": base.sources["ip-0"], "relay": relay},
            pools={**base.pools, "relay": Pool("relay", {"relay": 1})},
            providers={"big": replace(base.providers["big"], tls="verified")},
        )
    )
    world.control(propose(1, 1, world.config.providers, ["relay"]))
    world.deliver("d1", pool="relay")
    world.turn()
    assert world.only().tls == "opportunistic"


@pytest.mark.parametrize(
    ("result", "events"),
    [
        ("delivered", [("delivered", True)]),
        ("bounced", [("bounced", True)]),
        ("deferred", [("deferred", False)]),
        ("unknown", [("unknown", False)]),
        ("pair_failed", []),
    ],
)
def test_an_event_tells_what_the_outcome_told(
    result: Result, events: list[tuple[str, bool]]
) -> None:
    world = World()
    world.deliver("d1", class_="transactional")
    world.turn()
    grant = world.only()
    reply = Reply(code=450, text="not now", enhanced="4.2.0", stage="rcpt")
    wire = Wire(source_ip="192.0.2.1", mx="mx.big.example", tls="none: it broke", ms={"rcpt": 7})
    outcome = Outcome(
        id=grant.id,
        n=grant.n,
        slot=grant.slot,
        epoch=grant.epoch,
        result=result,
        category="other",
        scope="recipient",
        reply=reply,
        wire=wire,
    )
    world.ledger.on_outcome(world.now, outcome)
    world.commit()
    assert [(event.type, event.final) for event in world.events] == events
    for event in world.events:
        assert (event.reply, event.wire) == (reply, wire)
        assert (event.category, event.scope) == ("other", "recipient")
        assert event.source == f"ip-{grant.slot}"


def test_a_deferral_waits_for_its_schedule_and_counts_a_step() -> None:
    world = World()
    world.deliver("d1")
    world.turn()
    world.answer(world.only(), "deferred", "other")
    world.turn()
    world.turn(15 * 60 * 0.7)
    assert world.grants == []
    world.turn(15 * 60 * 0.6)
    assert world.only().n == 2
    assert world.said() == ["deferred"]


def test_greylisting_is_retried_from_the_same_slot_and_never_under_five_minutes() -> None:
    world = World()
    for at in range(20):
        world.deliver(f"d{at}", class_="transactional")
    world.turn()
    first = {grant.id: grant.slot for grant in world.grants}
    for grant in world.grants:
        world.answer(grant, "deferred", "greylist")
    world.grants.clear()
    world.turn(299)
    assert world.grants == []
    for _ in range(10):
        world.turn(30)
    assert {grant.id: grant.slot for grant in world.grants} == first


def test_a_domain_that_nobody_answers_for_waits_alone_and_is_no_sign_that_its_pair_works() -> None:
    world = World(make_settings(big=LimitRow(connections=2)))
    nobody = Reply(code=0, text="no answer in time", stage="connect")
    world.deliver("d1", pool="one")
    world.turn()
    world.answer(world.only(), "deferred", "connection", "recipient", reply=nobody)
    world.turn(1)
    assert world.said() == ["deferred"]
    assert world.ledger.entries["d1"].steps == 1
    assert world.ledger.pauses() == []
    # A pair that is probed is not any better for it.
    world.deliver("d2", pool="one")
    world.turn()
    world.answer(world.only(), "pair_failed")
    world.turn(70)
    world.answer(world.only(), "deferred", "connection", "recipient", reply=nobody)
    world.turn()
    assert isinstance(world.ledger._pairs._pairs["big", 0].pause, Paused)


def test_a_connection_that_fails_after_its_lease_pauses_the_pair_all_the_same() -> None:
    world = World()
    world.deliver("d")
    world.turn()
    hung = world.only()
    # The host says nothing for five minutes; the lease lasts one, and others go the same way.
    world.turn(70)
    assert world.only().n == 2
    world.turn(230)
    world.grants.clear()
    world.answer(hung, "pair_failed", "connection", "pair", wire=Wire(ms={"banner": 300_000}))
    world.turn()
    paused = world.ledger._pairs.paused(world.now)
    assert [(key, slot) for key, slot, _ in paused] == [(hung.limit_key, hung.slot)]


def test_waiting_for_a_failed_pair_uses_no_attempt_and_no_step() -> None:
    world = World(make_settings(big=LimitRow(connections=2)))
    world.deliver("d1", pool="one")
    world.turn()
    world.answer(world.only(), "pair_failed")
    world.turn(1)
    assert world.grants == []
    assert world.said() == []
    assert world.ledger.entries["d1"].steps == 0
    assert world.ledger.pauses()[0][:2] == ("big", 0)
    world.turn(70)
    assert world.only().n == 2


def test_a_grant_that_nobody_started_is_planned_again_when_its_lease_is_over_by_log_time() -> None:
    world = World()
    world.deliver("d1")
    world.turn()
    grant = world.only()
    world.turn(61)
    assert world.grants == []
    world.turn(2)
    assert world.only().n == grant.n + 1
    assert world.said() == []


def test_a_started_attempt_that_is_never_heard_of_ends_as_unknown() -> None:
    world = World()
    world.deliver("d1", class_="transactional")
    world.turn()
    grant = world.only()
    world.turn(1)
    world.started(grant)
    for _ in range(30):
        world.turn(39)
    assert world.said() == []
    world.turn(60)
    assert world.said() == ["unknown"]
    assert not world.events[0].final


def test_a_started_after_the_lease_is_void() -> None:
    world = World()
    world.deliver("d1")
    world.turn()
    grant = world.only()
    world.now = grant.t1_ns + 1
    world.started(grant)
    world.turn(3)
    assert world.only().n == 2
    assert world.said() == []


def test_a_newer_epoch_settles_the_older_one_at_once() -> None:
    world = World()
    world.deliver("d1", pool="one")
    world.deliver("d2", pool="one")
    world.turn()
    first, second = world.grants
    world.grants.clear()
    world.started(first)
    world.turn(1)
    world.claim(0)
    world.turn(3)
    assert world.said() == ["unknown"]
    assert [grant.id for grant in world.grants] == [second.id]


def test_unknown_ends_a_transactional_delivery_after_two_more_tries() -> None:
    world = World()
    world.deliver("d1", class_="transactional")
    for _ in range(3):
        world.turn(400)
        world.answer(world.only(), "unknown")
    world.commit()
    assert world.said() == ["unknown"] * 3
    assert [event.final for event in world.events] == [False, False, True]


def test_a_late_delivered_of_an_older_attempt_ends_the_delivery_and_says_that_it_may_be_double() -> (
    None
):
    world = World()
    world.deliver("d1", class_="transactional")
    world.turn()
    first = world.only()
    world.answer(first, "unknown")
    world.turn(400)
    world.started(world.only())
    world.answer(first, "delivered")
    world.commit()
    assert world.said() == ["unknown", "delivered"]
    assert world.events[-1].maybe_duplicate


def test_a_late_bounced_settles_nothing_while_a_newer_attempt_is_started() -> None:
    world = World()
    world.deliver("d1", class_="transactional")
    world.turn()
    first = world.only()
    world.answer(first, "unknown")
    world.turn(400)
    newer = world.only()
    world.started(newer)
    world.answer(first, "bounced")
    world.answer(newer, "delivered")
    world.commit()
    assert world.said() == ["unknown", "delivered"]


def holding() -> World:
    """Bulk whose outcome is unknown is held."""
    base = make_settings()
    held = replace(base.classes["bulk"], unknown=UnknownPolicy("hold", None, S))
    return World(replace(base, classes=dict(base.classes) | {"bulk": held}))


def test_hold_keeps_an_unknown_delivery_for_an_operator() -> None:
    world = holding()
    world.deliver("d1")
    world.turn()
    world.answer(world.only(), "unknown")
    world.turn(3600)
    world.restart()
    world.turn(3600)
    assert world.grants == []
    assert world.said() == ["unknown"]


def test_what_is_to_be_held_when_its_time_is_over_ends_at_once() -> None:
    """Its time was looked at while it was out, and is not again: it would be held, and its record needed, for ever."""
    world = holding()
    world.deliver("d1", expires_ns=world.now + 60 * S)
    world.turn()
    grant = world.only()
    world.started(grant)
    world.turn(61)
    world.answer(grant, "unknown")
    world.turn()
    assert world.said() == ["unknown", "expired"]
    assert [event.final for event in world.events] == [False, True]
    assert not world.ledger.entries


def test_a_handback_is_planned_again_without_a_step() -> None:
    world = World()
    world.deliver("d1")
    world.turn()
    grant = world.only()
    back = Handback(id=grant.id, n=grant.n, slot=grant.slot, epoch=grant.epoch, reason="drain")
    world.ledger.on_outcome(world.now, back)
    world.turn()
    assert world.only().n == 2
    assert world.ledger.entries["d1"].steps == 0


def test_moved_is_resolved_anew_before_the_next_grant() -> None:
    world = World()
    world.deliver("d1")
    world.turn()
    grant = world.only()
    back = Handback(
        id=grant.id, n=grant.n, slot=grant.slot, epoch=grant.epoch, reason="moved", site="mx.other"
    )
    world.ledger.on_outcome(world.now, back)
    world.turn()
    # Not at once: where the name servers answer now so and now so, it would go to and fro as fast as Kafka allows.
    assert (world.grants, world.ledger.asking()) == ([], [])
    world.turn(5)
    assert world.ledger.asking() == ["x.example"]
    # An answer that is kept from before may be what the sender contradicts.
    assert world.ledger.doubted("x.example")
    assert not world.ledger.doubted("x.example")
    world.ledger.on_resolved("x.example", Found("mx.other", None))
    world.turn()
    assert world.only().site == "mx.other"


def test_a_domain_that_does_not_exist_bounces_after_a_second_answer_a_minute_later() -> None:
    world = World()
    world.deliver("d1", site=None, provider=None)
    world.turn()
    assert world.ledger.asking() == ["x.example"]
    world.ledger.on_resolved("x.example", Gone("5.1.2", "no such domain", at_once=False))
    world.turn(30)
    assert world.ledger.asking() == []
    world.turn(31)
    assert world.ledger.asking() == ["x.example"]
    world.ledger.on_resolved("x.example", Gone("5.1.2", "no such domain", at_once=False))
    world.commit()
    assert world.said() == ["bounced"]


def test_name_servers_that_do_not_answer_defer() -> None:
    world = World()
    world.deliver("d1", site=None, provider=None)
    world.turn()
    world.ledger.asking()
    world.ledger.on_resolved("x.example", NoAnswer("4.4.3 time-out"))
    world.turn()
    assert world.said() == ["deferred"]
    assert world.grants == []


def test_new_mail_of_a_domain_is_asked_for_at_once_whatever_older_mail_of_it_waits_for() -> None:
    world = World()
    world.deliver("old", site=None, provider=None)
    world.turn()
    assert world.ledger.asking() == ["x.example"]
    world.ledger.on_resolved("x.example", NoAnswer("4.4.3 time-out"))
    world.turn()
    assert world.said() == ["deferred"]
    due = world.ledger.entries["old"].due_ns
    world.deliver("new", site=None, provider=None)
    world.turn()
    assert world.ledger.asking() == ["x.example"]
    # It was tried in vain for the new one alone: the old one's turn had not come.
    world.ledger.on_resolved("x.example", NoAnswer("4.4.3 time-out"))
    world.turn()
    assert world.said() == ["deferred", "deferred"]
    assert world.ledger.entries["old"].due_ns == due
    assert world.ledger.entries["old"].steps == world.ledger.entries["new"].steps == 1
    assert world.ledger.asking() == []
    while not (asked := world.ledger.asking()):
        world.turn(1)
    assert asked == ["x.example"]
    assert world.now >= min(due, world.ledger.entries["new"].due_ns)
    world.ledger.on_resolved("x.example", Found("mx.x.example", None))
    world.turn()
    assert world.ledger.entries["old"].site == world.ledger.entries["new"].site == "mx.x.example"


def test_a_delivery_expires_without_a_grant_when_its_time_is_over() -> None:
    world = World()
    world.deliver("d1", expires_ns=world.now + 10 * S, not_before_ns=world.now + 20 * S)
    world.turn(11)
    assert world.said() == ["expired"]
    assert world.grants == []


def test_a_rate_is_kept_to_the_token_and_over_a_restart() -> None:
    world = World(make_settings(big=LimitRow(rate=Rate(60, 60 * S))))
    for at in range(100):
        world.deliver(f"d{at}", pool="one")
    for turn in range(40):
        granted = world.turn(0.5).granted
        if turn % 7 == 3:
            world.restart()
        for one in granted:
            world.answer(one.grant, "delivered")
    times = sorted(grant.t0_ns for grant in world.grants)
    assert 15 <= len(times) <= 24
    assert all(later - earlier >= S for earlier, later in itertools.pairwise(times))


def test_a_pause_holds_a_tenant_a_provider_or_a_source_and_ends() -> None:
    base = Directive(id="x", action="pause", reason="r", author="a", expires_ns=START + 60 * S)
    for selector in (("tenant", "acme"), ("provider", "big"), ("source", "ip-0")):
        world = World()
        world.control(msgspec.structs.replace(base, **dict([selector])))
        world.deliver("d1", pool="one")
        world.turn(1)
        assert world.grants == [], selector
        world.turn(60)
        assert world.only().id == "d1"


def test_a_slot_whose_owner_is_not_heard_of_gets_nothing() -> None:
    world = World()
    world.deliver("d1")
    world.turn(6, beat=False)
    assert world.grants == []
    world.turn(1)
    assert world.only().id == "d1"


def test_mail_is_shared_by_weight() -> None:
    base = make_settings()
    world = World(replace(base, pools={"main": Pool("main", {"ip-0": 3, "ip-1": 1})}))
    for at in range(60):
        world.deliver(f"d{at}")
    world.turn()
    assert len(world.grants) == 60
    assert sum(grant.slot == 0 for grant in world.grants) == 45


def test_an_ipv6_source_sends_only_where_the_provider_takes_ipv6() -> None:
    base = make_settings()
    six = replace(base.sources["ip-1"], address="2001:db8::1")
    for families, slots in ((("v4",), {0}), (("v4", "v6"), {0, 1}), (("v6",), {1})):
        providers = {"big": Provider("big", (".big.example",), families=families)}
        world = World(
            replace(base, sources=dict(base.sources) | {"ip-1": six}, providers=providers)
        )
        for at in range(8):
            world.deliver(f"d{at}")
        world.turn()
        assert {grant.slot for grant in world.grants} == slots


def test_the_log_is_needed_from_the_oldest_delivery_on() -> None:
    world = World()
    for at in range(3):
        world.deliver(f"d{at}")
    world.turn()
    assert world.ledger.oldest_offset("bulk") == 0
    by_id = {grant.id: grant for grant in world.grants}
    world.answer(by_id["d0"], "delivered")
    assert world.ledger.oldest_offset("bulk") == 1
    copy = world.deliver("d1", again=True)
    assert copy.again
    assert world.ledger.oldest_offset("bulk") == 2
    world.deliver("d0", again=True)
    assert "d0" not in world.ledger.entries


STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            [
                "deliver",
                "delivered",
                "deferred",
                "bounced",
                "pair_failed",
                "unknown",
                "started",
                "time",
                "claim",
            ]
        ),
        st.integers(0, 7),
    ),
    max_size=40,
)


@given(STEPS)
@settings(max_examples=150, deadline=None)
def test_what_is_restored_decides_as_what_was(steps: list[tuple[str, int]]) -> None:
    world = World()
    for what, number in steps:
        match what:
            case "deliver":
                world.deliver(f"d{world.offset}", class_="transactional" if number % 2 else "bulk")
            case "time":
                world.turn(float(10**number) / 100)
            case "claim":
                world.claim(number % 2)
            case "started" if world.grants:
                world.started(world.grants[number % len(world.grants)])
            case "delivered" | "deferred" | "bounced" | "pair_failed" | "unknown" if world.grants:
                world.answer(world.grants[number % len(world.grants)], what)
            case _:
                pass
        world.turn()
    before = {id_: encode(entry) for id_, entry in world.ledger.entries.items()}
    world.restart()
    assert {id_: encode(entry) for id_, entry in world.ledger.entries.items()} == before
    finals = [event.delivery for event in world.events if event.final]
    assert len(finals) == len(set(finals)), "no delivery has two final events"
    open_ids = {id_ for id_, entry in world.ledger.entries.items() if entry.open is not None}
    assert open_ids | set(waiting(world)) == set(world.ledger.entries)


def waiting(world: World) -> Iterator[str]:
    """Give the deliveries that are not open: each has one reason."""
    for entry, reason in world.ledger.reasons():
        assert reason
        if entry.open is None:
            yield entry.id


def test_a_pool_that_nobody_knows_any_more_is_waited_for_until_the_delivery_expires() -> None:
    world = World()
    world.deliver("a", pool="gone", expires_ns=START + 3600 * S)
    world.deliver("b")
    assert [granted.delivery.id for granted in world.turn().granted] == ["b"]
    assert [reason for entry, reason in world.ledger.reasons() if entry.id == "a"] == ["no_source"]
    world.turn(3601)
    assert world.said() == ["expired"]


def test_a_refused_delivery_ends_at_once_unless_it_is_known() -> None:
    world = World()
    taken = world.deliver("a")
    for record in (taken, msgspec.structs.replace(taken, id="b", again=True)):
        world.ledger.on_refused("bulk", 9, record, "internal", "a bug")
    assert world.turn().events == []
    world.ledger.on_refused("bulk", 9, msgspec.structs.replace(taken, id="c"), "internal", "a bug")
    (said,) = world.turn().events
    assert (said.type, said.delivery, said.final, said.category) == (
        "rejected",
        "c",
        True,
        "internal",
    )
