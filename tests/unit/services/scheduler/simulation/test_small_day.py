"""A small day against the shipped models: what the large one (`make simulate`) shows in minutes, in a few seconds."""

from pathlib import Path

import pytest

from services.scheduler.simulation import plot, traffic
from services.scheduler.simulation.engine import Engine, Result
from services.scheduler.simulation.report import Report, Spent, report, sentences, tables, troubled
from shared.runtime.loading import load
from tests.unit.services.scheduler.simulation.days import CONFIGURATION

# Four equals send at once, three times what the sources may in that time; two destinations are of no use to anybody.
TRAFFIC = """
hours = 2
[[streams]]
name = "campaign"
tenants = ["a", "b", "c", "d"]
class = "bulk"
messages = 5_000
from = "5m"
until = "10m"
destinations = { gmail = 50, yahoo = 20, microsoft = 10, apple = 6, "plain.example" = 10, "grey.example" = 2, "dead.example" = 2 }
[[streams]]
name = "receipts"
tenants = ["a", "b", "c", "d"]
class = "transactional"
messages = 1_000
destinations = { gmail = 50, yahoo = 20, microsoft = 10, apple = 6, "plain.example" = 12, "dead.example" = 2 }
[models.gmail]
source_rate = "6000/h"
[models.yahoo]
source_rate = "3200/h"
[models."grey.example"]
like = "greylister"
[models."dead.example"]
like = "dead"
"""
# One tenant sends more than the provider takes of one domain; its neighbours on the same sources do not.
BUSY = """
hours = 2
[[streams]]
name = "busy"
tenants = ["a"]
class = "bulk"
messages = 900
until = "10m"
destinations = { gmail = 1 }
[[streams]]
name = "others"
tenants = ["b", "c"]
class = "bulk"
messages = 600
until = "1h"
destinations = { gmail = 1 }
[models.gmail]
domain_rate = "500/h"
unknown = 0
full = 0
"""


def day(folder: Path, seed: int = 1, text: str = TRAFFIC, **more: list[str]) -> Result:
    (folder / "postyard.toml").write_text(CONFIGURATION)
    (folder / "traffic.toml").write_text(text)
    settings = load(folder / "postyard.toml", {})
    return Engine(settings, traffic.load(folder / "traffic.toml", settings), seed, **more).run()  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Result:
    return day(tmp_path_factory.mktemp("day"))


@pytest.fixture(scope="module")
def found(result: Result) -> Report:
    return report(result, 1, Spent(1.0, 1.0))


def test_all_mail_is_accounted_for(result: Result, found: Report) -> None:
    assert found.messages == 6_000
    for line in found.lines:
        assert line.arrived == line.delivered + line.bounced + line.expired + line.waiting
        dead = line.provider == "mx.dead.example"
        assert (line.delivered > 0, line.waiting == 0) == ((False, False) if dead else (True, True))


def test_no_limit_of_the_configuration_is_passed_in_any_minute(result: Result) -> None:
    pairs = {key for key, _, _ in result.measures.begun}
    assert {"gmail", "yahoo"} <= pairs
    for receiver in result.receivers.values():
        assert receiver.told.limited == receiver.told.refused == 0
    # Two hours of a pair's rate, and not more.
    for (key, slot, _), count in result.measures.begun.items():
        rate = {"gmail": 95, "yahoo": 50}.get(key)
        assert rate is None or count <= 120 * rate, (key, slot)


def test_no_warning_is_passed_over(found: Report) -> None:
    assert found.violations == 0


def test_no_warm_up_budget_is_passed_and_the_new_source_is_used(found: Report) -> None:
    assert found.above_warmup == 0
    sent = {line.provider: line.sent for line in found.warmings if line.source == "new"}
    # A hundred a day, spread over twelve hours, of which this day has two.
    assert all(10 <= sum(sent[name]) <= 20 for name in ("gmail", "yahoo")), sent


def test_a_backlog_drains_within_a_tenth_of_the_best_possible(found: Report) -> None:
    ratios = {line.provider: backlog.ratio for line in found.lines for backlog in line.backlogs}
    assert {"gmail", "yahoo"} <= ratios.keys()
    assert all(ratio is not None and 0.99 <= ratio <= 1.1 for ratio in ratios.values()), ratios


def test_greylisting_costs_each_delivery_one_attempt(found: Report) -> None:
    """It is tried again from the source that the host knows by then: any other would be refused once more."""
    (grey,) = (line for line in found.lines if line.provider == "mx.grey.example")
    taken = grey.delivered + grey.bounced
    assert taken == grey.arrived >= 80
    # A full mailbox is tried again as well.
    assert 2 * taken <= grey.attempts <= 2.05 * taken + 2


def test_tenants_that_wait_for_the_same_get_the_same(found: Report) -> None:
    assert found.jain is not None
    assert found.jain >= 0.98


def test_it_is_known_when_mail_goes_that_waits_for_its_time_or_a_rate(found: Report) -> None:
    errors = {each.reason: each.median for each in found.forecasts if each.asked >= 20}
    assert errors["retry"] <= 0.2
    assert errors["rate"] <= 0.2


def test_what_does_not_answer_holds_up_nobody_else(result: Result, tmp_path: Path) -> None:
    assert troubled(result) == ["dead.example"]
    alone = day(tmp_path, without=["dead.example"])
    beside = report(result, 1, Spent(1.0, 1.0), alone)
    assert [line.provider for line in beside.lines if line.behind is None] == ["mx.dead.example"]
    # Of a few messages that are retried the jitter decides when.
    behind = {line.provider: line.behind or 0 for line in beside.lines if line.arrived >= 300}
    assert len(behind) == 5
    assert max(behind.values()) <= 0.05, behind


def test_a_domain_that_sends_too_much_is_stopped_alone(tmp_path: Path) -> None:
    result = day(tmp_path, text=BUSY)
    told, served = result.receivers["gmail"].told, result.measures.served["gmail"]
    assert told.warnings > 0
    assert told.violations == 0
    # The others' mail goes as if nothing were, and of the busy domain's what it is allowed before it is warned.
    soon = sum(age < 60 for age in served.ages)
    assert soon >= 600 + 450


def test_the_same_seed_gives_the_same_figures(tmp_path: Path, found: Report) -> None:
    assert report(day(tmp_path), 1, Spent(1.0, 1.0)).figures() == found.figures()


def test_the_report_and_the_picture_name_every_provider(result: Result, found: Report) -> None:
    drawn = plot.svg(plot.series(result), found.hours, "a <small> day")
    assert "a &lt;small&gt; day" in drawn
    for line in found.lines:
        assert drawn.count(f">{line.provider}</text>") == 1
    assert [table.row_count for table in tables(found)] == [len(found.lines)] * 2 + [
        len(found.warmings)
    ]
    assert any("violations after a warning: 0" in sentence for sentence in sentences(found))
