"""Claims of the pace of a sending domain that sends too much: it stops as long as is asked, then keeps what it learnt, whoever decides."""

import random
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.scheduler.policy import domainpace, limits
from services.scheduler.policy.domainpace import Warned
from services.scheduler.policy.meter import Meter
from services.scheduler.policy.sendingdomains import SendingDomains
from shared.records.backoff import Allowance, Backoff
from shared.records.grant import Grant
from shared.records.outcome import Reply
from shared.records.state import DomainState
from shared.records.times import rfc3339
from shared.runtime.settings import Backoff as Rules
from tests.unit.services.scheduler.policy.test_ledger import START, S, World, make_settings
from tests.unit.services.scheduler.policy.test_sendingdomains import reasons, send

MINUTE = 60 * S
DAY = 86_400 * S
RULES = Rules()
HORIZON = 2 * S


def gmail() -> World:
    """A world whose large provider is one that judges sending domains."""
    config = make_settings()
    providers = {"gmail": replace(config.providers["big"], name="gmail")}
    return World(config=replace(config, providers=providers))


def answer(world: World, grant: Grant, *, taken: bool) -> None:
    reply = Reply(code=250) if taken else Reply(code=421, enhanced="4.7.28", stage="dot")
    if taken:
        world.answer(grant, "delivered", reply=reply)
    else:
        world.answer(grant, "deferred", "rate", "domain", reply=reply)


def deliver_all(world: World, *, taken: bool) -> int:
    """Answer every grant of the rounds since the last call; gives how many there were."""
    grants, world.grants = world.grants, []
    for grant in grants:
        answer(world, grant, taken=taken)
    return len(grants)


@pytest.mark.parametrize(("seconds", "learns"), [(480, True), (300, True), (90, True), (30, False)])
def test_a_restart_costs_a_steady_domain_an_eighth_of_its_pace_or_one_more_warning(
    seconds: int, learns: bool
) -> None:
    """What it did before is not known any more: a minute and a half tells as much, and where less is known it stops alone."""
    world = gmail()
    for at in range(300):
        if 600 - 2 * at == seconds:
            world.restart()
        send(world, f"taken{at}", provider="gmail")
        world.turn(2)
        deliver_all(world, taken=True)
    send(world, "too much", provider="gmail")
    world.turn(1)
    deliver_all(world, taken=False)
    (state,) = world.ledger.pairs.domains.all()
    assert domainpace.held_ns(state, world.now) is not None
    # Thirty a minute were too much, of which half is left.
    assert (state.backoff is not None and state.backoff.pace is not None) == learns
    if state.backoff is not None and state.backoff.pace is not None:
        assert 7 * 15 * 1440 // 8 <= state.backoff.pace.level < 15 * 1440


def too_much(minutes: int = 10) -> World:
    """Let a domain send thirty a minute for some minutes, and then hear that it was too much."""
    world = gmail()
    for at in range(minutes * 30):
        send(world, f"taken{at}", provider="gmail")
        world.turn(2)
        deliver_all(world, taken=True)
    send(world, "too much", provider="gmail")
    world.turn(1)
    deliver_all(world, taken=False)
    world.turn()
    return world


def test_one_warning_stops_the_domain_alone_for_what_is_published_and_says_so_once() -> None:
    world = too_much(minutes=1)
    send(world, "own", provider="gmail")
    send(world, "other", "other.example", provider="gmail")
    world.turn(30)
    assert [grant.id for grant in world.grants] == ["other"]
    assert reasons(world)["own"] == "suspended"
    (said,) = [event for event in world.events if event.domain]
    assert (said.type, said.domain, said.category, said.tenant) == (
        "slowed",
        "acme.example",
        "rate",
        "acme",
    )
    assert "rate" in said.fix
    assert said.until is not None
    assert rfc3339(world.now + 9 * MINUTE) <= said.until < rfc3339(world.now + 12 * MINUTE)


def test_after_the_stop_it_goes_at_half_of_what_it_did_and_back_to_what_hurt_over_restarts() -> (
    None
):
    world = too_much()
    for at in range(1200):
        send(world, f"own{at}", provider="gmail")
    world.turn()
    world.restart()
    world.turn(12 * 60)
    sent = []
    for minute in range(40):
        if minute % 7 == 0:
            world.restart()
        count = 0
        for _ in range(60):
            world.turn(1)
            count += deliver_all(world, taken=True)
        sent.append(count)
    # It did 30 a minute.
    assert 13 <= sent[0] <= 20
    assert all(after >= before - 1 for before, after in pairwise(sent))
    assert 25 <= sent[-1] <= 30
    assert set(reasons(world).values()) == {"domain_rate"}
    (state,) = world.ledger._pairs.domains.all()
    assert state.backoff is not None
    assert state.backoff.pace is not None
    assert 0.85 * 30 * 1440 <= state.backoff.pace.hurt <= 30 * 1440


def test_a_domain_that_nobody_listened_to_is_stopped_and_not_cut_to_nothing() -> None:
    world = gmail()
    send(world, "first", provider="gmail")
    world.turn(1)
    deliver_all(world, taken=False)
    world.turn()
    (state,) = world.ledger._pairs.domains.all()
    assert state.backoff is not None
    assert state.backoff.pace is None
    assert state.backoff.hold_ns >= world.now + 10 * MINUTE - S


def test_a_stop_that_was_too_short_says_that_mail_is_counted_over_longer() -> None:
    meter, now = Meter(), START
    for _ in range(3000):
        meter.add(now)
        now += S // 10
    state = DomainState(key="gmail", domain="acme.example", tenant="acme")
    rng, hurt = random.Random(1), []
    for _ in range(3):
        warning = Warned(now, now - S, 10 * MINUTE, HORIZON, START - DAY)
        state, new = domainpace.warned(state, warning, meter, RULES, rng)
        assert new
        assert state.backoff is not None
        assert state.backoff.pace is not None
        hurt.append(state.backoff.pace.hurt // 1440)
        now = state.backoff.hold_ns + 2 * S
    # 3,000 messages: over ten minutes, twenty, forty.
    assert hurt[0] == pytest.approx(300, rel=0.05)
    assert hurt[1] == pytest.approx(150, rel=0.1)
    assert hurt[2] == pytest.approx(75, rel=0.1)


def test_what_was_long_ago_is_forgotten_with_a_tombstone() -> None:
    world = too_much(minutes=1)
    world.turn(2 * 86_400)
    send(world, "own", provider="gmail")
    world.turn(1)
    assert deliver_all(world, taken=True)
    world.turn()
    assert list(world.ledger._pairs.domains.all()) == []
    assert not [name for name in world.state if name.startswith("s/")]


PACES = st.builds(
    lambda level, hurt: Allowance(
        level=min(level, hurt),
        hurt=hurt,
        careful_ns=START + 3600 * S,
        memory_ns=3600 * S,
        raised_ns=START,
    ),
    st.integers(1, 10_000_000),
    st.integers(1, 10_000_000),
)
STATES = st.builds(
    lambda pace, hold, taken, limiter, parts: DomainState(
        key="gmail",
        domain="acme.example",
        tenant="acme",
        backoff=Backoff(pace=pace, hold_ns=START + hold, taken=taken),
        limiter=START + limiter,
        parts=parts,
    ),
    PACES,
    st.integers(0, 900 * S),
    st.booleans(),
    st.integers(0, 90 * S),
    st.sampled_from([1, 2, 3]),
)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(STATES, min_size=1, max_size=3),
    st.lists(st.sampled_from(["spend", "spend", "restart", "hand over"]), max_size=60),
    st.randoms(use_true_random=False),
)
def test_tokens_keep_their_distance_over_restarts_and_hand_overs_and_the_more_careful_holds(
    states: list[DomainState], steps: list[str], rng: random.Random
) -> None:
    """No record that is merged makes the domain go earlier or faster than any of the two deciders would have let it."""
    domains = SendingDomains(RULES, rng, HORIZON)
    domains.divide(3)
    for state in states:
        domains.merge([state])
    known = domains.known("gmail", "acme.example")
    assert known is not None
    parted = [domainpace.among(state, 3) for state in states]
    least = min(domainpace.per_day(state) or 0 for state in parted)
    assert domainpace.per_day(known) == least
    assert known.limiter == max(state.limiter for state in states)
    assert (domainpace.held_ns(known, START) or START) == max(
        domainpace.held_ns(state, START) or START for state in states
    )
    interval = limits.interval_ns(limits.of_daily(least))
    now, spent = START + DAY // 24, []
    for step in steps:
        known = domains.known("gmail", "acme.example")
        assert known is not None
        match step:
            case "spend":
                at = domainpace.earliest(known, now)
                now = max(now, at)
                domains._keep(("gmail", "acme.example"), domainpace.spend(known, at))
                spent.append(now)
                assert now - spent[0] >= (len(spent) - 1) * interval - domainpace.LATE_NS
            case "restart":
                fresh = SendingDomains(RULES, rng, HORIZON)
                fresh.restore(known)
                fresh.divide(3)
                assert fresh.known("gmail", "acme.example") == known
                domains = fresh
            case _:
                other = SendingDomains(RULES, rng, HORIZON)
                other.divide(3)
                other.merge([known])
                domains = other


@given(STATES, st.sampled_from([1, 2, 3, 6]))
def test_more_deciders_together_have_no_more_than_was_learnt(
    state: DomainState, parts: int
) -> None:
    after = domainpace.among(state, parts)
    assert domainpace.among(after, parts) == after
    before, each = domainpace.per_day(state), domainpace.per_day(after)
    assert before is not None
    assert each is not None
    assert each * parts <= max(before * state.parts, parts) or parts < state.parts
    assert each <= before
