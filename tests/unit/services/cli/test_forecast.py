"""Claims of the forecast: it is what the warm-up itself would do on good days."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.cli.config import summary
from services.cli.forecast import Forecast, budgets, cold, forecast, warmup_lines
from shared.runtime.loading import load
from shared.runtime.settings import Settings
from shared.runtime.warmups import SHIPPED, Warmup
from tests.unit.shared.runtime.test_loading import GOOD

DAY = 86_400 * 1_000_000_000
FLAT = Warmup("flat", (100,) * 10)


def settings_of(folder: Path, warmup: str, more: str = "") -> Settings:
    file = folder / "postyard.toml"
    text = GOOD.replace(
        'ehlo = "m1.example.com"\nwarmup = "none"', f'ehlo = "m1.example.com"\nwarmup = "{warmup}"'
    )
    file.write_text(
        text.replace(
            'ehlo = "m2.example.com"\nwarmup = "none"',
            f'ehlo = "m2.example.com"\nwarmup = "{warmup}"',
        )
        + more
    )
    return load(file, {})


def test_what_fits_does_not_expire() -> None:
    assert forecast([FLAT], 100, DAY) == Forecast(0, 0, ever=False)


def test_what_does_not_fit_expires_until_the_source_is_warm() -> None:
    # 2,000 come in ten days and 1,000 go; what came on the last of them is sent when the source is warm.
    assert forecast([FLAT], 200, DAY) == Forecast(800, 10, ever=False)


def test_mail_that_may_wait_longer_expires_less() -> None:
    short, long = forecast([FLAT], 200, DAY), forecast([FLAT], 200, 3 * DAY)
    assert long.expired < short.expired
    assert forecast([FLAT], 200, 20 * DAY).expired == 0


def test_two_sources_send_twice_as_much() -> None:
    assert forecast([FLAT, FLAT], 200, DAY).expired == 0


def test_a_source_that_is_hardly_used_does_not_get_on() -> None:
    assert budgets([Warmup("x", (100, 140, 190))], 40)[:5] == [100] * 5


@given(st.sampled_from(list(SHIPPED.values())), st.integers(1_000, 10_000_000))
def test_a_day_has_no_more_than_the_schedule_and_1_4_times_the_best_before(
    schedule: Warmup, daily: int
) -> None:
    best = 0
    for day, budget in enumerate(budgets([schedule], daily)):
        assert budget <= schedule.days[min(day, len(schedule.days) - 1)]
        assert budget <= max(schedule.days[0], best * 7 // 5)
        best = max(best, min(budget, daily))


@given(st.integers(1, 100_000), st.integers(1, 5))
def test_no_more_expire_than_came(daily: int, days: int) -> None:
    schedule = SHIPPED["mailtrap"]
    found = forecast([schedule], daily, days * DAY)
    assert 0 <= found.expired <= daily * max(1, found.until_day)


def test_a_pool_with_a_warm_source_needs_no_forecast(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, "mailtrap")
    assert len(cold(settings, settings.pools["bulk"])) == 2
    assert cold(settings, settings.pools["tx"]) == []
    sources = {**settings.sources, "ip-1": replace(settings.sources["ip-1"], warmup="none")}
    assert warmup_lines(replace(settings, sources=sources), 1_000) == []


@pytest.mark.parametrize(
    ("daily", "said"),
    [
        (None, "--daily NUMBER says what would expire"),
        (600, "of 600 bulk messages a day none would expire"),
        (20_000, "bulk messages a day 1"),
    ],
)
def test_it_says_what_would_expire(tmp_path: Path, daily: int | None, said: str) -> None:
    (line,) = warmup_lines(settings_of(tmp_path, "mailtrap"), daily)
    assert line.startswith("warm-up    bulk has no warm source: 600 messages to a provider on the")
    assert said in line
    assert "transactional" not in line


def test_the_summary_names_what_is_warmed_up(tmp_path: Path) -> None:
    assert "192.0.2.10, warmed up as mailtrap" in summary(settings_of(tmp_path, "mailtrap"))
