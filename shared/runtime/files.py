"""The configuration's files as one table: a TOML file, or every ``*.toml`` of a directory, merged.

Files may add to each other's tables. A value that two files give is an error that names both: which of them holds must not depend on
their names.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(slots=True)
class Merged:
    """What was read so far, and who said it."""

    raw: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    _said: dict[str, str] = field(default_factory=dict)

    def take(self, where: str, file: str, text: str) -> None:
        """Merge the text of a file in; ``where`` is what a problem with it is said of."""
        try:
            self.add(file, tomllib.loads(text))
        except tomllib.TOMLDecodeError as error:
            self.problems.append(f"{where}: not TOML: {error}")

    def add(self, file: str, more: dict[str, Any]) -> None:
        """Merge one file's tables in."""
        self._merge(self.raw, more, file, "")

    def _merge(self, into: dict[str, Any], more: dict[str, Any], file: str, path: str) -> None:
        for key, value in more.items():
            here = f"{path}.{shown(key)}" if path else shown(key)
            if key not in into:
                into[key] = {} if isinstance(value, dict) else value
                self._said[here] = file
            elif not (isinstance(into[key], dict) and isinstance(value, dict)):
                self.problems.append(f"{here}: said in {self._said[here]}, and again in {file}")
                continue
            if isinstance(value, dict):
                self._merge(into[key], value, file, here)


def listed(path: Path) -> list[Path]:
    """Name the files that ``path`` stands for."""
    return sorted(path.glob("*.toml")) if path.is_dir() else [path]


def read(path: Path) -> Merged:
    """Read what lies at ``path``; what cannot be read is among the problems."""
    result = Merged()
    found = listed(path)
    if not found:
        result.problems.append(f"{path}: no *.toml file in this directory")
    for file in found:
        try:
            result.take(str(file), file.name, file.read_text(encoding="utf-8"))
        except OSError as error:
            result.problems.append(f"{file}: cannot be read: {error.strerror}")
        except UnicodeDecodeError as error:
            result.problems.append(f"{file}: not TOML: {error}")
    return result


def texts_of(path: Path) -> dict[str, str]:
    """Give the files at ``path``, which were read before, by their names."""
    return {file.name: file.read_text(encoding="utf-8") for file in listed(path)}


def merged(texts: Mapping[str, str]) -> Merged:
    """Merge files by their texts; what is no TOML is among the problems."""
    found = Merged()
    for name, text in sorted(texts.items()):
        found.take(name, name, text)
    return found


def shown(key: str) -> str:
    """Write a key as TOML would: quoted where it has to be."""
    bare = key.isascii() and key.replace("-", "").replace("_", "").isalnum()
    return key if bare else f'"{key}"'
