"""What pairs remember: of those that were only looked at, nothing."""

import random
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from services.scheduler.policy import growth
from services.scheduler.policy.entries import waiting
from services.scheduler.policy.pairs import Pairs
from services.scheduler.policy.room import Full, Room
from shared.protocol.control import ControlView
from shared.records.lanemap import propose
from shared.records.outcome import Outcome, Result
from shared.records.state import Open
from shared.runtime import defaults
from shared.runtime.settings import LimitRow, Rate, Settings, Source
from tests.unit.services.scheduler.policy.making import delivery
from tests.unit.services.scheduler.policy.slots import live

S = 1_000_000_000
NOW = 1_700_000_000 * S
#: Of a site that nobody knows.
START = Rate(60, 60 * S, 10)


def make(view: ControlView, **row: Rate | int) -> Pairs:
    source = Source("ip-0", 0, "bind", "none", ehlo="m0.example.com", address="192.0.2.1")
    limits = {**defaults.LIMITS, "big": LimitRow(**row)}  # type: ignore[arg-type]
    return Pairs(Settings(sources={"ip-0": source}, limits=limits), view, random.Random(1))


def grant(epoch: int) -> Open:
    return Open(n=1, slot=0, epoch=epoch, t0_ns=NOW, t1_ns=NOW + 60 * S)


def test_a_pair_that_was_only_looked_at_is_neither_kept_nor_written() -> None:
    view = ControlView()
    epoch = live(view, 0, NOW)
    pairs = make(view, rate=Rate(60, 60 * S))
    for site in range(100):
        assert isinstance(pairs.room(None, f"mx{site}.example", 0, epoch, NOW), Room)
    assert isinstance(pairs.room(None, "big", 0, epoch, NOW), Room)
    assert pairs.take() == ([], [])
    assert not pairs._pairs
    assert not pairs._glances


def test_a_pair_that_is_looked_at_again_still_counts_as_used_when_its_epoch_began() -> None:
    view = ControlView()
    epoch = live(view, 0, NOW)
    pairs = make(view, rate=Rate(60, 60 * S))
    for _ in range(2):
        room = pairs.room(None, "big", 0, epoch, NOW)
        assert isinstance(room, Room)
        assert room.t0_ns == NOW + 1 * S, "the older owner may have sent until the epoch was ready"
        pairs.take()


def test_what_was_spent_is_kept_and_written_with_its_epoch() -> None:
    view = ControlView()
    epoch = live(view, 0, NOW)
    pairs = make(view, rate=Rate(60, 60 * S))
    room = pairs.room(None, "big", 0, epoch, NOW)
    assert isinstance(room, Room)
    pairs.spend("big", 0, room.t0_ns, room.limit)
    (written,), _ = pairs.take()
    assert (written.key, written.slot, written.epoch) == ("big", 0, epoch)
    again = make(view, rate=Rate(60, 60 * S))
    again.restore(written)
    after = again.room(None, "big", 0, epoch, NOW)
    assert isinstance(after, Room)
    assert after.t0_ns == room.t0_ns + 1 * S


def test_a_pair_is_written_when_something_is_known_of_it_and_not_before() -> None:
    view = ControlView()
    epoch = live(view, 0, NOW)
    row = replace(defaults.LIMITS["default"], start_rate=None)
    source = Source("ip-0", 0, "bind", "none", ehlo="m0.example.com", address="192.0.2.1")
    known = Settings(sources={"ip-0": source}, limits={**defaults.LIMITS, "default": row})
    pairs = Pairs(known, view, random.Random(1))
    room = pairs.room(None, NOBODY, 0, epoch, NOW)
    assert isinstance(room, Room)
    assert room.limit.rate is None
    pairs.spend(NOBODY, 0, room.t0_ns, room.limit)
    pairs.opened(NOBODY, grant(epoch), 2_000)
    assert pairs.take() == ([], []), "its epoch is its slot's, and its open grant is the delivery's"
    hear(pairs, "delivered")
    (written,), _ = pairs.take()
    assert (written.key, written.slot, written.epoch) == (NOBODY, 0, epoch)
    assert written.health is not None
    later = epoch + 1
    pairs.opened(NOBODY, grant(later), 2_000)
    (written,), _ = pairs.take()
    assert written.epoch == later, "what is written goes on to be true"


def test_a_kept_pair_that_is_looked_at_in_a_newer_epoch_is_written_again() -> None:
    view = ControlView()
    epoch = live(view, 0, NOW)
    pairs = make(view, rate=Rate(60, 60 * S))
    room = pairs.room(None, "big", 0, epoch, NOW)
    assert isinstance(room, Room)
    pairs.spend("big", 0, room.t0_ns, room.limit)
    pairs.take()
    newer = live(view, 0, NOW + 10 * S, anew=True)
    assert newer > epoch
    pairs.room(None, "big", 0, newer, NOW + 10 * S)
    (written,), _ = pairs.take()
    assert written.epoch == newer
    assert written.limiter == pairs._pairs["big", 0].limiter


def test_of_restored_grants_those_of_the_newest_epoch_hold_credit() -> None:
    view = ControlView()
    live(view, 0, NOW)
    pairs = make(view, rate=Rate(1, 3600 * S), connections=2)
    for epoch in (0, 7, 7, 0):
        pairs.opened("big", grant(epoch), 1000)
    assert pairs.room(None, "big", 0, 7, NOW) == Full(None, "credit")
    pairs.closed("big", grant(7), 1000)
    assert isinstance(pairs.room(None, "big", 0, 7, NOW + 7200 * S), Room)


NOBODY = "mx.nobody.example"
ANSWERS = st.lists(st.sampled_from(["taken", "refused", "failed", "full", "again"]), max_size=80)


def hear(pairs: Pairs, result: Result, scope: str = "") -> None:
    entry = waiting(delivery("d", NOW, S, provider=None, site=NOBODY), "bulk", 0)
    outcome = Outcome(id="d", n=1, slot=0, epoch=0, result=result, scope=scope)
    pairs.hear(entry, NOBODY, grant(0), outcome, NOW)


def earned(pairs: Pairs) -> Rate | None:
    """Give the rate before what warnings leave of it."""
    pair = pairs._pairs.get((NOBODY, 0))
    return pairs._configured.of(NOBODY, 0, pair.good if pair else 0).rate


@given(ANSWERS)
def test_a_site_that_nobody_knows_has_what_its_answers_have_earned_over_every_restart(
    answers: list[str],
) -> None:
    """No more than one step for each message taken since the last refusal halved it; a full mailbox says nothing of the site."""
    view = ControlView()
    epoch = live(view, 0, NOW)
    pairs, good, written = make(view), 0, None
    for answer in answers:
        room = pairs.room(None, NOBODY, 0, epoch, NOW)
        assert isinstance(room, Room | Full)
        match answer:
            case "taken":
                hear(pairs, "delivered")
                good += 1
            case "refused":
                hear(pairs, "deferred", "pair")
                good //= 2
            case "failed":
                hear(pairs, "pair_failed", "pair")
                good //= 2
            case "full":
                hear(pairs, "deferred", "recipient")
            case _:
                pairs = make(view)
                if written is not None:
                    pairs.restore(written)
        written = next(iter(pairs.take()[0]), written)
        assert earned(pairs) == growth.rate(START, good)


def test_a_site_that_has_grown_up_is_held_back_by_nothing_and_by_its_own_rate_alone() -> None:
    view = ControlView()
    live(view, 0, NOW)
    for top in (None, Rate(120, 60 * S)):
        limits = {"default": LimitRow(10, 100, top, start_rate=START)}
        config = replace(make(view).settings, limits=limits)
        pairs = Pairs(config, view, random.Random(1))
        for _ in range(growth.enough(START, top)):
            assert pairs.limit(None, NOBODY, 0).rate is not None
            hear(pairs, "delivered")
        assert pairs.limit(None, NOBODY, 0).rate == top


def test_what_a_site_has_earned_goes_with_its_lane_and_is_forgotten_after_thirty_idle_days() -> (
    None
):
    view = ControlView()
    epoch = live(view, 0, NOW)
    pairs = make(view)
    for _ in range(20):
        hear(pairs, "delivered")
    pairs.spend(NOBODY, 0, NOW, pairs.limit(None, NOBODY, 0))
    lane_map = propose(1, 1, [], [])
    later = NOW + 29 * 86_400 * S
    states, _ = pairs.of_lane(lane_map.lane_of(NOBODY), lane_map, later)
    taken = make(view)
    taken.merge(states, ())
    assert taken.limit(None, NOBODY, 0).rate == growth.rate(START, 20)
    taken.room(None, NOBODY, 0, epoch, NOW + 31 * 86_400 * S)
    taken.spend(NOBODY, 0, NOW + 31 * 86_400 * S, taken.limit(None, NOBODY, 0))
    assert taken.limit(None, NOBODY, 0).rate == growth.rate(START, 0)


def test_the_limits_of_keys_of_which_nothing_is_said_are_kept_once() -> None:
    pairs = make(ControlView())
    for site in range(100):
        pairs.limit(None, f"mx{site}.example", 0)
        pairs.limit("big", "big", 0)
    assert len(pairs._configured._found) == 2


def test_all_over_a_smart_hosts_sources_is_what_the_one_has() -> None:
    """It is one lane and one source, whatever addresses and slot groups there are beside it."""
    addresses = {
        f"ip-{slot}": Source(f"ip-{slot}", slot, "bind", "none", address=f"192.0.2.{slot + 1}")
        for slot in range(50)
    }
    relay = Source("relay", 60, "smarthost", "none", host="smtp.relay.example")
    row = LimitRow(100, 100, total_rate=Rate(100, S), total_connections=50)
    limited = Settings(
        sources={**addresses, "relay": relay},
        limits={"default": LimitRow(100, 100), "smarthost:relay": row, "big": row},
    )
    pairs = Pairs(limited, ControlView(), random.Random(1))
    pairs.divide(3)
    relayed, direct = pairs.whole("smarthost:relay", 60), pairs.whole("big", 0)
    assert (relayed.rate, relayed.connections) == (Rate(100, S), 50)
    assert (direct.rate, direct.connections) == (Rate(2, S), 1)
    hourly = replace(row, total_rate=Rate(90, 3600 * S))
    rows = {"default": LimitRow(100, 100), "smarthost:relay": hourly, "big": hourly}
    pairs = Pairs(replace(limited, limits=rows), ControlView(), random.Random(1))
    pairs.divide(3)
    for key, count in (("smarthost:relay", 90), ("big", 30)):
        total = pairs.total_rate(key)
        assert total is not None
        assert total.count == count
