"""keys: which submissions one partition accepted under an idempotency key, in the last day. Pure.

A key is taken when its submission is accepted, never when it is refused: whoever has mended a submission sends it again under its key.
They are forgotten an hour's at a time, so a key is known for 24 to 25 hours.
"""

import hashlib
import struct
from typing import Final, NamedTuple

from shared.records.topics import CLASSES

_HOUR_MS: Final = 3_600_000
_HOURS: Final = 24
_DIGEST_BYTES: Final = 16
#: The hour in which it was taken, class, offset, fingerprint.
_TAKEN: Final = struct.Struct(">IBQ8s")
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
    """The keys of one partition; some 180 bytes each."""

    __slots__ = ("_hours", "_taken")

    def __init__(self) -> None:
        """None is taken."""
        self._taken: dict[bytes, bytes] = {}
        #: What was taken in each hour.
        self._hours: dict[int, list[bytes]] = {}

    def __len__(self) -> int:
        """Count those that are remembered."""
        return len(self._taken)

    def find(self, key: str) -> Taken | None:
        """Give what was accepted under ``key``; None: nothing in the last day."""
        found = self._taken.get(_digest(key))
        if found is None:
            return None
        _, at, offset, of = _TAKEN.unpack(found)
        return Taken(CLASSES[at], offset, of)

    def take(self, key: str, taken: Taken, at_ms: int) -> None:
        """Remember that ``taken`` was accepted at ``at_ms``."""
        hour, digest = at_ms // _HOUR_MS, _digest(key)
        self._taken[digest] = _TAKEN.pack(hour, CLASSES.index(taken.class_), *taken[1:])
        self._hours.setdefault(hour, []).append(digest)

    def forget(self, now_ms: int) -> None:
        """Forget what was taken more than a day ago."""
        last = now_ms // _HOUR_MS - _HOURS
        for hour in [hour for hour in self._hours if hour < last]:
            for digest in self._hours.pop(hour):
                found = self._taken.get(digest)
                # It may have been taken again since.
                if found is not None and _TAKEN.unpack(found)[0] == hour:
                    del self._taken[digest]


def _digest(key: str) -> bytes:
    # What no encoder takes cannot be taken as a key either, but may be asked for.
    return hashlib.blake2b(key.encode(errors="surrogatepass"), digest_size=_DIGEST_BYTES).digest()
