"""A quota that nobody tells is learnt by one warning of each source, and what is sent from then on is little less than all of it."""

from dataclasses import replace
from pathlib import Path

import pytest

from services.scheduler.simulation import traffic
from services.scheduler.simulation.engine import Engine
from services.scheduler.simulation.report import Line, Spent, report
from shared.runtime.loading import load

SOURCE = 'ip-{0} = {{ slot = {0}, kind = "bind", address = "192.0.2.{1}", ehlo = "m{0}.example.com", warmup = "none" }}'
CONFIGURATION = """
[kafka]
slots = {count}
[pools]
main.sources = {{ {weights} }}
[tenants]
a = {{ domains = ["a.example"], pools = {{ transactional = "main", bulk = "main" }} }}
b = {{ domains = ["b.example"], pools = {{ transactional = "main", bulk = "main" }} }}
[sources]
{sources}
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


#: One campaign, of more than the sources may send meanwhile.
CAMPAIGN = """
hours = 1
[[streams]]
name = "campaign"
tenants = ["a", "b"]
class = "bulk"
messages = {messages}
from = "1m"
until = "11m"
destinations = {{ {provider} = 1 }}
"""


def line(folder: Path, day_: str, provider: str, part: float, sources: int) -> Line:
    """Play a day of a pool of so many sources against a provider that takes ``part`` of what its model takes."""
    numbers = range(sources)
    (folder / "postyard.toml").write_text(
        CONFIGURATION.format(
            count=sources,
            weights=", ".join(f"ip-{number} = 1" for number in numbers),
            sources="\n".join(SOURCE.format(number, number + 1) for number in numbers),
        )
    )
    (folder / "traffic.toml").write_text(day_)
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
    day = TRAFFIC.format(provider=provider, messages=messages)
    found = line(tmp_path, day, provider, part, 2)
    assert (found.warnings, found.violations, found.waiting) == (2, 0, 0)
    ratios = [backlog.warned_ratio for backlog in found.backlogs]
    assert len(ratios) == 1
    assert all(ratio is not None and 1 <= ratio <= 1.15 for ratio in ratios), ratios


@pytest.mark.parametrize(
    ("provider", "messages", "part", "most"),
    # Who counts over a quarter of an hour takes at once what has room there; what goes evenly comes later, by up to as long.
    [("apple", 1_600, 0.06, 1.75), ("microsoft", 2_700, 0.08, 1.15)],
)
def test_two_warnings_are_enough_for_a_pool(
    tmp_path: Path, provider: str, messages: int, part: float, most: float
) -> None:
    day = CAMPAIGN.format(provider=provider, messages=messages)
    found = line(tmp_path, day, provider, part, 6)
    assert (found.warnings, found.violations, found.waiting) == (2, 0, 0)
    (backlog,) = found.backlogs
    assert backlog.warned_ratio is not None
    assert 1 <= backlog.warned_ratio <= most
