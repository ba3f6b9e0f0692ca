"""A quota that nobody tells is learnt by one warning of each source, and what is sent from then on is little less than all of it."""

from dataclasses import replace
from pathlib import Path

import pytest

from services.scheduler.simulation import traffic
from services.scheduler.simulation.engine import Engine
from services.scheduler.simulation.report import Line, Spent, report
from shared.runtime.loading import load

CONFIGURATION = """
[kafka]
slots = 2
[sources]
ip-1 = { slot = 0, kind = "bind", address = "192.0.2.1", ehlo = "m1.example.com", warmup = "none" }
ip-2 = { slot = 1, kind = "bind", address = "192.0.2.2", ehlo = "m2.example.com", warmup = "none" }
[pools]
main.sources = { ip-1 = 1, ip-2 = 1 }
[tenants]
a = { domains = ["a.example"], pools = { transactional = "main", bulk = "main" } }
b = { domains = ["b.example"], pools = { transactional = "main", bulk = "main" } }
"""
#: The morning's campaign is more than the sources may send meanwhile; the afternoon's comes slowly enough for all of it.
TRAFFIC = """
hours = 8
[[streams]]
name = "morning"
tenants = ["a", "b"]
class = "bulk"
messages = {messages}
from = "10m"
until = "40m"
destinations = {{ {provider} = 1 }}
[[streams]]
name = "afternoon"
tenants = ["a", "b"]
class = "bulk"
messages = {messages}
from = "4h"
until = "7h"
destinations = {{ {provider} = 1 }}
"""


def line(folder: Path, provider: str, messages: int, part: float) -> Line:
    """Play a day against a provider that takes ``part`` of what its model takes."""
    (folder / "postyard.toml").write_text(CONFIGURATION)
    (folder / "traffic.toml").write_text(TRAFFIC.format(provider=provider, messages=messages))
    settings = load(folder / "postyard.toml", {})
    day = traffic.load(folder / "traffic.toml", settings)
    model = day.models[provider]
    quotas = tuple(replace(quota, count=int(quota.count * part)) for quota in model.quotas)
    day = replace(day, models={provider: replace(model, quotas=quotas)})
    (found,) = report(Engine(settings, day, 1).run(), 1, Spent(1.0, 1.0)).lines
    return found


@pytest.mark.parametrize(
    ("provider", "messages", "part"),
    # Who passes the one's quota must stop for as long as it counts over; who passes the other's has less of it for a day.
    [("apple", 800, 0.05), ("microsoft", 1_400, 0.067)],
)
def test_one_warning_of_each_source_is_enough(
    tmp_path: Path, provider: str, messages: int, part: float
) -> None:
    found = line(tmp_path, provider, messages, part)
    assert (found.warnings, found.violations, found.waiting) == (2, 0, 0)
    ratios = [backlog.warned_ratio for backlog in found.backlogs]
    assert len(ratios) == 1
    assert all(ratio is not None and 1 <= ratio <= 1.15 for ratio in ratios), ratios
