"""One (limit key, slot) pair: what is known of it, and its record in mail.state. Pure."""

from typing import Final

import msgspec
from msgspec.structs import replace

from services.scheduler.policy import pauses
from services.scheduler.policy.meter import Meter
from shared.protocol.control import NO_EPOCH
from shared.records.backoff import Backoff
from shared.records.health import Health
from shared.records.state import NO_PAUSE, PairState, WarmupState

#: So little that nobody minds: a pair may have it before it is asked what is known (``vanguard``).
FEW: Final = 50
_PAUSE: Final[msgspec.json.Decoder[pauses.Pause]] = msgspec.json.Decoder(pauses.Pause)


class Pair(msgspec.Struct, gc=False):
    """One pair's state; there are as many as sites times the slots that send to them."""

    key: str
    slot: int
    limiter: int = 0
    #: Of bytes.
    volume: int = 0
    pause: pauses.Pause = pauses.CLEAR
    backoff: Backoff | None = None
    #: (epoch, its clock) of the latest warning of a sender that was heard.
    heard: tuple[int, int] = (NO_EPOCH, 0)
    health: Health | None = None
    #: Of its answers; a restart knows the rate that was sure last.
    meter: Meter = msgspec.field(default_factory=Meter)
    epoch: int = NO_EPOCH
    #: Open grants of ``epoch``.
    open: int = 0
    attempts: int = 0
    unknowns: int = 0
    window_ns: int = 0
    #: Complaints of the host about itself, one after the other.
    troubles: int = 0
    #: Messages taken by a destination that nobody knows, see ``growth``.
    good: int = 0
    #: So many grants may follow without a look at what other sources bore, and when that was asked last, see ``vanguard``.
    slack: int = FEW
    asked_ns: int = 0


def pair_of(record: PairState) -> Pair:
    """Read a pair back; what counts its answers begins anew, but for the rate that it did last."""
    known = record.health
    return Pair(
        record.key,
        record.slot,
        limiter=record.limiter,
        volume=record.volume,
        pause=pause_of(record),
        backoff=record.backoff,
        heard=record.heard,
        health=known,
        meter=Meter() if known is None else Meter(known=known.did, known_ns=known.did_ns),
        epoch=record.epoch,
        good=record.good,
    )


def pause_of(record: PairState) -> pauses.Pause:
    """Read a pair's pause."""
    if bytes(record.pause) == bytes(NO_PAUSE):
        return pauses.CLEAR
    return _PAUSE.decode(record.pause)


def record_of(pair: Pair, warmup: WarmupState | None = None) -> PairState:
    """Write a pair; ``warmup``: how far its source has come there."""
    return PairState(
        key=pair.key,
        slot=pair.slot,
        limiter=pair.limiter,
        volume=pair.volume,
        pause=NO_PAUSE
        if pair.pause == pauses.CLEAR
        else msgspec.Raw(msgspec.json.encode(pair.pause)),
        epoch=pair.epoch,
        backoff=pair.backoff,
        heard=pair.heard,
        health=_health(pair),
        good=pair.good,
        warmup=warmup,
    )


def _health(pair: Pair) -> Health | None:
    if pair.health is None:
        return None
    return replace(pair.health, did=pair.meter.known, did_ns=pair.meter.known_ns)
