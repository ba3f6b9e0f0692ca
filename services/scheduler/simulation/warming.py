"""Hold what was begun against the warm-up schedules, by the sources' own days and by nothing that the policy remembers. Pure.

The k-th day on which a source sends to a provider may have at most what the schedule says of its k-th day, and at most 1.4 times what it
sent on the best day before (but what the first day may always have). A policy that holds a day, or does not count it, stays further below.
All sites outside of the providers share one budget for each source.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from shared.runtime.settings import Settings

#: Whose budget the sites share.
SITES: Final = "sites"


@dataclass(frozen=True, slots=True)
class Warming:
    """One source at one provider, day after day."""

    provider: str
    source: str
    schedule: str
    sent: tuple[int, ...]
    #: The most that each of the days may have had.
    budgets: tuple[int, ...]

    @property
    def passed(self) -> int:
        """Count the messages above a day's budget."""
        return sum(max(0, sent - most) for sent, most in zip(self.sent, self.budgets, strict=True))


def warmings(begun: Mapping[tuple[str, int, int], int], settings: Settings) -> list[Warming]:
    """Judge (limit key, slot, day) -> attempts; sources that are warm are left out."""
    days: dict[tuple[str, int], Counter[int]] = {}
    for (key, slot, day), count in begun.items():
        own = key in settings.providers or key.startswith("smarthost:")
        days.setdefault((key if own else SITES, slot), Counter())[day] += count
    found = []
    for (provider, slot), counts in sorted(days.items()):
        source = settings.source_of(slot)
        schedule = settings.warmups.get(source.warmup) if source is not None else None
        if source is None or schedule is None:
            continue
        sent: list[int] = []
        budgets: list[int] = []
        for number, (_, count) in enumerate(sorted(counts.items())):
            budgets.append(schedule.budget(number, max(sent, default=0)))
            sent.append(count)
        found.append(Warming(provider, source.name, schedule.name, tuple(sent), tuple(budgets)))
    return found
