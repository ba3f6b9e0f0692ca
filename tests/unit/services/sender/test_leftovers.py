"""What a slot leaves is said until it is known, becomes less as it ends, and is forgotten when there is nothing."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from hypothesis import given
from hypothesis import strategies as st

from services.sender.leftovers import Heir, Leftover, Leftovers, Telling, over
from shared.protocol.control import ControlView
from shared.records.control import Heartbeat, Left, Unanswered

if TYPE_CHECKING:
    from services.sender.line import Line

S = 1_000_000_000
GRACE_NS = 660 * S


def attempts(*ids: str) -> tuple[Unanswered, ...]:
    return tuple(Unanswered(id=id_, n=1, key="big", site="mx.big") for id_ in ids)


@dataclass
class Ending:
    """A line whose epoch is over."""

    under_way: tuple[Unanswered, ...] | None = ()
    #: What was given up: before the dot, or all.
    given_up: list[bool] = field(default_factory=list)
    busy: int = 1

    def unanswered(self, epoch: int) -> tuple[Unanswered, ...] | None:
        return self.under_way

    def give_up(self, *, after_dot: bool) -> bool:
        self.given_up.append(after_dot)
        return after_dot


def telling(view: ControlView) -> Telling:
    return Telling(view, 0, 7, "p")


@given(
    st.lists(
        st.tuples(
            st.lists(st.sampled_from("abc"), unique=True).map(sorted),
            st.integers(0, 3 * S),
            st.sampled_from(["read", "on its way", "lost"]),
        ),
        max_size=30,
    ),
    st.lists(st.sampled_from("abc"), unique=True).map(sorted),
)
def test_whatever_is_lost_or_late_the_last_of_it_becomes_known(
    steps: list[tuple[list[str], int, str]], last: list[str]
) -> None:
    view = ControlView()
    one, now, under_way = telling(view), 0, list[Left]()
    for ids, pause, fate in steps:
        now += pause
        said = one.say(attempts(*ids), now)
        if said is not None and fate != "lost":
            under_way.append(said)
        if fate == "read":
            for each in under_way:
                view.feed(view.position, now, each)
            under_way.clear()
    for each in under_way:
        view.feed(view.position, now, each)
    for _ in range(3):
        now += 3 * S
        said = one.say(attempts(*last), now)
        if said is not None:
            view.feed(view.position, now, said)
    assert one.known() == attempts(*last)
    assert one.settled(attempts(*last))
    assert one.say(attempts(*last), now + 60 * S) is None


def test_it_is_said_again_only_where_it_was_not_read_back_for_long() -> None:
    one = telling(ControlView())
    assert one.say(attempts("a"), 0) is not None
    assert one.say(attempts("a"), S) is None
    assert one.say(attempts("a"), 3 * S) is not None
    assert one.say(attempts(), 3 * S) is not None


def turned(
    leftovers: Leftovers, view: ControlView, now_ns: int, *, for_good: bool = False
) -> list[str | None]:
    """Let it go on for a moment, and its words be read; gives whom the grace time has cut off."""
    late = []
    for said, source in leftovers.turn(now_ns, GRACE_NS, for_good=for_good):
        late.append(source)
        if said is not None:
            view.feed(view.position, now_ns, said)
    return late


def test_what_is_left_is_waited_for_and_forgotten_when_everybody_knows_of_its_end() -> None:
    view, line, leftovers = ControlView(), Ending(attempts("a", "b")), Leftovers()
    leftovers.take(Leftover("ip-1", cast("Line", line), telling(view)))
    turned(leftovers, view, 0)
    assert view.left(0, 7) == attempts("a", "b")
    assert (leftovers.busy(0), leftovers.busy(1)) == (1, 0)
    # An outcome that is not acknowledged: nobody may think yet that it was.
    line.under_way = None
    turned(leftovers, view, S)
    assert view.left(0, 7) == attempts("a", "b")
    line.under_way = attempts("b")
    turned(leftovers, view, 2 * S)
    assert view.left(0, 7) == attempts("b")
    line.under_way = ()
    turned(leftovers, view, 3 * S)
    assert view.left(0, 7) == ()
    turned(leftovers, view, 4 * S)
    assert not leftovers
    # Nothing that may have been taken was cut off.
    assert set(line.given_up) == {False}


def test_a_process_that_goes_waits_for_the_grace_time_from_then_on() -> None:
    view, line, leftovers = ControlView(), Ending(attempts("a")), Leftovers()
    leftovers.take(Leftover("ip-1", cast("Line", line), telling(view)))
    turned(leftovers, view, 0)
    turned(leftovers, view, 2 * GRACE_NS)
    assert turned(leftovers, view, 2 * GRACE_NS, for_good=True) == []
    assert turned(leftovers, view, 3 * GRACE_NS, for_good=True) == ["ip-1"]
    assert line.given_up[-1]


def test_a_slot_may_be_released_when_all_that_is_under_way_is_known_and_may_not_before() -> None:
    view = ControlView()
    one, line = telling(view), Ending(attempts("a"))
    assert not one.covers(cast("Line", line))
    view.feed(0, 0, Left(slot=0, epoch=7, process="p", attempts=attempts("a", "b")))
    assert one.covers(cast("Line", line))
    line.under_way = attempts("a", "c")
    assert not one.covers(cast("Line", line))
    line.under_way = None
    assert not one.covers(cast("Line", line))


def test_of_a_process_that_is_proved_dead_nothing_is_left_and_of_any_other_all_is() -> None:
    view = ControlView()
    for slot, epoch, process in ((0, 5, "dead"), (0, 6, "silent"), (3, 7, "dead"), (4, 9, "dead")):
        said = Left(slot=slot, epoch=epoch, process=process, attempts=attempts("a"))
        view.feed(view.position, 0, said)
    view.feed(view.position, 0, Left(slot=4, epoch=9, process="dead"))
    heir, now = Heir(view, "dead", "heir"), S
    nothing = heir.speak(now)
    assert [(each.slot, each.epoch, each.attempts) for each in nothing] == [(0, 5, ()), (3, 7, ())]
    # Once, unless it is not read back.
    assert heir.speak(now) == []
    view.feed(view.position, now, nothing[0])
    now += 3 * S
    assert heir.speak(now) == nothing[1:]
    view.feed(view.position, now, nothing[1])
    now += 3 * S
    assert heir.speak(now) == []
    assert [each.id for each in view.unanswered(0, 9, 1200 * S)] == ["a"]
    assert view.unanswered(3, 9, 1200 * S) == []
    assert Heir(view, None, "heir").speak(now) == []


def test_an_attempt_of_the_dead_is_over_from_the_heirs_word_on_and_not_before() -> None:
    """What its owner still said in mail.outcomes was said before that: who has read so far there has read it."""
    view = ControlView()
    view.feed(view.position, S, Left(slot=0, epoch=5, process="dead", attempts=attempts("a")))
    view.feed(
        view.position,
        2 * S,
        Heartbeat(slot=0, epoch=6, process="heir", ready=True, mono_ns=0, wall_ns=0),
    )
    assert view.over_ns(0, 5, "a", 1) is None
    (nothing,) = Heir(view, "dead", "heir").speak(0)
    view.feed(view.position, 9 * S, nothing)
    assert view.over_ns(0, 5, "a", 1) == 9 * S


def test_what_was_said_of_an_epoch_is_taken_away_when_nothing_of_it_can_be_under_way() -> None:
    view = ControlView()
    for epoch, second in ((5, 0), (6, 1_000), (9, 0)):
        said = Left(slot=0, epoch=epoch, process="p", attempts=attempts("a"))
        view.feed(view.position, second * S, said)
    assert over(view, 0, 7, 500 * S) == []
    view.log_ns = 1_001 * S
    assert over(view, 0, 7, 500 * S) == [b"left/0/5"]
    assert over(view, 1, 7, 500 * S) == []
    view.bury(view.position, b"left/0/5")
    assert over(view, 0, 7, 500 * S) == []
