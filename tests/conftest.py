"""What every test may ask for: a real broker, and a prefix that makes its topics its own.

One broker serves the whole run with all its workers; it starts when the first test asks. `POSTYARD_TEST_KAFKA=host:port`
lends a running one instead, which saves its start while one test is run again and again. A test that stops, kills or restarts
a broker starts its own: `services.cli.cluster.broker.LocalKafka`.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from services.cli.cluster.broker import LocalKafka
from tests.support.broker import shared
from tests.support.distribution import Pieces
from tests.support.nursery import Launch, nursery
from tests.support.prefix import own_prefix
from tests.support.yard import Yard

# How long an example takes says how busy the machine is, and nothing about the code.
settings.register_profile("postyard", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("postyard")
# For `make verify`, which asks for it by hypothesis's own option.
settings.register_profile("thousands", settings.get_profile("postyard"), max_examples=5000)


def pytest_addoption(parser: pytest.Parser) -> None:
    # Here and not in tests/faults, whose conftest is read too late for it when all tests are run.
    ours = parser.getgroup("postyard")
    ours.addoption("--kills", type=int, default=6, help="how often the fault test kills something")
    ours.addoption("--long", action="store_true", help="run what is marked long, too")
    ours.addoption(
        "--accept", action="store_true", help="tests/chart: take over what is rendered now"
    )
    ours.addoption(
        "--control-plane",
        type=Path,
        help="tests/k8s: run it, on what scripts/controlplane.py built",
    )
    ours.addoption(
        "--linters", type=Path, help="tests/chart: the folder of kubeconform and kube-score"
    )
    ours.addoption("--image", type=Path, help="tests/image: the folder that scripts.image wrote")
    ours.addoption("--no-skips", action="store_true", help="fail when a test was skipped")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is marked long, k8s, linters or image, unless it is asked for: another test shows it in less time, or less of it."""
    asked_for = {
        "long": config.getoption("--long"),
        "k8s": config.getoption("--control-plane"),
        "linters": config.getoption("--linters"),
        "image": config.getoption("--image"),
    }
    unwanted = [marker for marker, wanted in asked_for.items() if not wanted]
    if left_out := [item for item in items if any(map(item.get_closest_marker, unwanted))]:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Pieces | None:
    """Share the tests out in our way, unless another is asked for."""
    return Pieces(config, log) if config.getoption("dist") == "load" else None


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """A skipped test has shown nothing: whoever asks for --no-skips wants to hear of it."""
    if not session.config.getoption("--no-skips") or exitstatus != pytest.ExitCode.OK:
        return
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    assert reporter is not None
    if skipped := reporter.stats.get("skipped"):
        reporter.write_line(f"{len(skipped)} skipped, which --no-skips counts as failed", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`host:port` of a real broker, shared by the run; `kafka.log` is in its folder."""
    if lent := os.environ.get("POSTYARD_TEST_KAFKA"):
        yield lent
        return
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        # Each worker has a folder of its own in the run's.
        folder = folder.parent
    broker = LocalKafka(folder / "cluster" / "kafka", heap_mib=1024)
    with shared(broker):
        yield broker.bootstrap


@pytest.fixture
def prefix(kafka: str) -> Iterator[str]:
    """A topic prefix of this test alone; its topics are deleted behind it."""
    with own_prefix(kafka) as ours:
        yield ours


@pytest.fixture(scope="session")
def launch() -> Iterator[Launch]:
    """Start processes that find their modules imported."""
    with nursery() as ours:
        yield ours


@pytest.fixture
def yard(tmp_path: Path, kafka: str, prefix: str, launch: Launch) -> Iterator[Yard]:
    """Receivers and services of this test alone, on the session's broker."""
    with Yard(tmp_path, kafka, prefix, launch) as ours:
        yield ours
