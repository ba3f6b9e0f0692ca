from pathlib import Path

import pytest

from services.scheduler.simulation.warming import SITES, warmings
from shared.runtime.loading import load
from shared.runtime.settings import Settings
from tests.unit.services.scheduler.simulation.days import CONFIGURATION

WARM, NEW = 0, 3


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "postyard.toml").write_text(CONFIGURATION)
    return load(tmp_path / "postyard.toml", {})


def test_counts_what_lies_above_a_days_budget(settings: Settings) -> None:
    """Geometric: 100, 130, 169 ... and never more than 1.4 times the best day before."""
    begun = {("gmail", NEW, day): sent for day, sent in [(0, 90), (1, 131), (5, 180)]}
    (found,) = warmings(begun, settings)
    assert (found.sent, found.budgets) == ((90, 131, 180), (100, 126, 169))
    assert found.passed == 5 + 11


def test_sites_share_one_budget_and_warm_sources_have_none(settings: Settings) -> None:
    begun = {("mx.a", NEW, 0): 60, ("mx.b", NEW, 0): 70, ("gmail", WARM, 0): 9_999}
    (found,) = warmings(begun, settings)
    assert (found.provider, found.sent, found.passed) == (SITES, (130,), 30)
