"""The Dockerfile is read as a container runtime reads it; what cannot be played ends with a word about it, and is never left out."""

from pathlib import Path

import pytest

from scripts.image.debian import sources
from scripts.image.dockerfile import FILE, IGNORED, Base, Stage, Step, base, context, stages
from scripts.image.player import Player

TWO = b"""# made
FROM python:3.13-slim-trixie AS build
RUN one \\
 # a remark
 && two
FROM python:3.13-slim-trixie
COPY --from=build /a /a
"""


def test_stages_have_their_names_and_whole_steps() -> None:
    assert stages(TWO) == [
        Stage("python:3.13-slim-trixie", "build", [Step("RUN", "one  && two")]),
        Stage("python:3.13-slim-trixie", "", [Step("COPY", "--from=build /a /a")]),
    ]


def test_ours_begins_from_one_python_in_all_its_stages() -> None:
    found = stages(FILE.read_bytes())
    assert len(found) > 1
    assert len({base(stage.base) for stage in found}) == 1


@pytest.mark.parametrize(
    ("image", "told"),
    [
        ("python:3.13-slim-trixie", Base("3.13", "trixie")),
        ("python:3.13.5-slim-trixie", Base("3.13", "trixie")),
    ],
)
def test_release_and_python_are_told_from_the_name(image: str, told: Base) -> None:
    assert base(image) == told


@pytest.mark.parametrize("image", ["python:3.13", "python:3.13-alpine", "debian:trixie-slim", "python:3-slim-trixie"])  # fmt: skip
def test_a_base_that_no_root_can_be_made_of_is_refused(image: str) -> None:
    with pytest.raises(SystemExit, match="of which a root can be made here"):
        base(image)


def test_a_step_before_the_first_stage_is_refused() -> None:
    with pytest.raises(SystemExit, match="not played here: ARG"):
        stages(b"ARG TAG=3.13\nFROM python:$TAG-slim-trixie\n")


@pytest.mark.parametrize(
    "step",
    [
        Step("HEALTHCHECK", "CMD true"),
        Step("ADD", "a /a"),
        Step("ENTRYPOINT", '["x"]'),
        Step("COPY", "a b /c"),
        Step("COPY", "--chown=1:1 a /c"),
    ],
)
def test_a_step_that_is_not_known_ends_it(step: Step, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="not played here"):
        Player(tmp_path, "", []).play(step, {})


def test_the_environment_is_what_the_steps_have_set() -> None:
    player = Player(Path(), "", [])
    player.play(Step("ENV", 'PATH=/a/bin:$PATH WORDS="of two"'), {})
    player.play(Step("USER", "10001:10001"), {})
    player.play(Step("CMD", '["x", "-y"]'), {})
    assert player.env["PATH"].startswith("/a/bin:/usr/local/sbin:")
    assert player.env["WORDS"] == "of two"
    assert (player.user, player.command) == ("10001:10001", ["x", "-y"])


def test_the_context_has_what_dockerignore_lets_in() -> None:
    ignored = IGNORED.read_text()
    code = {within: file for file, within in context("services", ignored)}
    assert code["cli/__main__.py"].is_file()
    assert not any("__pycache__" in within for within in code)
    ((lock, within),) = context("requirements.runtime.lock", ignored)
    assert (lock.name, within) == ("requirements.runtime.lock", "")


@pytest.mark.parametrize("source", ["tests", "README.md"])
def test_what_it_keeps_out_cannot_be_copied(source: str) -> None:
    with pytest.raises(SystemExit, match="not found in the context"):
        list(context(source, IGNORED.read_text()))


def test_a_rule_of_dockerignore_that_is_not_known_ends_it() -> None:
    with pytest.raises(SystemExit, match="is not played here"):
        list(context("services", "services/secret\n"))


def test_a_layer_is_whole_when_it_has_its_name_and_another_when_anything_differs(
    tmp_path: Path,
) -> None:
    one = Player(tmp_path, "base", [])
    partial = one.layer("RUN true")
    assert partial is not None
    assert [path.name[0] for path in tmp_path.iterdir()] == ["."]
    one.keep(partial)
    again, other = Player(tmp_path, "base", []), Player(tmp_path, "base", [])
    assert again.layer("RUN true") is None
    assert again.layers == one.layers
    assert other.layer("RUN true", b"content") is not None


@pytest.mark.parametrize(("release", "lines"), [("trixie", 3), ("sid", 1)])
def test_updates_come_from_where_the_release_came_from(
    release: str, lines: int, tmp_path: Path
) -> None:
    file = tmp_path / "sources.list"
    file.write_text(f"deb http://mirror.test/debian {release} main\n")
    sources(release, file)
    found = file.read_text().splitlines()
    assert len(found) == lines
    assert found[0] == f"deb http://mirror.test/debian {release} main"
    assert all(f" {release}" in line for line in found)
