"""Find the two programs that the local cluster needs from the machine: Java and Maven.

Java is needed at every start, Maven only until the jars are in the cache. What is missing is said together with the
package that brings it, since a newcomer meets this module first.
"""

import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from services.cli.cluster.error import LocalKafkaError

# Kafka 4 brokers run on 17 and later.
JAVA_AT_LEAST: Final = 17

_INSTALL_JAVA: Final = (
    f"install Java {JAVA_AT_LEAST} or later (Debian: apt-get install default-jre-headless; "
    "macOS: brew install openjdk) or point JAVA_HOME at one"
)
_INSTALL_MAVEN: Final = "install Maven (Debian: apt-get install maven; macOS: brew install maven)"
_VERSION: Final = re.compile(r'version "(?:1\.)?(\d+)')


def find_java(env: Mapping[str, str]) -> Path:
    """Find a Java that is new enough: JAVA_HOME's, else the path's."""
    home = env.get("JAVA_HOME")
    found = shutil.which(str(Path(home, "bin", "java")) if home else "java", path=env.get("PATH"))
    if found is None:
        where = f"there is no bin/java in JAVA_HOME ({home})" if home else "there is no java here"
        msg = f"Kafka needs Java, and {where}: {_INSTALL_JAVA}"
        raise LocalKafkaError(msg)
    version = _major_version(found)
    if version < JAVA_AT_LEAST:
        msg = f"Kafka needs Java {JAVA_AT_LEAST}, and {found} is Java {version}: {_INSTALL_JAVA}"
        raise LocalKafkaError(msg)
    return Path(found)


def find_maven(env: Mapping[str, str]) -> Path:
    """Find mvn."""
    found = shutil.which("mvn", path=env.get("PATH"))
    if found is None:
        msg = f"Kafka's jars are fetched with Maven, and there is no mvn here: {_INSTALL_MAVEN}"
        raise LocalKafkaError(msg)
    return Path(found)


def _major_version(java: str) -> int:
    # It goes to standard error, behind whatever JAVA_TOOL_OPTIONS makes the JVM say first.
    said = subprocess.run([java, "-version"], capture_output=True, text=True, check=False)
    match = _VERSION.search(said.stderr)
    if match is None:
        msg = f"{java} -version answers {said.stderr.strip()!r}: {_INSTALL_JAVA}"
        raise LocalKafkaError(msg)
    return int(match[1])
