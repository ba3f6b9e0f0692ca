"""Fetch Kafka's jars once and keep them in the user's cache.

`pom.xml` beside this module says which; its hash is in the name of the cached folder, so another pom never meets old
jars. Maven fills a temporary folder that is renamed when it is whole: a folder that has the right name is complete,
and needs no network again. A lock makes the second of two set-ups wait for the first; what an aborted one left behind
is removed by whoever holds the lock next.
"""

import fcntl
import hashlib
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from services.cli.cluster.error import LocalKafkaError
from services.cli.cluster.tools import find_maven

KAFKA_VERSION: Final = "4.3.1"
POM: Final = Path(__file__).with_name("pom.xml")


def cache_directory(env: Mapping[str, str]) -> Path:
    """Give the folder for what is fetched: POSTYARD_CACHE, else `postyard` in the user's cache."""
    if ours := env.get("POSTYARD_CACHE"):
        return Path(ours).absolute()
    base = env.get("XDG_CACHE_HOME")
    return Path(base or Path(env.get("HOME", "~"), ".cache").expanduser(), "postyard")


def jars_directory(env: Mapping[str, str]) -> Path:
    """Give the folder that the jars are in once they are fetched."""
    digest = hashlib.sha256(POM.read_bytes()).hexdigest()[:12]
    return cache_directory(env) / f"kafka-{KAFKA_VERSION}-{digest}"


def fetch_jars(env: Mapping[str, str]) -> Path:
    """Give the folder of jars, filling it first where it is not there yet."""
    jars = jars_directory(env)
    if jars.is_dir():
        return jars
    maven = find_maven(env)
    jars.parent.mkdir(parents=True, exist_ok=True)
    with Path(f"{jars}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not jars.is_dir():
            _fetch_into(jars, maven, env)
    return jars


def _fetch_into(jars: Path, maven: Path, env: Mapping[str, str]) -> None:
    partial = Path(f"{jars}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    copy = [
        *(str(maven), "--batch-mode", "--quiet", "--file", str(POM)),
        *("dependency:copy-dependencies", f"-DoutputDirectory={partial.absolute()}"),
    ]
    done = subprocess.run(copy, env=dict(env), stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0 or not any(partial.glob("kafka_*.jar")):
        shutil.rmtree(partial, ignore_errors=True)
        problem = next(
            (line for line in done.stdout.splitlines() if "ERROR" in line), "no jars came"
        )
        msg = (
            f"Maven could not fetch Kafka {KAFKA_VERSION}: {problem}\n"
            "Look at the network, and at the mirror and proxy in ~/.m2/settings.xml, then try again."
        )
        raise LocalKafkaError(msg)
    partial.rename(jars)
