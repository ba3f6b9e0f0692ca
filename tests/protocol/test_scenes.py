"""The known interleavings hold; without the rule that each is about, they do not."""

import pytest

from tests.protocol.mutants import MUTANTS
from tests.protocol.plans import story
from tests.protocol.scenes import SCENES, play

_BY_NAME = {mutant.name: mutant for mutant in MUTANTS}


@pytest.mark.parametrize("name", SCENES)
def test_every_guarantee_holds(name: str) -> None:
    world = play(SCENES[name])
    assert not world.checker.violations, story(play(SCENES[name], trace=True))


@pytest.mark.parametrize(
    ("name", "mutant"),
    [(name, mutant) for name, scene in SCENES.items() for mutant in scene.breaks],
)
def test_without_its_rule_a_guarantee_is_broken(name: str, mutant: str) -> None:
    assert play(SCENES[name], _BY_NAME[mutant]).checker.violations


def test_every_mutant_has_a_scene_that_catches_it() -> None:
    assert {name for scene in SCENES.values() for name in scene.breaks} == _BY_NAME.keys()
