"""Who is there, and who has what, as mail.control tells it."""

from shared.protocol.control import ControlView
from shared.records.control import Claim, Control, Heartbeat, Present, Released, present_key

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
