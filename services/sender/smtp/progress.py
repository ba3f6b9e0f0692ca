"""How much of what was written the peer has not taken: what tells a slow reader from one that takes nothing.

A kernel says that there is room again only when a good part of its buffer is empty, which grows to megabytes. A peer that reads some
kilobytes a second takes longer for that than a block may take (RFC 5321 4.5.3.2.5), although it never stops reading.
"""

import asyncio
import contextlib
import fcntl
import sys
import termios


def untaken_bytes(transport: asyncio.WriteTransport, raw: asyncio.WriteTransport | None) -> int:
    """Count what ``transport``, ``raw`` below it where it is encrypted, and the kernel hold: nothing there where the socket is gone."""
    held = int(transport.get_write_buffer_size())
    if raw is not None:
        held += int(raw.get_write_buffer_size())
    sock = (raw or transport).get_extra_info("socket")
    if sock is not None:
        with contextlib.suppress(OSError, ValueError):
            # tcp(7): SIOCOUTQ, what the peer has not acknowledged; it has the number of TIOCOUTQ.
            held += int.from_bytes(
                fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4)), sys.byteorder
            )
    return held
