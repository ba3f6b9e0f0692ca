"""Which code runs under the simulation: the project's own, or a mutant of it that has one rule less.

A mutant shows that the checks can fail: what they let pass they have really looked at.
"""

from dataclasses import dataclass

from services.scheduler.policy.ledger import Ledger
from services.sender.attempt import AttemptGate
from services.sender.ownership import SlotOwner
from shared.protocol.spacing import WireLimiter


@dataclass(frozen=True, slots=True)
class Variant:
    """The classes that the shells make their objects of."""

    name: str = "real"
    owner: type[SlotOwner] = SlotOwner
    gate: type[AttemptGate] = AttemptGate
    ledger: type[Ledger] = Ledger
    wire: type[WireLimiter] = WireLimiter


REAL = Variant()
