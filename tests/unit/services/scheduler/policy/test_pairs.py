"""What pairs remember: of those that were only looked at, nothing."""

import random

from services.scheduler.policy.pairs import Full, Pairs, Room
from shared.protocol.control import ControlView
from shared.records.state import Open
from shared.runtime import defaults
from shared.runtime.settings import LimitRow, Rate, Settings, Source
from tests.unit.services.scheduler.policy.slots import live

S = 1_000_000_000
NOW = 1_700_000_000 * S


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
    pairs.spend(None, "big", 0, room.t0_ns)
    (written,), _ = pairs.take()
    assert (written.key, written.slot, written.epoch) == ("big", 0, epoch)
    again = make(view, rate=Rate(60, 60 * S))
    again.restore(written)
    after = again.room(None, "big", 0, epoch, NOW)
    assert isinstance(after, Room)
    assert after.t0_ns == room.t0_ns + 1 * S


def test_of_restored_grants_those_of_the_newest_epoch_hold_credit() -> None:
    view = ControlView()
    live(view, 0, NOW)
    pairs = make(view, rate=Rate(1, 3600 * S), connections=2)
    for epoch in (0, 7, 7, 0):
        pairs.opened("big", grant(epoch), 1000)
    assert pairs.room(None, "big", 0, 7, NOW) == Full(None, "credit")
    pairs.closed("big", grant(7), 1000)
    assert isinstance(pairs.room(None, "big", 0, 7, NOW + 7200 * S), Room)
