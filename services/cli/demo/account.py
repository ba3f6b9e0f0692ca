"""Was every message accounted for? What mail.events says, beside what the receiving servers wrote down. Pure.

Three words must agree for each message: what its address promised, its one final event, and the receiving servers' own log. A message
that was delivered is in exactly one place once, from the address that the event names; one that was not is nowhere. The only copies
that are forgiven are those of a delivery whose event says ``maybe_duplicate``.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Self

from services.cli.demo.mail import Mail
from shared.records.event import Event


@dataclass(frozen=True, slots=True)
class Taken:
    """One message that a receiving server took."""

    rcpt: str
    peer: str
    file: str

    @classmethod
    def of(cls, row: dict[str, Any]) -> Self | None:
        """Read a line of a receiving server's log; None: it is about something else."""
        if row["what"] != "message" or not row["file"]:
            return None
        return cls(row["rcpt"], row["peer"], row["file"])


def taken(log: Iterable[str]) -> Iterator[Taken]:
    """Give the messages that a receiving server took, from its log."""
    for line in log:
        found = Taken.of(json.loads(line))
        if found is not None:
            yield found


@dataclass(slots=True)
class Account:
    """Everything that was said and seen."""

    #: submission -> its final events
    finals: defaultdict[str, list[Event]] = field(default_factory=lambda: defaultdict(list))
    #: Every event by type.
    said: Counter[str] = field(default_factory=Counter)
    #: recipient -> what was taken for it
    seen: defaultdict[str, list[Taken]] = field(default_factory=lambda: defaultdict(list))

    def hear(self, event: Event) -> None:
        """Note an event."""
        self.said[event.type] += 1
        if event.final:
            self.finals[event.submission].append(event)

    def see(self, found: Iterable[Taken]) -> None:
        """Note what a receiving server took."""
        for each in found:
            self.seen[each.rcpt].append(each)

    @property
    def ends(self) -> Counter[str]:
        """Count the final events by type."""
        return Counter(event.type for events in self.finals.values() for event in events)

    @property
    def copies(self) -> int:
        """Count what was taken more than once."""
        return sum(len(found) - 1 for found in self.seen.values())

    def problems(self, mails: Iterable[Mail]) -> list[str]:
        """Say what is not as it must be; empty: all is."""
        return [
            f"{mail.id} to {mail.recipient}: {problem}"
            for mail in mails
            for problem in self._problems(mail)
        ]

    def _problems(self, mail: Mail) -> Iterator[str]:
        events, seen = self.finals.get(mail.id, []), self.seen.get(mail.recipient, [])
        if [event.type for event in events] != [mail.end]:
            ends = ", ".join(event.type for event in events) or "no final event"
            yield f"{ends}, expected {mail.end}"
            return
        delivered = mail.end == "delivered"
        if len(seen) != delivered and not (delivered and seen and events[0].maybe_duplicate):
            yield f"the receiving servers have it {len(seen)} times"
        elif delivered:
            address = events[0].wire.source_ip if events[0].wire else ""
            if address not in {each.peer for each in seen}:
                yield f"came from {seen[0].peer}, the event says {address or 'nothing'}"
