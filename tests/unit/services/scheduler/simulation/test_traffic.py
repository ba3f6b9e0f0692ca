from collections import Counter
from pathlib import Path

import pytest

from services.scheduler.simulation import traffic
from services.scheduler.simulation.models import MODELS
from shared.runtime.loading import SettingsError, load
from shared.runtime.settings import Settings

EXAMPLE = Path(__file__).parents[5] / "docs" / "examples" / "simulation"
H = 3600 * 1_000_000_000
STREAM = """
[[streams]]
tenants = ["acme", "globex"]
class = "bulk"
messages = 1000
from = "1h"
until = "3h"
destinations = { gmail = 3, "corp.example" = 1 }
"""


@pytest.fixture(scope="module")
def settings() -> Settings:
    return load(EXAMPLE / "postyard.toml", {})


def read(folder: Path, settings: Settings, text: str) -> traffic.Traffic:
    (folder / "traffic.toml").write_text(text)
    return traffic.load(folder / "traffic.toml", settings)


def test_the_same_seed_gives_the_same_mail_in_order(tmp_path: Path, settings: Settings) -> None:
    day = read(tmp_path, settings, STREAM)
    one = list(traffic.arrivals(day, settings, 7))
    assert one == list(traffic.arrivals(day, settings, 7))
    assert one != list(traffic.arrivals(day, settings, 8))
    times = [at for at, _ in one]
    assert times == sorted(times)
    assert day.start_ns + H <= times[0]
    assert times[-1] < day.start_ns + 3 * H
    assert Counter(each.tenant for _, each in one) == {"acme": 500, "globex": 500}
    places = Counter(each.provider or each.site for _, each in one)
    assert places.keys() == {"gmail", "mx.corp.example"}
    assert 700 < places["gmail"] < 800


def test_hours_without_weight_have_no_mail(tmp_path: Path, settings: Settings) -> None:
    hours = [0] * 24
    hours[2], hours[5] = 1, 3
    text = STREAM.replace('from = "1h"\nuntil = "3h"', f"hours = {hours}")
    day = read(tmp_path, settings, text)
    found = Counter((at - day.start_ns) // H for at, _ in traffic.arrivals(day, settings, 1))
    assert found == {2: 250, 5: 750}


def test_what_is_left_out_changes_nothing_of_the_rest(tmp_path: Path, settings: Settings) -> None:
    day = read(tmp_path, settings, STREAM)
    rest = [each for each in traffic.arrivals(day, settings, 7) if each[1].provider is None]
    assert list(traffic.arrivals(day, settings, 7, without=["gmail"])) == rest


def test_a_model_is_the_shipped_one_with_what_the_file_changes(
    tmp_path: Path, settings: Settings
) -> None:
    text = STREAM + '[models.gmail]\nsource_rate = "10/min"\nconnections = 3\nstop = "1h"\n'
    day = read(tmp_path, settings, text)
    gmail = day.models["gmail"]
    assert (gmail.connections, gmail.answer_ns) == (3, MODELS["gmail"].answer_ns)
    assert (gmail.quotas[0].count, gmail.quotas[0].period_ns) == (10, H // 60)
    assert {quota.stop_ns for quota in gmail.quotas} == {H}
    assert day.models["corp.example"] == MODELS["plain"]


def test_everything_that_is_wrong_is_said_at_once_with_its_path(
    tmp_path: Path, settings: Settings
) -> None:
    text = """
hours = 0
[[streams]]
tenants = ["acne"]
class = "bulk"
messages = -1
destinations = { gmial = 1 }
untill = "1h"
[models.gmail]
like = "gmx"
down = [["2h", "1h"]]
"""
    with pytest.raises(SettingsError) as caught:
        read(tmp_path, settings, text)
    said = "\n".join(caught.value.problems)
    for path in (
        "hours:",
        "streams[0].tenants:",
        "streams[0].messages:",
        "untill",
        "gmial",
        "models.gmail.like:",
        "models.gmail.down:",
    ):
        assert path in said
    assert "did you mean acme?" in said


def test_the_example_is_a_day_of_two_million(settings: Settings) -> None:
    day = traffic.load(EXAMPLE / "traffic.toml", settings)
    assert (day.messages, day.hours) == (2_000_000, 24)
