"""The deliveries whose domain's MX is not known yet, by domain: each domain is asked for once for all of them. Pure.

It is asked for when the first of them is due. Where nobody could say, only those that were due have tried in vain: one that waits for
hours keeps neither new mail of its domain from asking at once, nor is it put off by each time that one asks.
"""

import heapq
from collections import defaultdict
from typing import Final

from shared.records.state import DeliveryState

#: In place of a time: the question is out.
_OUT: Final = -1


class Unresolved:
    """Keep who waits for which answer, and when to ask."""

    def __init__(self) -> None:
        """Begin empty."""
        #: domain -> id -> when it is due.
        self._due: defaultdict[str, dict[str, int]] = defaultdict(dict)
        #: domain -> when its question is due; of several in the heap that one counts.
        self._when: dict[str, int] = {}
        self._ask: list[tuple[int, str]] = []
        #: Domains of which a sender has found other hosts than the mail was granted for.
        self._doubted: set[str] = set()

    def add(self, entry: DeliveryState, now_ns: int) -> None:
        """Let a delivery wait for its domain's answer; the question waits until it is due."""
        due_ns = max(now_ns, entry.due_ns)
        self._due[entry.domain][entry.id] = due_ns
        when_ns = self._when.get(entry.domain)
        if when_ns is None or due_ns < when_ns:
            self._plan(entry.domain, due_ns)

    def _plan(self, domain: str, at_ns: int) -> None:
        self._when[domain] = at_ns
        heapq.heappush(self._ask, (at_ns, domain))

    def remove(self, entry: DeliveryState) -> None:
        """Forget a delivery that ended or moved, if it waits here."""
        due = self._due.get(entry.domain)
        if due is not None:
            due.pop(entry.id, None)
            if not due:
                self.answered(entry.domain)

    def asking(self, now_ns: int) -> list[str]:
        """Give the domains to resolve now, each once."""
        domains: list[str] = []
        while self._ask and self._ask[0][0] <= now_ns:
            at_ns, domain = heapq.heappop(self._ask)
            if self._when.get(domain) == at_ns:
                self._when[domain] = _OUT
                domains.append(domain)
        return domains

    def doubt(self, domain: str) -> None:
        """Take it that the last answer was an old one."""
        self._doubted.add(domain)

    def doubted(self, domain: str) -> bool:
        """Say whether that was so when ``asking`` has given the domain, and forget it: the question is out."""
        found = domain in self._doubted
        self._doubted.discard(domain)
        return found

    def waiting(self, domain: str) -> int:
        """Count those that wait for a domain's answer."""
        return len(self._due.get(domain, ()))

    def answered(self, domain: str, tried_ns: int | None = None) -> set[str]:
        """Give the ids that waited for ``domain``, or of them those due at ``tried_ns``; the others still wait."""
        due = self._due.pop(domain, {})
        kept = {} if tried_ns is None else {id_: at for id_, at in due.items() if at > tried_ns}
        if kept:
            self._due[domain] = kept
            self._plan(domain, min(kept.values()))
        else:
            self._when.pop(domain, None)
            self._doubted.discard(domain)
        return due.keys() - kept.keys()

    def next_ns(self) -> int | None:
        """Say when the next question is due."""
        return self._ask[0][0] if self._ask else None
