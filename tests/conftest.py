"""What every test may ask for: a real broker, and a prefix that makes its topics its own.

One broker serves the whole session; it starts when the first test asks. `POSTYARD_TEST_KAFKA=host:port` lends a running
one instead, which saves its start while one test is run again and again. A test that stops, kills or restarts a broker
starts its own: `services.cli.cluster.broker.LocalKafka`.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from services.cli.cluster.broker import LocalKafka
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
    ours.addoption("--no-skips", action="store_true", help="fail when a test was skipped")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is marked long, k8s or linters, unless it is asked for: another test shows it in less time, or less of it."""
    asked_for = {
        "long": config.getoption("--long"),
        "k8s": config.getoption("--control-plane"),
        "linters": config.getoption("--linters"),
    }
    unwanted = [marker for marker, wanted in asked_for.items() if not wanted]
    if left_out := [item for item in items if any(map(item.get_closest_marker, unwanted))]:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


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
def cluster_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the session's broker; `kafka.log` is in it."""
    return tmp_path_factory.mktemp("cluster") / "kafka"


@pytest.fixture(scope="session")
def kafka(cluster_dir: Path) -> Iterator[str]:
    """`host:port` of a real broker, shared by the session."""
    if lent := os.environ.get("POSTYARD_TEST_KAFKA"):
        yield lent
        return
    with LocalKafka(cluster_dir, heap_mib=768) as broker:
        yield broker.bootstrap
    # Gigabytes, perhaps; the log stays, for whoever wants to know what the broker thought of it.
    shutil.rmtree(cluster_dir / "data", ignore_errors=True)


@pytest.fixture
def prefix(kafka: str) -> Iterator[str]:
    """A topic prefix of this test alone; its topics are deleted behind it."""
    with own_prefix(kafka) as ours:
        yield ours


@pytest.fixture
def yard(tmp_path: Path, kafka: str, prefix: str) -> Iterator[Yard]:
    """Receivers and services of this test alone, on the session's broker."""
    with Yard(tmp_path, kafka, prefix) as ours:
        yield ours
