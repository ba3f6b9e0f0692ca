"""Send windows: on which days and hours mail may go, by the clock of a place. Pure.

Times are those of the wall clock there, so a window follows summer time. A time that the clock skips counts as so much later; of one that
comes twice the first counts. Hours whose end is not after their beginning end on the next day.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

_S: Final = 1_000_000_000
_DAY_MIN: Final = 24 * 60
_DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_HOURS: Final = re.compile(
    r"([01]?[0-9]|2[0-3]):([0-5][0-9])-(?:([01]?[0-9]|2[0-3]):([0-5][0-9])|24:00)"
)
#: Days that are looked at from yesterday on: each weekday comes, and one more for those that touch.
_LOOK: Final = 9


@dataclass(frozen=True, slots=True)
class Standing:
    """Whether a window is open, and until when that is so."""

    open: bool
    until_ns: int


@dataclass(frozen=True, slots=True)
class Window:
    """Days (Monday first) on which it opens, and from which to which minute of the day, by the clock of ``zone``."""

    days: tuple[bool, ...]
    from_min: int
    until_min: int
    zone: tzinfo

    def at(self, now_ns: int) -> Standing:
        """Say how it stands at ``now_ns``; windows that touch are one."""
        today = (_EPOCH + timedelta(seconds=now_ns // _S)).astimezone(self.zone).date()
        closes: int | None = None
        for ahead in range(-1, _LOOK):
            day = today + timedelta(days=ahead)
            if not self.days[day.weekday()]:
                continue
            start, end = self._span(day)
            if end <= max(now_ns, start):
                continue
            if closes is None and now_ns < start:
                return Standing(open=False, until_ns=start)
            if closes is not None and closes < start:
                break
            closes = end
        if closes is None:
            return Standing(open=False, until_ns=now_ns + _DAY_MIN * 60 * _S)
        return Standing(open=True, until_ns=closes)

    def _span(self, day: date) -> tuple[int, int]:
        until = self.until_min + (0 if self.until_min > self.from_min else _DAY_MIN)
        return self._ns(day, self.from_min), self._ns(day, until)

    def _ns(self, day: date, minute: int) -> int:
        days, rest = divmod(minute, _DAY_MIN)
        local = datetime.combine(day + timedelta(days=days), time(*divmod(rest, 60)), self.zone)
        return (local - _EPOCH) // timedelta(seconds=1) * _S


ALWAYS: Final = Window((True,) * 7, 0, _DAY_MIN, UTC)


def window(value: Any) -> Window:
    """Read ``"always"`` or ``{ days = "mon-fri", hours = "9:00-17:30", zone = "Europe/Berlin" }``."""
    if value == "always":
        return ALWAYS
    if not isinstance(value, Mapping) or not value.keys() <= {"days", "hours", "zone"}:
        raise ValueError(
            'expected "always" or { days = "mon-fri", hours = "09:00-17:30", zone = "Europe/Berlin" }'
        )
    first, last = _hours(value.get("hours", "00:00-24:00"))
    return Window(_days(value.get("days", "mon-sun")), first, last, _zone(value.get("zone", "UTC")))


def _days(value: object) -> tuple[bool, ...]:
    found: set[int] = set()
    for part in str(value).split(","):
        first, _, last = part.strip().partition("-")
        if first not in _DAYS or (last or first) not in _DAYS:
            raise ValueError(f'days: expected such as "mon-fri" or "mon,wed,sat", got "{value}"')
        start, length = _DAYS.index(first), (_DAYS.index(last or first) - _DAYS.index(first)) % 7
        found |= {(start + step) % 7 for step in range(length + 1)}
    return tuple(day in found for day in range(7))


def _hours(value: object) -> tuple[int, int]:
    match = _HOURS.fullmatch(str(value))
    if match is None:
        raise ValueError(f'hours: expected such as "09:00-17:30" or "22:00-6:00", got "{value}"')
    hour, minute, to_hour, to_minute = match.groups()
    until = _DAY_MIN if to_hour is None else 60 * int(to_hour) + int(to_minute)
    return 60 * int(hour) + int(minute), until


def _zone(value: object) -> ZoneInfo:
    try:
        return ZoneInfo(str(value))
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(
            f'zone: expected such as "Europe/Berlin" or "UTC", got "{value}"'
        ) from None
