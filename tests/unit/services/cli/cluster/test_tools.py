"""Java and Maven as a newcomer's machine has them: missing, too old, oddly spoken, in JAVA_HOME."""

from pathlib import Path

import pytest

from services.cli.cluster.error import LocalKafkaError
from services.cli.cluster.tools import find_java, find_maven


def program(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(["#!/bin/sh", *lines, ""]))
    path.chmod(0o755)
    return path


def java(path: Path, *says: str) -> Path:
    return program(path, *(f"echo '{line}' >&2" for line in says))


@pytest.mark.parametrize(
    "says",
    [
        ('openjdk version "17.0.15" 2025-04-15',),
        ('openjdk version "21" 2023-09-19 LTS',),
        ("Picked up JAVA_TOOL_OPTIONS: -Xss2m", 'java version "25.0.1"'),
    ],
)
def test_a_java_that_is_new_enough_is_taken(tmp_path: Path, says: tuple[str, ...]) -> None:
    there = java(tmp_path / "java", *says)
    assert find_java({"PATH": str(tmp_path)}) == there


@pytest.mark.parametrize(
    ("says", "version"), [('openjdk version "11.0.2"', 11), ('java version "1.8.0_292"', 8)]
)
def test_a_java_that_is_too_old_is_named_with_what_to_install(
    tmp_path: Path, says: str, version: int
) -> None:
    java(tmp_path / "java", says)
    with pytest.raises(
        LocalKafkaError, match=rf"needs Java 17, and {tmp_path}/java is Java {version}"
    ):
        find_java({"PATH": str(tmp_path)})


def test_no_java_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(LocalKafkaError, match="apt-get install default-jre-headless"):
        find_java({"PATH": str(tmp_path)})


def test_java_home_goes_before_the_path(tmp_path: Path) -> None:
    java(tmp_path / "path" / "java", 'openjdk version "11"')
    there = java(tmp_path / "home" / "bin" / "java", 'openjdk version "21"')
    env = {"PATH": str(tmp_path / "path"), "JAVA_HOME": str(tmp_path / "home")}
    assert find_java(env) == there


def test_a_java_home_without_java_is_the_problem_although_the_path_has_one(tmp_path: Path) -> None:
    java(tmp_path / "java", 'openjdk version "21"')
    with pytest.raises(LocalKafkaError, match="no bin/java in JAVA_HOME"):
        find_java({"PATH": str(tmp_path), "JAVA_HOME": str(tmp_path / "gone")})


def test_a_java_that_says_no_version_is_quoted(tmp_path: Path) -> None:
    # macOS has such a stub where no Java is installed.
    java(tmp_path / "java", "Unable to locate a Java Runtime.")
    with pytest.raises(LocalKafkaError, match=r"Unable to locate a Java Runtime\..*install Java"):
        find_java({"PATH": str(tmp_path)})


def test_no_maven_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(LocalKafkaError, match="apt-get install maven"):
        find_maven({"PATH": str(tmp_path)})
