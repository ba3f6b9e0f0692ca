"""The image has what the tests ran with, and nothing of what only tests need."""

import re
import tomllib

from tests.support.chart import ROOT
from tests.support.locks import pins


def test_the_images_packages_are_those_that_the_tests_ran_with() -> None:
    image, tested = pins("requirements.runtime.lock"), pins("requirements.lock")
    assert image
    assert image.items() <= tested.items(), "run make lock"


def test_the_image_has_every_package_that_is_required_and_no_tool_of_the_tests() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    name = re.compile(r"[a-z0-9-]+")
    needed = {name.match(one.lower())[0] for one in project["project"]["dependencies"]}  # type: ignore[index]
    tools = {name.match(one.lower())[0] for one in project["dependency-groups"]["dev"]}  # type: ignore[index]
    image = set(pins("requirements.runtime.lock"))
    assert needed <= image
    assert not tools & image
