"""One image for all tests here: the one that was made just before."""

from pathlib import Path

import pytest

from tests.support.image import Image


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is here: without an image it cannot run."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.image)


@pytest.fixture(scope="session")
def image(request: pytest.FixtureRequest) -> Image:
    directory: Path = request.config.getoption("--image")
    return Image.read(directory)
