"""Claims of the steering: the first mails of a new address are those that are wanted most."""

import random
from collections import Counter
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from services.scheduler.policy.entries import waiting
from services.scheduler.policy.pairlimit import PairLimits
from services.scheduler.policy.room import Room
from services.scheduler.policy.steering import Steering, first_tags, goes_first
from services.scheduler.policy.warmup import Token
from shared.runtime.warmups import Warmup
from tests.unit.services.scheduler.policy.making import delivery
from tests.unit.services.scheduler.policy.test_budgets import SCHEDULE, Warming, warming

S = 1_000_000_000
MIN = 60 * S
H = 60 * MIN


@dataclass
class Slot:
    """A slot that may take a grant."""

    name: str
    room: Room


LIMIT = PairLimits(warming(SCHEDULE)).of("big", 0, 0)
WARM = Slot("warm", Room(0, LIMIT))


def new(left_ns: int) -> Slot:
    return Slot("new", Room(0, LIMIT, Token(0, left_ns, 1 << 62)))


def names(steering: Steering, slots: list[Slot], now_ns: int, *, first: bool = False) -> list[str]:
    return [slot.name for slot in steering.among(slots, first=first, now_ns=now_ns)]


def test_mail_that_goes_first_takes_the_new_source() -> None:
    assert names(Steering(), [WARM, new(10 * S)], 0, first=True) == ["new"]


def test_other_mail_takes_it_only_when_it_was_left_while_such_mail_comes() -> None:
    steering = Steering()
    slots = [WARM, new(MIN)]
    assert names(steering, slots, 0) == ["warm", "new"]
    names(steering, slots, S, first=True)
    assert names(steering, slots, MIN - 1) == ["warm"]
    assert names(steering, slots, MIN) == ["warm", "new"]
    assert names(steering, [WARM, new(2 * H)], H + S - 1) == ["warm"]
    assert names(steering, [WARM, new(2 * H)], H + S) == ["warm", "new"]


def test_without_a_choice_all_mail_takes_what_there_is() -> None:
    steering = Steering()
    names(steering, [WARM], 0, first=True)
    assert names(steering, [new(MIN)], 1) == ["new"]
    assert names(steering, [WARM], 1, first=True) == ["warm"]


@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 2 * MIN), st.booleans()), min_size=1),
    st.randoms(use_true_random=False),
)
def test_somewhere_is_always_left_to_go(
    mails: list[tuple[bool, int, bool]], rng: random.Random
) -> None:
    steering, now = Steering(), 0
    for first, later, alone in mails:
        now += later
        slots = [new(now + rng.randint(-MIN, MIN))] + ([] if alone else [WARM])
        assert names(steering, slots, now, first=first)


def test_transactional_mail_and_the_tagged_go_first() -> None:
    def entry(class_: str, *tags: str) -> bool:
        record = delivery("d", 0, S, class_=class_, tags=tags)
        return goes_first(waiting(record, class_, 0), frozenset({"engaged"}))

    assert entry("transactional")
    assert entry("bulk", "x", "engaged")
    assert not entry("bulk", "x")


def test_the_tags_are_those_of_the_schedules_in_use() -> None:
    schedule = Warmup("slow", (100,), first=("opened", "clicked"))
    assert first_tags(warming(schedule)) == {"opened", "clicked"}
    assert first_tags(warming(SCHEDULE)) == {"engaged"}


def test_the_budget_of_a_new_source_goes_to_the_engaged_first() -> None:
    world = Warming(warming(warm_too=True))
    for part in world.parts:
        part.own(1)
    tagged = set()
    for turn in range(240):
        # Ten others for each; one of the engaged comes every 4 minutes, a grant of the new source every 4.8.
        if turn % 8 == 0:
            world.deliver(0, f"e{turn}", tags=("engaged",))
            tagged.add(f"e{turn}")
            world.mail(10)
        world.turn(seconds=30)
        world.answer()
    by_kind = Counter(grant.id in tagged for _, grant in world.grants if grant.slot == 0)
    # One mail in eleven, and more than half of what the new source sends.
    assert by_kind[True] > by_kind[False]
    assert 12 <= by_kind.total() <= SCHEDULE.days[0]
