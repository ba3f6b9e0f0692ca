import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from services.cli.simulate import simulate as handing_over
from services.scheduler.simulation.__main__ import simulate
from shared.runtime.lifecycle import CONFIG
from tests.unit.services.scheduler.simulation.days import CONFIGURATION

TRAFFIC = """
hours = 1
[[streams]]
tenants = ["a"]
class = "bulk"
messages = 200
until = "10m"
destinations = { gmail = 1 }
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "postyard.toml").write_text(CONFIGURATION)
    (tmp_path / "traffic.toml").write_text(TRAFFIC)
    return tmp_path


def run(folder: Path, *more: str) -> Result:
    files = ["--config", str(folder / "postyard.toml"), "--traffic", str(folder / "traffic.toml")]
    return CliRunner().invoke(simulate, [*files, *more])


def test_prints_figures_and_draws_the_day(folder: Path) -> None:
    result = run(folder, "--json", "--plot", str(folder / "day.svg"))
    assert result.exit_code == 0
    figures = json.loads(result.stdout)
    assert (figures["messages"], figures["violations"]) == (200, 0)
    assert [line["provider"] for line in figures["lines"]] == ["gmail"]
    assert (folder / "day.svg").read_text().startswith("<svg")


def test_prints_tables_for_people(folder: Path) -> None:
    result = run(folder, "--compare")
    assert result.exit_code == 0
    assert "violations after a warning: 0" in result.stdout


def test_a_wrong_file_ends_with_all_that_is_wrong(folder: Path) -> None:
    (folder / "traffic.toml").write_text(TRAFFIC.replace("gmail", "gmial").replace('"a"', '"z"'))
    result = run(folder)
    assert result.exit_code == CONFIG
    assert "streams[0].tenants" in result.stderr
    assert "gmial" in result.stderr


def test_a_picture_of_another_kind_is_refused(folder: Path) -> None:
    assert run(folder, "--plot", "day.png").exit_code == 2


def test_the_operators_command_hands_everything_over() -> None:
    assert CliRunner().invoke(handing_over, ["--help"]).exit_code == 0
    assert CliRunner().invoke(handing_over, ["--nonsense"]).exit_code == 2
