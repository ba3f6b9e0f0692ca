"""A day as a picture: for each provider what was delivered each few minutes, and what waited. SVG, written by hand, no library.

Two lines in a panel share no scale: deliveries are the filled bars (most a minute at the left), what waits is the line (most at the right).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from xml.sax.saxutils import escape

from services.scheduler.simulation.engine import Result

_WIDTH: Final = 960
_PANEL: Final = 110
_LEFT: Final = 150
_RIGHT: Final = 90
_TOP: Final = 28
_STYLE: Final = (
    "text{font:12px sans-serif;fill:#222}.small{font-size:10px;fill:#666}"
    ".bar{fill:#7aa6d8}.line{fill:none;stroke:#c0392b;stroke-width:1.5}.axis{stroke:#ccc;stroke-width:1}"
)


@dataclass(frozen=True, slots=True)
class Series:
    """One provider: so many minutes a step, delivered a minute in each step, and waiting at its end."""

    name: str
    delivered: Sequence[float]
    waiting: Sequence[int]


def series(result: Result, steps: int = 288) -> list[Series]:
    """Gather the minutes into at most ``steps`` steps."""
    found = []
    for key, served in sorted(result.measures.served.items()):
        minutes = len(served.delivered)
        size = max(1, -(-minutes // steps))
        ends = range(size - 1, minutes, size)
        sums = [served.delivered[end] for end in ends]
        before = [0, *sums]
        rates = [(here - past) / size for here, past in zip(sums, before, strict=False)]
        found.append(Series(key, rates, [served.waiting[end] for end in ends]))
    return found


def svg(lines: Sequence[Series], hours: int, title: str) -> str:
    """Draw one panel under the other."""
    height = _TOP + len(lines) * _PANEL + 24
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" viewBox="0 0 {_WIDTH} {height}">',
        f"<style>{_STYLE}</style>",
        f'<rect width="{_WIDTH}" height="{height}" fill="#fff"/>',
        f'<text x="8" y="18">{escape(title)}</text>',
    ]
    for number, line in enumerate(lines):
        parts += _panel(line, _TOP + number * _PANEL)
    parts += _hours(hours, height)
    parts.append("</svg>")
    return "\n".join(parts) + "\n"


def _panel(line: Series, top: int) -> list[str]:
    bottom, tall, wide = top + _PANEL - 14, _PANEL - 26, _WIDTH - _LEFT - _RIGHT
    count = max(1, len(line.delivered))
    fastest = max(line.delivered, default=0.0) or 1.0
    most = max(line.waiting, default=0)
    step = wide / count
    bars = "".join(
        f"M{_LEFT + at * step:.1f} {bottom}v{-tall * rate / fastest:.1f}h{step:.2f}V{bottom}z"
        for at, rate in enumerate(line.delivered)
        if rate
    )
    points = " ".join(
        f"{_LEFT + (at + 1) * step:.1f},{bottom - tall * waiting / max(1, most):.1f}"
        for at, waiting in enumerate(line.waiting)
    )
    return [
        f'<text x="8" y="{top + 30}">{escape(line.name)}</text>',
        f'<text class="small" x="8" y="{top + 46}">{fastest:,.0f}/min at most</text>',
        f'<text class="small" x="8" y="{top + 60}">{most:,} waiting at most</text>',
        f'<path class="bar" d="{bars}"/>',
        f'<polyline class="line" points="{points}"/>',
        f'<line class="axis" x1="{_LEFT}" y1="{bottom}" x2="{_WIDTH - _RIGHT}" y2="{bottom}"/>',
    ]


def _hours(hours: int, height: int) -> list[str]:
    wide, every = _WIDTH - _LEFT - _RIGHT, max(1, hours // 12)
    return [
        f'<text class="small" x="{_LEFT + wide * hour / hours:.1f}" y="{height - 8}">{hour} h</text>'
        for hour in range(0, hours + 1, every)
    ]
