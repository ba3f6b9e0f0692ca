"""When mail goes is foretold within a fifth of the wait, whatever binds it: one small day for each constraint.

What is judged is the answer that an operator would have had at some moment against what came, every five minutes, in days in which one
thing keeps the mail. A host that is away is the exception that `Forecasts` names: what rests on a probe is judged where that was taken.
"""

from pathlib import Path

import pytest

from services.scheduler.simulation import traffic
from services.scheduler.simulation.engine import Engine
from services.scheduler.simulation.report import Forecast, Spent, report
from shared.runtime.loading import load

CONFIGURATION = """
[kafka]
slots = 4
[sources]
ip-1 = { slot = 0, kind = "bind", address = "192.0.2.1", ehlo = "m1.example.com", warmup = "none" }
ip-2 = { slot = 1, kind = "bind", address = "192.0.2.2", ehlo = "m2.example.com", warmup = "none" }
new = { slot = 3, kind = "bind", address = "192.0.2.4", ehlo = "m4.example.com", warmup = "geometric" }
[pools]
main.sources = { ip-1 = 1, ip-2 = 1 }
new.sources = { new = 1 }
[tenants]
a = { domains = ["a.example"], pools = { transactional = "main", bulk = "main" } }
b = { domains = ["b.example"], pools = { transactional = "main", bulk = "main" } }
n = { domains = ["n.example"], pools = { transactional = "new", bulk = "new" } }
[tenants.early]
domains = ["e.example"]
pools = { transactional = "main", bulk = "main" }
windows.bulk = { days = "mon-sun", hours = "01:00-05:00", zone = "UTC" }
"""
#: What binds -> (limits of the configuration, hours, who sends, how many, where to, more of the traffic file).
DAYS: dict[str, tuple[str, int, str, int, str, str]] = {
    "rate": ('[limits.gmail]\nrate = "15/min"', 1, '"a", "b"', 800, "gmail", ""),
    "byte_rate": ('[limits.gmail]\nbytes = "600KiB/min"', 1, '"a", "b"', 800, "gmail", ""),
    "total_rate": ('[limits.gmail]\ntotal_rate = "30/min"', 1, '"a", "b"', 800, "gmail", ""),
    "tenant_rate": (
        '[limits."gmail/tenant:a"]\ntotal_rate = "10/min"',
        1,
        '"a", "b"',
        700,
        "gmail",
        "",
    ),
    "domain_rate": (
        '[limits."gmail/domain:a.example"]\ntotal_rate = "10/min"',
        1,
        '"a", "b"',
        700,
        "gmail",
        "",
    ),
    "window": ("", 2, '"early"', 700, "gmail", ""),
    "credit": (
        '[limits.gmail]\nrate = "600/min"\nconnections = 1',
        1,
        '"a", "b"',
        700,
        "gmail",
        '[models.gmail]\nanswer = "4s"',
    ),
    # It says TSS04 once from each source: two hours.
    "suspended": ("", 8, '"a", "b"', 1200, "yahoo", '[models.yahoo]\nsource_rate = "400/h"'),
    "paused": (
        "",
        3,
        '"a", "b"',
        500,
        '"plain.example"',
        '[models."plain.example"]\ndown = [["1m", "2h"]]',
    ),
    # A hundred a day, then a hundred and thirty ...
    "warmup": ("", 72, '"n"', 300, "gmail", ""),
}


def foretold(
    folder: Path, limits: str, hours: int, tenants: str, messages: int, to: str, more: str
) -> dict[str, Forecast]:
    (folder / "postyard.toml").write_text(CONFIGURATION + limits)
    (folder / "traffic.toml").write_text(
        f"""
hours = {hours}
[[streams]]
name = "campaign"
tenants = [{tenants}]
class = "bulk"
messages = {messages}
from = "1m"
until = "5m"
destinations = {{ {to} = 1 }}
{more}
"""
    )
    settings = load(folder / "postyard.toml", {})
    result = Engine(settings, traffic.load(folder / "traffic.toml", settings), 1).run()
    return {each.reason: each for each in report(result, 1, Spent(1.0, 1.0)).forecasts}


@pytest.mark.parametrize("binds", DAYS)
def test_when_mail_goes_is_foretold_within_a_fifth_of_the_wait(tmp_path: Path, binds: str) -> None:
    found = foretold(tmp_path, *DAYS[binds])[binds]
    assert found.asked >= 20
    assert found.median <= 0.2
    # Nothing is left out but what a host that did not answer has made void.
    assert (found.unfounded > 0) == (binds == "paused")


@pytest.mark.parametrize("quota", ["30/min", "900/h"])
def test_when_mail_of_a_slowed_sending_domain_goes_is_foretold_within_a_fifth_of_the_wait(
    tmp_path: Path, quota: str
) -> None:
    more = f'[models.gmail]\ndomain_rate = "{quota}"'
    found = foretold(tmp_path, "", 4, '"a"', 2000, "gmail", more)
    # What rests on the end of a stop that proves too short is void.
    for reason in ("domain_rate", "suspended"):
        assert found[reason].asked >= 20
        assert found[reason].median <= 0.2
