"""What the Dockerfile says, read without a container runtime: its stages, each with the image that it begins from and its steps."""

import re
import sys
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import Final, NamedTuple

from dockerfile_parse import DockerfileParser

from scripts.setup import ROOT

FILE: Final = ROOT / "Dockerfile"
IGNORED: Final = ROOT / ".dockerignore"
_OFFICIAL: Final = re.compile(r"python:(3\.\d+)(?:\.\d+)?-slim-([a-z]+)")


class Step(NamedTuple):
    """An instruction, and what follows it, as one line."""

    instruction: str
    value: str


class Stage(NamedTuple):
    """The steps from one FROM to the next."""

    base: str
    name: str
    steps: Sequence[Step]


class Base(NamedTuple):
    """An official image of Python on a slim Debian."""

    python: str
    release: str


def stages(text: bytes) -> list[Stage]:
    """Give the stages in their order; a step before the first FROM ends the program."""
    found: list[tuple[str, str, list[Step]]] = []
    for one in DockerfileParser(fileobj=BytesIO(text)).structure:
        instruction, value = one["instruction"], one["value"]
        if instruction == "FROM":
            image, _, name = value.partition(" AS ")
            found.append((image, name, []))
        elif instruction != "COMMENT":
            if not found:
                sys.exit(f"image: a step before the first FROM is not played here: {instruction}")
            found[-1][2].append(Step(instruction, value))
    return [Stage(*one) for one in found]


def base(image: str) -> Base:
    """Tell Python and Debian's release from the image's name."""
    if found := _OFFICIAL.fullmatch(image):
        return Base(*found.groups())
    sys.exit(f"image: {image} is no python:3.N-slim-RELEASE, of which a root can be made here")


def context(source: str, ignored: str) -> Iterator[tuple[Path, str]]:
    """Give each file of the build's context under ``source``, with its path below that ("" where it is the file itself).

    What .dockerignore keeps out of the context is not there, as for a container runtime, which then says "not found".
    """
    kept, names = set(), set()
    for line in filter(None, ignored.splitlines()):
        if line.startswith("!"):
            kept.add(line[1:])
        elif line.startswith("**/"):
            names.add(line[3:])
        elif line != "*":
            sys.exit(f"image: {line} in .dockerignore is not played here")
    whole = ROOT / source
    if source not in kept or not whole.exists():
        sys.exit(f"image: COPY {source}: not found in the context (.dockerignore keeps {kept})")
    if whole.is_file():
        yield whole, ""
        return
    for file in sorted(whole.rglob("*")):
        within = file.relative_to(whole)
        if file.is_file() and not names & set(within.parts):
            yield file, str(within)
