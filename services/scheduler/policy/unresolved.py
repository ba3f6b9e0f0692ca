"""The deliveries whose domain's MX is not known yet, by domain: each domain is asked for once for all of them. Pure."""

import heapq
from collections import defaultdict

from shared.records.state import DeliveryState


class Unresolved:
    """Keep who waits for which answer, and when to ask."""

    def __init__(self) -> None:
        """Begin empty."""
        self._ids: defaultdict[str, set[str]] = defaultdict(set)
        self._ask: list[tuple[int, str]] = []

    def add(self, entry: DeliveryState, now_ns: int) -> None:
        """Let a delivery wait for its domain's answer; the question waits until it is due."""
        first = entry.domain not in self._ids
        self._ids[entry.domain].add(entry.id)
        if first:
            heapq.heappush(self._ask, (max(now_ns, entry.due_ns), entry.domain))

    def remove(self, entry: DeliveryState) -> None:
        """Forget a delivery that ended or moved, if it waits here."""
        ids = self._ids.get(entry.domain)
        if ids is not None:
            ids.discard(entry.id)
            if not ids:
                del self._ids[entry.domain]

    def asking(self, now_ns: int) -> list[str]:
        """Give the domains to resolve now, each once."""
        domains: list[str] = []
        while self._ask and self._ask[0][0] <= now_ns:
            _, domain = heapq.heappop(self._ask)
            # One who left and came again has asked twice.
            if domain in self._ids and domain not in domains:
                domains.append(domain)
        return domains

    def waiting(self, domain: str) -> int:
        """Count those that wait for a domain's answer."""
        return len(self._ids.get(domain, ()))

    def answered(self, domain: str) -> set[str]:
        """Give the ids that waited for ``domain``; they wait here no longer."""
        return self._ids.pop(domain, set())

    def next_ns(self) -> int | None:
        """Say when the next question is due."""
        return self._ask[0][0] if self._ask else None
