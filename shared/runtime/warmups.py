"""Warm-up schedules: how much a new address may send to one provider on each of its first days. Pure.

A provider trusts an address by what it has seen of it, so each has a day's budget of its own for each source; everybody outside the
table of providers shares one. The figures here are the plan; ``services.scheduler.policy.warmup`` says how it is followed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

#: No day has more than this times the best day before it, in fifths: 1.4.
_GROWTH_FIFTHS: Final = 7
#: The least that a first day may have. Sites share a budget by eight buckets of the lane map, and from three messages on each of them
#: can grow by two fifths in whole messages.
LEAST_A_DAY: Final = 25
#: Longer than any address takes; a slip in a growth would else make a schedule of millions of days.
MOST_DAYS: Final = 366


@dataclass(frozen=True, slots=True)
class Warmup:
    """A schedule."""

    name: str
    #: Messages a day, for each day that counts in turn; after the last the source is warm.
    days: tuple[int, ...]
    #: A day's budget is spread over at least so many hours; 0: it may go as fast as the limits allow.
    hours: int = 12
    #: Mail with one of these tags goes first, as transactional mail does: those who read it.
    first: tuple[str, ...] = ("engaged",)

    def budget(self, step: int, best: int, part: int = 0, parts: int = 1) -> int:
        """Give a day's budget after ``step`` days that counted, the best of which had ``best`` messages; of it, part ``part`` of ``parts``.

        The parts of a day add up to the day. The first day's is always allowed.
        """
        planned = _part(self.days[min(step, len(self.days) - 1)], part, parts)
        grown = max(_part(self.days[0], part, parts), best * _GROWTH_FIFTHS // 5)
        return min(planned, grown)


def geometric(first: int, growth: float, last: int) -> tuple[int, ...]:
    """Give the days from ``first`` to ``last``, each ``growth`` times the one before (more than 1); raises ValueError above MOST_DAYS."""
    days, now = [], float(first)
    while now < last:
        days.append(int(now))
        if len(days) == MOST_DAYS:
            raise ValueError(f"expected at most {MOST_DAYS} days until {last}: a larger growth")
        now = max(now * growth, now + 1)
    return (*days, last)


def _part(budget: int, part: int, parts: int) -> int:
    return budget * (part + 1) // parts - budget * part // parts


def _figures(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split()))


# Messages an hour. The published list goes on to 484029 on day 30; a million a day is warm.
_SENDGRID: Final = _figures(
    "20 28 39 55 77 108 151 211 295 413 579 810 1000 1587 2222 3111 4356 6098 8583 11953 16734 23427 32798 45917"
)
_MAILTRAP: Final = _figures(
    "300 390 510 660 860 1100 1400 1900 2400 3200 4100 5400 7000 9100 11800 15400 20000 26000 33700 43900 57000"
)
#: What is shipped. Published for an address as a whole; here each provider has the budget by itself, since each judges by what it sees.
SHIPPED: Final[Mapping[str, Warmup]] = {
    schedule.name: schedule
    for schedule in (
        # sendgrid.com/docs/ui/sending-email/warming-up-an-ip-address: automated warm-up, an hour's limit on each day.
        Warmup("sendgrid", tuple(24 * hour for hour in _SENDGRID), hours=24),
        # help.mailtrap.io/article/98-ip-warmup: a day's limit, and a fifth of it as an hour's.
        Warmup("mailtrap", _MAILTRAP, hours=5),
        Warmup("geometric", geometric(100, 1.3, 100_000)),
    )
}
