"""Slots with owners, as the scheduler sees them."""

from shared.protocol.control import ControlView
from shared.records.control import Claim, Heartbeat


def live(view: ControlView, slot: int, now_ns: int, *, anew: bool = False) -> int:
    """Let ``slot`` be claimed, once (or ``anew``), and be heard of at ``now_ns``; gives its epoch."""
    if anew or view.epoch(slot) < 0:
        claim = Claim(slot=slot, source=f"ip-{slot}", process="p", pod="p")
        view.feed(view.position, now_ns, claim)
    epoch = view.epoch(slot)
    beat = Heartbeat(slot=slot, epoch=epoch, process="p", ready=True, mono_ns=0, wall_ns=now_ns)
    view.feed(view.position, now_ns, beat)
    return epoch
