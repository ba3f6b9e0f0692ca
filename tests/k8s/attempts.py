"""Who sent what, from the topics and from what the receiver saw: who had a source when, and what became of what was handed back."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Self

from shared.records.control import CONTROL, Claim
from shared.records.outcome import OUTCOME, Handback, Outcome
from tests.support.reading import Log
from tests.support.receiver import Receiver
from tests.support.stack import Stack


@dataclass(slots=True)
class Attempts:
    """Every attempt's end, and the pod that had its epoch."""

    #: Epoch -> slot, and the pod's uid.
    owners: dict[int, tuple[int, str]] = field(default_factory=dict)
    #: By delivery.
    delivered: dict[str, Outcome] = field(default_factory=dict)
    handed_back: list[Handback] = field(default_factory=list)

    @classmethod
    async def read(cls, stack: Stack) -> Self:
        """Read mail.control and mail.outcomes from their starts."""
        found = cls()
        async with Log(stack, [stack.topics.control], 1) as control:
            await control.to_the_end()
        for _, _, offset, _, value in control.records:
            # Tombstones are of pods that have gone.
            said = CONTROL.decode(value) if value else None
            if isinstance(said, Claim):
                found.owners[offset] = (said.slot, said.pod)
        async with Log(stack, [stack.topics.outcomes]) as outcomes:
            await outcomes.to_the_end()
        for record, _ in outcomes.decoded(OUTCOME):
            if isinstance(record, Outcome) and record.result == "delivered":
                assert record.id not in found.delivered, f"delivered twice: {record.id}"
                found.delivered[record.id] = record
            elif isinstance(record, Handback):
                found.handed_back.append(record)
        return found

    def pod(self, epoch: int) -> str:
        """Give the uid of the pod that had this epoch."""
        return self.owners[epoch][1]

    def drained(self, gone: set[str]) -> list[Handback]:
        """Give what pods that are gone handed back as they went: in the last epoch of each slot that was one of theirs."""
        last: dict[int, int] = {}
        for epoch, (slot, pod) in self.owners.items():
            if pod in gone:
                last[slot] = max(epoch, last.get(slot, epoch))
        epochs = set(last.values())
        return [b for b in self.handed_back if b.epoch in epochs and b.reason == "drain"]

    def reigns(self, receiver: Receiver, ids: dict[str, str]) -> Iterator[tuple[int, list[tuple[int, int, int]]]]:  # fmt: skip
        """Give for each slot its epochs in order, with the first MAIL and the last word of each as the receiver saw them.

        ``ids``: recipient -> delivery.
        """
        seen: defaultdict[int, dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
        for line in receiver.seen("message"):
            outcome = self.delivered[ids[line["rcpt"]]]
            assert self.owners[outcome.epoch][0] == outcome.slot
            seen[outcome.slot][outcome.epoch] += [line["mail_ns"], line["ns"]]
        for slot, epochs in sorted(seen.items()):
            yield slot, [(epoch, min(at), max(at)) for epoch, at in sorted(epochs.items())]
