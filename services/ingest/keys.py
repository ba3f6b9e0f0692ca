"""keys: which submissions one partition accepted under an idempotency key, in the last day. Pure.

A key is taken when its submission is accepted, never when it is refused: whoever has mended a submission sends it again under its key.
They are forgotten an hour's at a time, so a key is known for 24 to 25 hours.

There may be millions of them. SQLite, in memory, takes 40 bytes for each; a dictionary takes 180.
"""

import hashlib
import sqlite3
from typing import Final, NamedTuple

from shared.records.topics import CLASSES

_HOUR_MS: Final = 3_600_000
_HOURS: Final = 24
#: Of ten million keys a day two are one to us once in a thousand years: the second's submission is refused then, which its platform hears.
_DIGEST_BYTES: Final = 8
FINGERPRINT_BYTES: Final = 8


class Taken(NamedTuple):
    """What was accepted under a key: where it lies, and what it was."""

    class_: str
    offset: int
    fingerprint: bytes


def fingerprint(value: bytes) -> bytes:
    """Make a short name of a record's value."""
    return hashlib.blake2b(value, digest_size=FINGERPRINT_BYTES).digest()


class Keys:
    """The keys of one partition."""

    __slots__ = ("_hours", "_table")

    def __init__(self) -> None:
        """None is taken."""
        # One thread works with it, but any may collect it.
        self._table = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        self._table.execute(
            "CREATE TABLE taken (key INTEGER PRIMARY KEY, hour INTEGER, class INTEGER, at INTEGER, of BLOB)"
        )
        #: In which something was taken.
        self._hours: set[int] = set()

    def __len__(self) -> int:
        """Count those that are remembered."""
        (count,) = self._table.execute("SELECT count(*) FROM taken").fetchone()
        return int(count)

    def find(self, key: str) -> Taken | None:
        """Give what was accepted under ``key``; None: nothing in the last day."""
        found = self._table.execute(
            "SELECT class, at, of FROM taken WHERE key = ?", (_digest(key),)
        ).fetchone()
        return None if found is None else Taken(CLASSES[found[0]], *found[1:])

    def take(self, key: str, taken: Taken, at_ms: int) -> None:
        """Remember that ``taken`` was accepted at ``at_ms``."""
        hour = at_ms // _HOUR_MS
        self._hours.add(hour)
        self._table.execute(
            "INSERT OR REPLACE INTO taken VALUES (?, ?, ?, ?, ?)",
            (_digest(key), hour, CLASSES.index(taken.class_), taken.offset, taken.fingerprint),
        )

    def forget(self, now_ms: int) -> None:
        """Forget what was taken more than a day ago."""
        last = now_ms // _HOUR_MS - _HOURS
        old = {hour for hour in self._hours if hour < last}
        if old:
            self._hours -= old
            self._table.execute("DELETE FROM taken WHERE hour < ?", (last,))

    def close(self) -> None:
        """Let go of them all."""
        self._table.close()

    def __del__(self) -> None:
        """Close what nobody closed: of a worker that did not come to run."""
        self.close()


def _digest(key: str) -> int:
    # What no encoder takes cannot be taken as a key either, but may be asked for.
    found = hashlib.blake2b(key.encode(errors="surrogatepass"), digest_size=_DIGEST_BYTES)
    return int.from_bytes(found.digest(), signed=True)
