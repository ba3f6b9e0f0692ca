"""The live view: reads nothing but the services' own metrics, as a dashboard would. Pure."""

from collections import Counter, defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from prometheus_client.parser import text_string_to_metric_families
from rich.table import Table

_FLYING: Final = ("granted", "started")
_SHOWN: Final = ("delivered", "deferred", "bounced", "expired")
_ENDS: Final = ("delivered", "bounced", "expired", "rejected", "cancelled", "suppressed")
#: A rate is counted over so long.
_SPAN_NS: Final = 3_000_000_000


@dataclass(slots=True)
class Picture:
    """What the metrics say at one moment."""

    waiting: Counter[str] = field(default_factory=Counter)
    flying: Counter[str] = field(default_factory=Counter)
    #: provider -> event type -> count
    said: defaultdict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    #: source -> delivered
    share: Counter[str] = field(default_factory=Counter)
    paused: int = 0

    @property
    def ended(self) -> int:
        """Count the deliveries that ended."""
        return sum(counts[kind] for counts in self.said.values() for kind in _ENDS)

    def providers(self) -> list[str]:
        """List the providers, everybody else last."""
        names = set(self.waiting) | set(self.flying) | set(self.said)
        return sorted(names, key=lambda name: (name == "other", name))

    def shares(self) -> str:
        """Say each source's share of what was delivered."""
        total = sum(self.share.values()) or 1
        return "  ".join(
            f"{source} {100 * count / total:.0f} %" for source, count in sorted(self.share.items())
        )


def read(page: str) -> Picture:
    """Read the scheduler's /metrics page."""
    found = Picture()
    for name, labels, value in _samples(page):
        provider = labels.get("provider") or "other"
        if name == "postyard_deliveries":
            side = found.flying if labels["reason"] in _FLYING else found.waiting
            side[provider] += int(value)
        elif name == "postyard_events_total":
            found.said[provider][labels["type"]] += int(value)
            if labels["type"] == "delivered":
                found.share[labels["source"]] += int(value)
        elif name == "postyard_pair_paused_until_seconds":
            found.paused += 1
    return found


def _samples(page: str) -> Iterator[tuple[str, dict[str, str], float]]:
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            yield sample.name, sample.labels, sample.value


@dataclass(slots=True)
class View:
    """What was seen in the last seconds, and how it is shown."""

    _history: deque[tuple[int, Picture]] = field(default_factory=lambda: deque([(0, Picture())]))

    @property
    def now(self) -> Picture:
        """Give the latest picture."""
        return self._history[-1][1]

    def look(self, page: str, mono_ns: int) -> None:
        """Take a new picture; a page that is empty (nobody answered) leaves the last one."""
        if page:
            self._history.append((mono_ns, read(page)))
        while len(self._history) > 2 and self._history[1][0] <= mono_ns - _SPAN_NS:  # noqa: PLR2004 - two make a span
            self._history.popleft()

    def rate(self, provider: str) -> float:
        """Give deliveries a second over the last seconds."""
        (begun, before), (ended, now) = self._history[0], self._history[-1]
        gained = now.said[provider]["delivered"] - before.said[provider]["delivered"]
        return gained * 1e9 / (ended - begun) if begun and ended > begun else 0.0

    def table(self) -> Table:
        """Draw one row a provider."""
        now = self.now
        drawn = Table(title="Postyard", expand=False)
        for column in ("provider", "waiting", "in flight", *_SHOWN, "rate"):
            drawn.add_column(column, justify="left" if column == "provider" else "right")
        for provider in now.providers():
            drawn.add_row(
                provider,
                str(now.waiting[provider]),
                str(now.flying[provider]),
                *(str(now.said[provider][kind]) for kind in _SHOWN),
                f"{self.rate(provider):.0f}/s",
            )
        drawn.caption = f"sources: {now.shares() or 'none yet'}   pairs paused: {now.paused}"
        return drawn

    def line(self) -> str:
        """Say the same in one line, for a log."""
        now, parts = self.now, []
        for provider in now.providers():
            counts = ", ".join(f"{now.said[provider][kind]} {kind}" for kind in _SHOWN)
            parts.append(
                f"{provider}: {now.waiting[provider]} waiting, {now.flying[provider]} in flight, "
                f"{counts}, {self.rate(provider):.0f}/s"
            )
        return " | ".join([*parts, f"sources: {now.shares() or 'none yet'}"])
