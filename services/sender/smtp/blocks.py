"""A message in writes of a good size: pure."""

from collections.abc import Iterator, Sequence
from typing import Final

#: So much of a message is written at once; the time-out for a block counts from one to the next.
BLOCK_BYTES: Final = 128 * 1024


def blocks(chunks: Sequence[bytes]) -> Iterator[bytes]:
    """Join small chunks and cut large ones."""
    small: list[bytes] = []
    size = 0
    for chunk in chunks:
        if size + len(chunk) <= BLOCK_BYTES:
            small.append(chunk)
            size += len(chunk)
            continue
        yield b"".join(small)
        small, size = [], 0
        for begin in range(0, len(chunk), BLOCK_BYTES):
            yield chunk[begin : begin + BLOCK_BYTES]
    yield b"".join(small)
