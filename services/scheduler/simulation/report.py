"""What a simulation has shown: figures that a machine reads, and tables for people. Pure."""

import statistics
from dataclasses import asdict, dataclass
from typing import Any, Final

from rich import box
from rich.table import Table

from services.scheduler.simulation import lessons
from services.scheduler.simulation.bounds import drain, shared, tap
from services.scheduler.simulation.engine import Result
from services.scheduler.simulation.measures import Served
from services.scheduler.simulation.warming import Warming, warmings

_S: Final = 1_000_000_000
#: Of the longest one: messages, the time that it took, at best and how much more it was, and so for one who must be warned first.
_BACKLOG: Final = ("backlog", "took", "at best", "ratio", "if warned", "ratio")


@dataclass(frozen=True, slots=True)
class Backlog:
    """A drain in seconds."""

    pool: str
    messages: int
    best_s: float
    took_s: float | None
    ratio: float | None
    #: At best for one whom the provider must warn before he knows its quotas, and how much longer it took than that; 0: nobody was warned.
    warned_s: float
    warned_ratio: float | None


@dataclass(frozen=True, slots=True)
class Line:
    """One provider."""

    provider: str
    arrived: int
    delivered: int
    bounced: int
    expired: int
    waiting: int
    deferrals: int
    #: Ages of what was delivered, seconds.
    p50_s: float
    p99_s: float
    attempts: int
    limited: int
    warnings: int
    under_way: int
    violations: int
    refused_connections: int
    unanswered: int
    backlogs: tuple[Backlog, ...]
    #: How far delivery was behind the same day without those in trouble at the worst minute, as a part of all; None: not compared.
    behind: float | None


@dataclass(frozen=True, slots=True)
class Forecast:
    """How well it was said when deliveries go that waited for ``reason``: the error as a part of the wait."""

    reason: str
    asked: int
    median: float
    p90: float
    #: Not judged, because they rested on a probe that was not taken.
    unfounded: int = 0


@dataclass(frozen=True, slots=True)
class Spent:
    """What a simulation took, seconds."""

    wall_s: float
    cpu_s: float


@dataclass(frozen=True, slots=True)
class Report:
    """Everything."""

    seed: int
    messages: int
    hours: int
    #: What it took: of the machine's time, and of one processor's.
    wall_s: float
    cpu_s: float
    lines: tuple[Line, ...]
    #: Jain's index between tenants that waited for the same: weighted mean and worst minute; None: none did.
    jain: float | None
    jain_worst: float | None
    warmings: tuple[Warming, ...] = ()
    forecasts: tuple[Forecast, ...] = ()

    @property
    def violations(self) -> int:
        """Count them over all providers."""
        return sum(line.violations for line in self.lines)

    @property
    def above_warmup(self) -> int:
        """Count what was sent above a day's warm-up budget."""
        return sum(each.passed for each in self.warmings)

    @property
    def messages_per_s(self) -> float:
        """Say how many the simulation did in a second of the processor."""
        return self.messages / self.cpu_s

    def figures(self) -> dict[str, Any]:
        """Give what ``--json`` prints."""
        return asdict(self) | {
            "violations": self.violations,
            "above_warmup": self.above_warmup,
            "messages_per_s": round(self.messages_per_s),
        }


def report(result: Result, seed: int, spent: Spent, compared: Result | None = None) -> Report:
    """Make the figures; ``compared`` is the same day without what was in trouble."""
    measures = result.measures
    jain, worst = None, None
    if measures.jain:
        weight = sum(grants for _, grants in measures.jain)
        jain = sum(index * grants for index, grants in measures.jain) / weight
        worst = min(index for index, _ in measures.jain)
    lines = tuple(
        _line(result, key, measures.served[key], compared) for key in sorted(measures.served)
    )
    return Report(
        seed=seed,
        messages=sum(line.arrived for line in lines),
        hours=result.traffic.hours,
        wall_s=spent.wall_s,
        cpu_s=spent.cpu_s,
        lines=lines,
        jain=jain,
        jain_worst=worst,
        warmings=tuple(warmings(measures.begun, result.settings)),
        forecasts=tuple(_forecasts(result)),
    )


def _forecasts(result: Result) -> list[Forecast]:
    found = []
    for reason, errors in sorted(result.forecasts.errors.items()):
        errors.sort()
        middle, most = errors[len(errors) // 2], errors[len(errors) * 9 // 10]
        unfounded = result.forecasts.unfounded[reason]
        found.append(Forecast(reason, len(errors), round(middle, 3), round(most, 3), unfounded))
    return found


def troubled(result: Result) -> list[str]:
    """Name the destinations that warned, refused or did not answer."""
    keys = {
        key
        for key, receiver in result.receivers.items()
        if receiver.told.limited or receiver.told.refused or receiver.told.unanswered
    }
    return [name for name, key in result.keys.items() if key in keys]


def _line(result: Result, key: str, served: Served, compared: Result | None) -> Line:
    told = result.receivers[key].told
    ages = sorted(served.ages)
    behind = None
    if compared is not None and key in compared.measures.served:
        behind = _behind(served, compared.measures.served[key])
    return Line(
        provider=key,
        arrived=served.arrived,
        delivered=served.ended["delivered"],
        bounced=served.ended["bounced"],
        expired=served.ended["expired"],
        waiting=served.open,
        deferrals=served.deferred,
        p50_s=round(statistics.median(ages), 1) if ages else 0.0,
        p99_s=round(ages[len(ages) * 99 // 100], 1) if ages else 0.0,
        attempts=told.attempts,
        limited=told.limited,
        warnings=told.warnings,
        under_way=told.under_way,
        violations=told.violations,
        refused_connections=told.refused,
        unanswered=told.unanswered,
        backlogs=tuple(_backlogs(result, key, served)),
        behind=behind,
    )


def _backlogs(result: Result, key: str, served: Served) -> list[Backlog]:
    model, found = result.receivers[key].model, []
    if model.down:
        return []  # The best possible is not known here.
    for name, flow in served.by_pool.items():
        pool = result.settings.pools[name]
        tap_ = tap(result.settings, key, pool, model, len(result.settings.tenants))
        taps = lessons.sources(result.settings, key, pool, model, result.receivers[key])
        windows = shared(result.settings, key, pool, model, len(result.settings.tenants))
        warned = lessons.best(flow.arrivals, taps, windows, model.greylist_ns) if taps else None
        each = drain(flow, tap_, model.greylist_ns, warned)
        if each is not None:
            found.append(
                Backlog(
                    pool=name,
                    messages=each.messages,
                    best_s=each.best_ns / _S,
                    took_s=None if each.took_ns is None else each.took_ns / _S,
                    ratio=each.ratio,
                    warned_s=each.warned_ns / _S,
                    warned_ratio=each.warned_ratio,
                )
            )
    return found


def _behind(served: Served, alone: Served) -> float:
    both = zip(served.delivered, alone.delivered, strict=False)
    most = max((without - here for here, without in both), default=0)
    return max(0, most) / max(1, alone.arrived)


# -- for people


def tables(report_: Report) -> list[Table]:
    """Lay the figures out."""
    return [_ended(report_), _warned(report_), *([_warming(report_)] if report_.warmings else [])]


def _table(title: str, *names: str) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("provider", no_wrap=True)
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _ended(report_: Report) -> Table:
    names = "arrived", "delivered", "bounced", "expired", "waiting", "p50", "p99"
    table = _table("What became of the mail", *names, *_BACKLOG)
    for line in report_.lines:
        said = line.arrived, line.delivered, line.bounced, line.expired, line.waiting
        worst = max(line.backlogs, key=lambda each: each.messages, default=None)
        table.add_row(
            line.provider,
            *(f"{each:,}" for each in said),
            _time(line.p50_s),
            _time(line.p99_s),
            *(_drained(worst) if worst else ("",) * len(_BACKLOG)),
        )
    return table


def _drained(backlog: Backlog) -> tuple[str, ...]:
    took = "not yet" if backlog.took_s is None else _time(backlog.took_s)
    best = f"{backlog.messages:,}", took, _time(backlog.best_s), _ratio(backlog.ratio)
    warned = _time(backlog.warned_s) if backlog.warned_s else ""
    return *best, warned, _ratio(backlog.warned_ratio)


def _ratio(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.2f}"


def _warned(report_: Report) -> Table:
    names = "attempts", "warnings", "limited", "under way", "violations", "refused", "unanswered"
    table = _table("What the providers said", *names, "behind")
    for line in report_.lines:
        said = (
            line.attempts,
            line.warnings,
            line.limited,
            line.under_way,
            line.violations,
            line.refused_connections,
            line.unanswered,
        )
        behind = "" if line.behind is None else f"{line.behind:.1%}"
        table.add_row(line.provider, *(f"{each:,}" for each in said), behind)
    return table


def _warming(report_: Report) -> Table:
    table = _table("Warming up: sent, of the most", "source", "schedule", "days")
    for line in report_.warmings:
        days = (f"{sent:,}/{most:,}" for sent, most in zip(line.sent, line.budgets, strict=True))
        table.add_row(line.provider, line.source, line.schedule, "  ".join(days))
    return table


def sentences(report_: Report) -> list[str]:
    """Say the rest."""
    said = [
        (
            f"{report_.messages:,} messages of {report_.hours} h in {report_.wall_s:.0f} s ({report_.cpu_s:.0f} s of one processor: "
            f"{report_.messages_per_s:,.0f} messages a second)"
        ),
        f"violations after a warning: {report_.violations}",
    ]
    if report_.warmings:
        said.append(f"sent above a warm-up budget: {report_.above_warmup}")
    said += [
        f"when mail goes that waits for {each.reason}: wrong by {each.median:.0%} of the wait, one in ten by {each.p90:.0%} ({each.asked})"
        + (
            f"; {each.unfounded} more rested on a probe that was not taken"
            if each.unfounded
            else ""
        )
        for each in report_.forecasts
    ]
    if report_.jain is not None and report_.jain_worst is not None:
        said.append(
            f"Jain's index between tenants: {report_.jain:.3f}, worst minute {report_.jain_worst:.3f}"
        )
    return said


def _time(seconds: float) -> str:
    if seconds < 90:  # noqa: PLR2004 - in seconds what is soon over
        return f"{seconds:.1f}s"
    minutes = round(seconds / 60)
    return f"{minutes}m" if minutes < 120 else f"{minutes // 60}h{minutes % 60:02}m"  # noqa: PLR2004
