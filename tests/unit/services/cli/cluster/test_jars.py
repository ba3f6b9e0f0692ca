"""The cache of jars, with programs in Maven's place that work, fail, and are killed halfway."""

import xml.etree.ElementTree as ET
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from services.cli.cluster.error import LocalKafkaError
from services.cli.cluster.jars import (
    KAFKA_VERSION,
    POM,
    cache_directory,
    fetch_jars,
    jars_directory,
)

WORKS = """
mkdir -p "$to" && touch "$to/kafka_2.13.jar" "$to/lz4.jar" && echo once >> "$POSTYARD_CACHE/calls"
"""
REFUSES = """
mkdir -p "$to" && touch "$to/kafka_2.13.jar"
echo "[ERROR] Could not transfer artifact"
echo "[ERROR] more"
exit 1
"""
KILLED = 'mkdir -p "$to" && touch "$to/kafka_2.13.jar" && kill -9 $$'
EMPTY = "exit 0"


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    return {"PATH": f"{tmp_path}/bin:/usr/bin:/bin", "POSTYARD_CACHE": str(tmp_path / "cache")}


def maven(tmp_path: Path, does: str) -> None:
    path = tmp_path / "bin" / "mvn"
    path.parent.mkdir(exist_ok=True)
    path.write_text(
        f'#!/bin/sh\nfor word; do case "$word" in -DoutputDirectory=*) to="${{word#*=}}";; esac; done\n{does}\n'
    )
    path.chmod(0o755)


def test_the_second_time_needs_no_maven(tmp_path: Path, env: dict[str, str]) -> None:
    maven(tmp_path, WORKS)
    jars = fetch_jars(env)
    assert sorted(jar.name for jar in jars.iterdir()) == ["kafka_2.13.jar", "lz4.jar"]
    assert fetch_jars(env | {"PATH": ""}) == jars == jars_directory(env)


def test_two_at_once_fetch_once(tmp_path: Path, env: dict[str, str]) -> None:
    maven(tmp_path, f"sleep 0.2; {WORKS}")
    with ThreadPoolExecutor(2) as threads:
        first, second = threads.map(fetch_jars, [env, env])
    assert first == second
    assert (tmp_path / "cache" / "calls").read_text() == "once\n"


@pytest.mark.parametrize("breaks", [REFUSES, KILLED, EMPTY])
def test_a_fetch_that_failed_halfway_is_never_taken_for_whole(
    tmp_path: Path, env: dict[str, str], breaks: str
) -> None:
    maven(tmp_path, breaks)
    with pytest.raises(LocalKafkaError, match=r"Maven could not fetch Kafka"):
        fetch_jars(env)
    assert not jars_directory(env).exists()
    maven(tmp_path, WORKS)
    assert len(list(fetch_jars(env).iterdir())) == 2


def test_what_an_aborted_run_left_is_removed(tmp_path: Path, env: dict[str, str]) -> None:
    left = Path(f"{jars_directory(env)}.partial")
    left.mkdir(parents=True)
    (left / "half.jar").touch()
    maven(tmp_path, WORKS)
    assert "half.jar" not in [jar.name for jar in fetch_jars(env).iterdir()]


def test_mavens_first_error_is_told(tmp_path: Path, env: dict[str, str]) -> None:
    maven(tmp_path, REFUSES)
    with pytest.raises(
        LocalKafkaError, match=r"4\.3\.1: \[ERROR\] Could not transfer artifact\nLook"
    ):
        fetch_jars(env)


def test_the_cache_is_where_the_environment_says() -> None:
    assert cache_directory({"POSTYARD_CACHE": "/a", "XDG_CACHE_HOME": "/b"}) == Path("/a")
    assert cache_directory({"XDG_CACHE_HOME": "/b", "HOME": "/c"}) == Path("/b/postyard")
    assert cache_directory({"HOME": "/c"}) == Path("/c/.cache/postyard")


def test_the_pom_is_of_the_version_in_the_name_of_the_cache() -> None:
    maven_names = {"m": "http://maven.apache.org/POM/4.0.0"}
    versions = {
        row.findtext("m:artifactId", namespaces=maven_names): row.findtext(
            "m:version", namespaces=maven_names
        )
        for row in ET.parse(POM).iterfind(".//m:dependency", maven_names)  # noqa: S314 - our own file
    }
    assert versions["kafka_2.13"] == KAFKA_VERSION
