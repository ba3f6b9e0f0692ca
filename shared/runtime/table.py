"""One TOML table, read key by key: every problem is kept with its path, and what nobody asked for is an unknown key.

An unknown key is an error, since a misspelt limit that is silently ignored sends too fast. A key that is wrong gives its default, so that
reading goes on and finds the other problems; ``Problems.sound`` then says which parts may be compared with each other.
"""

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from shared.runtime import values
from shared.runtime.files import shown

T = TypeVar("T")
#: A name that nobody knows is answered with so many of those that there are: there may be thousands of tenants.
_NAMED: Final = 12


@dataclass(slots=True)
class Problems:
    """What is wrong, each with its path."""

    found: list[tuple[str, str]] = field(default_factory=list)

    def say(self, path: str, what: str) -> None:
        """Keep one."""
        self.found.append((path, what))

    def sound(self, *paths: str) -> bool:
        """Say whether nothing is wrong at these paths, inside or above them."""
        return not any(
            _within(bad, path) or _within(path, bad) for path in paths for bad, _ in self.found
        )

    def lines(self) -> list[str]:
        """Give them as they are printed."""
        return [f"{path}: {what}" for path, what in self.found]


def _within(path: str, outer: str) -> bool:
    return path == outer or path.startswith((f"{outer}.", f"{outer}["))


@dataclass(slots=True)
class Table:
    """A table at ``path``."""

    path: str
    raw: Mapping[str, Any]
    problems: Problems
    asked: list[str] = field(default_factory=list)

    def at(self, key: str) -> str:
        """Give the path of a key."""
        return f"{self.path}.{shown(key)}" if self.path else shown(key)

    def say(self, key: str, what: str) -> None:
        """Complain of a key."""
        self.problems.say(self.at(key), what)

    def get(self, key: str, read: Callable[[Any], T], default: T) -> T:
        """Read a key, or give ``default``; ``read`` raises ValueError with what it expected."""
        self.asked.append(key)
        if key not in self.raw:
            return default
        try:
            return read(self.raw[key])
        except ValueError as error:
            self.say(key, str(error))
            return default

    def need(self, key: str, read: Callable[[Any], T], default: T) -> T:
        """Read a key that must be there; ``default`` only stands for one that is missing."""
        if key not in self.raw:
            self.asked.append(key)
            self.say(key, "is required")
            return default
        return self.get(key, read, default)

    def table(self, key: str) -> "Table":
        """Give a table inside this one; empty where there is none."""
        raw: dict[str, Any] = self.get(key, values.table, dict[str, Any]())
        return Table(self.at(key), raw, self.problems)

    def tables(self, key: str) -> "list[tuple[str, Table]]":
        """Give the named tables inside ``key``."""
        outer = self.table(key)
        return [(name, outer.table(name)) for name in outer.raw]

    def rows(self, key: str) -> "list[Table]":
        """Give the tables of an array."""
        found: list[dict[str, Any]] = self.get(key, values.tables, list[dict[str, Any]]())
        return [
            Table(f"{self.at(key)}[{number}]", raw, self.problems)
            for number, raw in enumerate(found)
        ]

    def done(self) -> None:
        """Complain of what nobody asked for."""
        for key in self.raw:
            if key not in self.asked:
                self.say(key, f"unknown key; {suggestion(key, self.asked, 'known here')}")


def suggestion(word: str, known: Iterable[str], otherwise: str) -> str:
    """Name the nearest of ``known``, or the first of them, and how many more there are."""
    names = sorted(known)
    near = difflib.get_close_matches(word, names, 1)
    if near:
        return f"did you mean {near[0]}?"
    more = f", and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{otherwise}: {', '.join(names[:_NAMED])}{more}"


def exists(
    path: str, kind: str, name: str, known: Mapping[str, object], problems: Problems
) -> None:
    """Complain of a name that is none of ``known``, unless its path has a problem already."""
    if name not in known and problems.sound(path):
        hint = f"; {suggestion(name, known, 'there are')}" if known else ""
        problems.say(path, f"no such {kind}: {name}{hint}")
