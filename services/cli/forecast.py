"""What a pool whose sources are all being warmed up gets away, and what expires: a forecast of its days. Pure.

It assumes that nothing goes wrong: all is answered, no day is held, and the mail of a day comes evenly over it. So it is the least that
expires. Mail is sent in the order in which it came; what is not sent within its class's time is counted on the day on which that is over.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from shared.runtime.settings import Pool, Settings
from shared.runtime.warmups import Warmup

_DAY_NS = 86_400 * 1_000_000_000
#: No schedule is as long, and what has not ended by then does not.
_MOST_DAYS = 400


@dataclass(frozen=True, slots=True)
class Forecast:
    """Of so many messages a day to one provider."""

    #: So many are not sent in time, until the pool gets all away; on the last of these days, 1 is the first. 0 and 0: none.
    expired: int
    until_day: int
    #: Whether more expire after that, day after day.
    ever: bool


def cold(settings: Settings, pool: Pool) -> list[Warmup]:
    """Give the schedules of a pool that has no warm source to overflow to; empty where it has one."""
    sources = [settings.sources[name] for name in pool.sources if name in settings.sources]
    found = [settings.warmups.get(source.warmup) for source in sources]
    schedules = [schedule for schedule in found if schedule is not None]
    return schedules if len(schedules) == len(pool.sources) else []


def budgets(schedules: Sequence[Warmup], daily: int) -> list[int]:
    """Give what they may send to one provider on each day, until one is warm; each day's ``daily`` messages are shared out among them."""
    steps, bests = [0] * len(schedules), [0] * len(schedules)
    found: list[int] = []
    while len(found) < _MOST_DAYS:
        of = [
            None if step >= len(each.days) else each.budget(step, best)
            for each, step, best in zip(schedules, steps, bests, strict=True)
        ]
        if any(budget is None for budget in of):
            break
        total = sum(budget or 0 for budget in of)
        found.append(total)
        for at, budget in enumerate(of):
            used = min(budget or 0, daily * (budget or 0) // total)
            steps[at] += 2 * used > (budget or 0)
            bests[at] = max(bests[at], used)
    return found


def forecast(schedules: Sequence[Warmup], daily: int, expires_ns: int) -> Forecast:
    """Say how many of ``daily`` messages a day to one provider expire."""
    waiting: deque[tuple[int, int]] = deque()
    expired = until = late = 0
    days = budgets(schedules, daily)
    for day, budget in enumerate(days):
        waiting.append((day, daily))
        left = budget
        while waiting and left:
            came, count = waiting.popleft()
            left, rest = left - min(left, count), max(0, count - left)
            if rest:
                waiting.appendleft((came, rest))
        late = 0
        while waiting and (day - waiting[0][0]) * _DAY_NS + _DAY_NS > expires_ns:
            late += waiting.popleft()[1]
        if late:
            expired, until = expired + late, day + 1
    return Forecast(expired, until, ever=len(days) == _MOST_DAYS and late > 0)


def warmup_lines(settings: Settings, daily: int | None) -> list[str]:
    """Say of each pool without a warm source what it may send, and what of ``daily`` messages a day to one provider would expire."""
    lines = []
    for pool in settings.pools.values():
        schedules = cold(settings, pool)
        if not schedules:
            continue
        first = sum(schedule.budget(0, 0) for schedule in schedules)
        said = f"{pool.name} has no warm source: {first} messages to a provider on the first day"
        if daily is None:
            said += "; --daily NUMBER says what would expire"
        else:
            used = {
                class_
                for tenant in settings.tenants.values()
                for class_, chosen in tenant.pools.items()
                if chosen == pool.name
            }
            for name in sorted(used):
                found = forecast(schedules, daily, settings.classes[name].expires_ns)
                said += f"; {_said(found, daily, name)}"
        lines.append(f"warm-up    {said}")
    return lines


def _said(found: Forecast, daily: int, class_: str) -> str:
    if not found.expired:
        return f"of {daily} {class_} messages a day none would expire"
    end = "and that would go on" if found.ever else f"the last on day {found.until_day}"
    return f"of {daily} {class_} messages a day {found.expired} would expire, {end}"
