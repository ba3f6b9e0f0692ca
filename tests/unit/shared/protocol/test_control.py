"""Who is there, and who has what, as mail.control tells it."""

from hypothesis import given
from hypothesis import strategies as st

from shared.protocol.control import ControlView
from shared.records.control import (
    Claim,
    Control,
    Heartbeat,
    Left,
    Present,
    Released,
    Unanswered,
    control_key,
    present_key,
)

S = 1_000_000_000
AWAY = 10 * S


def present(pod: str, serial: int = 1, *, leaving: bool = False) -> Present:
    return Present(process=f"{pod}#{serial}", pod=pod, wall_ns=0, leaving=leaving, lacks=(7,))


def read(*records: tuple[int, Control]) -> ControlView:
    """Read records, each stamped with its second."""
    view = ControlView()
    for offset, (second, record) in enumerate(records):
        view.feed(offset, second * S, record)
    return view


def test_a_sender_is_present_until_it_is_silent_or_leaves() -> None:
    view = read((1, present("a")), (5, present("b")), (9, present("b")))
    assert view.present(AWAY).keys() == {"a", "b"}
    assert view.present(AWAY)["a"].lacks == {7}
    view.feed(3, 11 * S, present("c"))
    assert view.present(AWAY).keys() == {"b", "c"}
    view.feed(4, 12 * S, present("b", leaving=True))
    assert view.present(AWAY).keys() == {"c"}


def test_a_restart_takes_its_pods_place_and_is_new() -> None:
    view = read((1, present("a")), (5, present("a")))
    assert view.senders["a"].since_ns == 1 * S
    view.feed(2, 6 * S, present("a", 2))
    assert view.senders["a"].since_ns == 6 * S
    assert len(view.senders) == 1


def test_who_is_buried_is_forgotten() -> None:
    view = read((1, present("a")), (2, present("b")))
    view.bury(2, present_key("a"))
    view.bury(3, b"hello")
    assert view.senders.keys() == {"b"}
    assert view.position == 4


KINDS = st.sampled_from([b"present/", b"answering/", b"directive/", b"left/", b"left/3/", b""])


@given(KINDS, st.binary(max_size=12))
def test_a_tombstone_that_nobody_of_ours_wrote_stops_nobody(kind: bytes, rest: bytes) -> None:
    view = read((1, present("a")))
    view.bury(1, kind + rest)
    assert view.position == 2
    assert view.senders.keys() == ({"a"} if kind + rest != present_key("a") else set())


def test_a_slot_is_held_from_its_claim_to_its_release_or_a_long_silence() -> None:
    view = ControlView()
    assert view.holder(0, AWAY) is None
    view.feed(0, 1 * S, Claim(slot=0, source="ip", process="a#1", pod="a"))
    assert view.holder(0, AWAY) == "a"
    beat = Heartbeat(slot=0, epoch=0, process="a#1", ready=True, mono_ns=0, wall_ns=0)
    view.feed(1, 5 * S, beat)
    view.feed(2, 14 * S, present("b"))
    assert view.holder(0, AWAY) == "a"
    view.feed(3, 15 * S, present("b"))
    assert view.holder(0, AWAY) is None
    view.feed(4, 16 * S, Claim(slot=0, source="ip", process="b#1", pod="b"))
    assert view.holder(0, AWAY) == "b"
    view.feed(5, 17 * S, Released(slot=0, epoch=4, process="b#1"))
    assert view.holder(0, AWAY) is None


def unanswered(id_: str) -> Unanswered:
    return Unanswered(id=id_, n=1, key="big", site="mx.big")


def left(epoch: int, *ids: str) -> Left:
    return Left(slot=0, epoch=epoch, process="a#1", attempts=tuple(map(unanswered, ids)))


def beat(epoch: int) -> Heartbeat:
    return Heartbeat(slot=0, epoch=epoch, process="b#1", ready=True, mono_ns=0, wall_ns=0)


def test_what_an_epoch_left_is_not_over_with_the_next_ones_ready() -> None:
    view = read(
        (1, Claim(slot=0, source="ip", process="a#1", pod="a")),
        (2, left(0, "x", "y")),
        (3, Released(slot=0, epoch=0, process="a#1")),
        (4, Claim(slot=0, source="ip", process="b#1", pod="b")),
    )
    assert view.over_ns(0, 0, "x", 1) is None
    assert view.over_ns(0, 0, "z", 1) is None
    view.feed(4, 5 * S, beat(3))
    assert view.over_ns(0, 0, "x", 1) is None
    assert view.over_ns(0, 0, "y", 1) is None
    # Neither another delivery nor another attempt of the same.
    assert view.over_ns(0, 0, "z", 1) == 5 * S
    assert view.over_ns(0, 0, "x", 2) == 5 * S
    # Its outcome was acknowledged before this: whoever has read the outcomes of after it knows it.
    view.feed(5, 9 * S, left(0, "y"))
    assert view.over_ns(0, 0, "x", 1) == 9 * S
    assert view.over_ns(0, 0, "y", 1) is None
    view.bury(6, control_key(left(0)))
    assert view.over_ns(0, 0, "y", 1) == 5 * S


def test_what_older_epochs_left_is_there_until_it_ends_or_its_time_is_over() -> None:
    view = read(
        (1, Claim(slot=0, source="ip", process="a#1", pod="a")),
        (2, left(0, "x", "y")),
        (3, Claim(slot=0, source="ip", process="b#1", pod="b")),
        (4, left(2, "z")),
    )
    assert view.unanswered(0, 0, AWAY) == []
    assert view.unanswered(0, 2, AWAY) == [unanswered("x"), unanswered("y")]
    assert view.unanswered(0, 3, AWAY) == [unanswered("x"), unanswered("y"), unanswered("z")]
    assert view.unanswered(1, 3, AWAY) == []
    view.feed(4, 12 * S, present("c"))
    assert view.unanswered(0, 3, AWAY) == [unanswered("z")]
