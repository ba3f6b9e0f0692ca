"""The configuration's files as one table: a TOML file, or every ``*.toml`` of a directory, merged.

Files may add to each other's tables. A value that two files give is an error that names both: which of them holds must not depend on
their names.
"""

import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(slots=True)
class Merged:
    """What was read so far, and who said it."""

    raw: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    _said: dict[str, str] = field(default_factory=dict)

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
    merged = Merged()
    found = listed(path)
    if not found:
        merged.problems.append(f"{path}: no *.toml file in this directory")
    for file in found:
        try:
            merged.add(file.name, tomllib.loads(file.read_text(encoding="utf-8")))
        except OSError as error:
            merged.problems.append(f"{file}: cannot be read: {error.strerror}")
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            merged.problems.append(f"{file}: not TOML: {error}")
    return merged


def shown(key: str) -> str:
    """Write a key as TOML would: quoted where it has to be."""
    bare = key.isascii() and key.replace("-", "").replace("_", "").isalnum()
    return key if bare else f'"{key}"'
