"""A figure: one line of bench.jsonl, and one line on the terminal.

The keys are the same in every benchmark of the project, so that figures of different days can be laid side by side. ``ratio`` is
value / reference, whatever is better: more messages per second is good, more CPU per message is not.
"""

import datetime as dt
from pathlib import Path
from typing import Final

import msgspec

OUTPUT: Final = Path("bench.jsonl")


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One measured value."""

    bench: str
    metric: str
    value: float
    unit: str
    reference: float | None = None
    ratio: float | None = None
    #: When it was measured.
    at: str = ""


class Figures:
    """Print each figure and append it to a file."""

    def __init__(self, path: Path = OUTPUT) -> None:
        self._path = path

    def add(
        self, bench: str, metric: str, value: float, unit: str, reference: float | None = None
    ) -> None:
        figure = Figure(
            bench=bench,
            metric=metric,
            value=rounded(value),
            unit=unit,
            reference=None if reference is None else rounded(reference),
            ratio=rounded(value / reference) if reference else None,
            at=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        )
        with self._path.open("ab") as out:
            out.write(msgspec.json.encode(figure) + b"\n")
        beside = "" if figure.reference is None else f"   reference {figure.reference:g}"
        ratio = "" if figure.ratio is None else f"   ratio {figure.ratio:g}"
        print(f"{bench:14} {metric:28} {figure.value:>10g} {unit:5}{beside}{ratio}", flush=True)


def rounded(value: float) -> float:
    """Keep four digits: the fifth is noise."""
    return float(f"{value:.4g}")
