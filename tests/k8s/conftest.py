"""One control plane and one kubelet for all tests here; each test has a namespace and a topic prefix of its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.k8s.node import Nodes
from tests.k8s.plane import Plane
from tests.k8s.release import Release, namespace


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is here: without a control plane it cannot run."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.k8s)


@pytest.fixture(scope="session")
def nodes(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:  # fmt: skip
    """Three nodes, and the control plane that they belong to."""
    directory = tmp_path_factory.mktemp("k8s")
    program: Path = request.config.getoption("--control-plane")
    with Plane(program, directory / "plane") as plane, Nodes(plane, directory / "pods") as ours:
        yield ours


@pytest.fixture
def release(nodes: Nodes, prefix: str) -> Iterator[Release]:
    """The chart, not installed yet."""
    with namespace(nodes, f"mail-{prefix.rstrip('.')}") as ours:
        yield ours
