"""The live view: reads nothing but the services' own metrics, as a dashboard would."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from prometheus_client.parser import text_string_to_metric_families
from rich.table import Table

_OUT: Final = ("granted", "started")
_COUNTED: Final = ("delivered", "deferred", "bounced", "expired")


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
        return sum(
            sum(counts[kind] for kind in ("delivered", "bounced", "expired"))
            for counts in self.said.values()
        )

    def providers(self) -> list[str]:
        """List the providers, those of everybody else last."""
        names = set(self.waiting) | set(self.flying) | set(self.said)
        return sorted(names, key=lambda name: (name == "other", name))


def read(page: str) -> Picture:
    """Read the scheduler's /metrics page."""
    found = Picture()
    for name, labels, value in _samples(page):
        provider = labels.get("provider", "")
        if name == "postyard_deliveries":
            side = found.flying if labels["reason"] in _OUT else found.waiting
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


def table(now: Picture, before: Picture, seconds: float) -> Table:
    """Draw one row a provider; the rate is what was delivered since ``before``."""
    drawn = Table(title="Postyard", expand=False)
    for column in ("provider", "waiting", "in flight", *_COUNTED, "rate"):
        drawn.add_column(column, justify="left" if column == "provider" else "right")
    for provider in now.providers():
        said = now.said[provider]
        gained = said["delivered"] - before.said[provider]["delivered"]
        drawn.add_row(
            provider,
            str(now.waiting[provider]),
            str(now.flying[provider]),
            *(str(said[kind]) for kind in _COUNTED),
            f"{gained / seconds:.0f}/s" if seconds > 0 else "",
        )
    drawn.caption = f"{shares(now)}   {now.paused} pairs paused"
    return drawn


def shares(now: Picture) -> str:
    """Say each source's share of what was delivered."""
    total = sum(now.share.values()) or 1
    return "  ".join(
        f"{source} {100 * count // total} %" for source, count in sorted(now.share.items())
    )


def line(now: Picture) -> str:
    """Say the same in one line, for a log."""
    parts = []
    for provider in now.providers():
        said = now.said[provider]
        counts = " ".join(f"{kind} {said[kind]}" for kind in _COUNTED)
        parts.append(
            f"{provider}: waiting {now.waiting[provider]} in flight {now.flying[provider]} {counts}"
        )
    return " | ".join(parts) + f" | {shares(now)}"
