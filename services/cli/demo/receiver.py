"""A receiving SMTP server whose manners are chosen on the command line: for the demonstration and for tests.

    python -m services.cli.demo.receiver --port 2525 --log seen.jsonl --maildir mail --greylist 5 --rate 50

It speaks PIPELINING, writes what it accepts to a Maildir, and one JSON line for each RCPT and each reply to a final dot to ``--log``: the
receiver's own word on who sent what, when, from where. Recipients choose their fate by their local part, so that whoever produces mail
knows what must become of it:

    unknown.…  550 5.1.1 at RCPT        full.…     452 4.2.2 at RCPT, always       refuse.…  554 5.7.1 after the dot
    deferN.…   451 4.3.0 at RCPT, the first N times            drop.…    takes the message and closes without an answer, the first time
    slow.…     answers the dot after 3 s
"""

import argparse
import asyncio
import hashlib
import json
import os
import re
import signal
import socket
import ssl
import sys
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final

_DEFER: Final = re.compile(r"defer(\d+)\.")
_PATH: Final = re.compile(rb"<([^>]*)>")
_MAX_LINE: Final = 4096


@dataclass(slots=True)
class Manners:
    """How the server behaves towards everybody."""

    name: str = "mx.example.test"
    #: Seconds before a second try of the same (address, sender, recipient) is let in; 0: no greylisting.
    greylist: float = 0.0
    #: Messages a second over all; above it 421 before RCPT; 0: no limit.
    rate: float = 0.0
    #: Seconds before each reply, and before the reply to the dot.
    delay: float = 0.0
    dot_delay: float = 0.0
    banner: str = ""
    mute: bool = False
    tls: ssl.SSLContext | None = None
    pipelining: bool = True


@dataclass(slots=True)
class Seen:
    """What the server remembers and writes down."""

    log: IO[str] | None
    maildir: Path | None
    first: dict[tuple[str, str, str], float] = field(default_factory=dict)
    tries: dict[str, int] = field(default_factory=dict)
    recent: deque[float] = field(default_factory=deque)
    serial: int = 0

    def write(self, **what: object) -> None:
        """Append one line."""
        if self.log is not None:
            self.log.write(json.dumps({"ns": time.time_ns()} | what) + "\n")  # noqa: TID251 - the receiver's own clock is the point
            self.log.flush()

    def store(self, message: bytes) -> str:
        """Write a message to the Maildir and give its file name."""
        self.serial += 1
        name = f"{time.time_ns()}.{os.getpid()}_{self.serial}.receiver"  # noqa: TID251
        if self.maildir is not None:
            written = self.maildir / "tmp" / name
            written.write_bytes(message)
            written.rename(self.maildir / "new" / name)
        return name


class Session(asyncio.Protocol):
    """One connection."""

    def __init__(self, manners: Manners, seen: Seen) -> None:
        """Wait for the connection."""
        self._manners, self._seen = manners, seen
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._sender, self._rcpt, self._ehlo, self._tls = "", "", "", ""
        self._collecting = False
        self._peer = self._local = ""
        self._chain: asyncio.Task[None] | None = None

    # -- transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101
        self._transport = transport
        self._peer = str(transport.get_extra_info("peername")[0])
        self._local = str(transport.get_extra_info("sockname")[1])
        if self._tls:
            return
        if self._manners.mute:
            return
        if self._manners.banner:
            self._say(self._manners.banner)
            transport.close()
            return
        self._say(f"220 {self._manners.name} ESMTP")

    def data_received(self, data: bytes) -> None:
        """Take commands, or the message."""
        if self._manners.mute:
            return
        self._buffer += data
        self._work()

    def _work(self) -> None:
        while (
            self._chain is None and self._transport is not None and not self._transport.is_closing()
        ):
            if self._collecting:
                end = 0 if self._buffer.startswith(b".\r\n") else self._buffer.find(b"\r\n.\r\n")
                if end < 0:
                    return
                skip = 3 if end == 0 and self._buffer.startswith(b".\r\n") else 5
                message = self._buffer[:end] + (b"\r\n" if end else b"")
                self._buffer = self._buffer[end + skip :]
                self._collecting = False
                self._message(message.replace(b"\r\n..", b"\r\n."))
            else:
                line, found, rest = self._buffer.partition(b"\r\n")
                if not found:
                    if len(self._buffer) > _MAX_LINE:
                        self._transport.close()
                    return
                self._buffer = rest
                self._command(line)

    def _say(self, text: str, delay: float | None = None) -> None:
        wait = self._manners.delay if delay is None else delay
        if wait:
            # Later commands wait behind this answer, as with a slow host.
            self._chain = asyncio.ensure_future(self._say_later(text, wait))
        elif self._transport is not None:
            self._transport.write(text.encode() + b"\r\n")

    async def _say_later(self, text: str, wait: float) -> None:
        await asyncio.sleep(wait)
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(text.encode() + b"\r\n")
        self._chain = None
        self._work()

    # -- commands

    def _command(self, line: bytes) -> None:
        verb = line[:4].upper()
        if verb in (b"EHLO", b"HELO"):
            self._ehlo = line[5:].decode(errors="replace")
            self._say(self._hello() if verb == b"EHLO" else f"250 {self._manners.name}")
        elif verb == b"MAIL":
            self._mail(line)
        elif verb == b"RCPT":
            self._recipient(line)
        elif verb == b"DATA":
            self._data()
        elif verb == b"STAR" and self._manners.tls is not None:
            self._start_tls()
        elif verb == b"AUTH":
            self._say("235 2.7.0 welcome")
        elif verb in (b"RSET", b"NOOP"):
            self._sender = self._rcpt = ""
            self._say("250 2.0.0 ok")
        elif verb == b"QUIT":
            self._say("221 2.0.0 bye", 0)
            if self._transport is not None:
                self._transport.close()
        else:
            self._say("502 5.5.1 not here")

    def _hello(self) -> str:
        offers = [
            self._manners.name,
            "SIZE 52428800",
            "8BITMIME",
            "SMTPUTF8",
            "ENHANCEDSTATUSCODES",
            "AUTH PLAIN LOGIN",
        ]
        if self._manners.pipelining:
            offers.insert(1, "PIPELINING")
        if self._manners.tls is not None and not self._tls:
            offers.append("STARTTLS")
        return "\r\n".join(
            f"250{' ' if at == len(offers) - 1 else '-'}{offer}" for at, offer in enumerate(offers)
        )

    def _mail(self, line: bytes) -> None:
        if self._manners.rate:
            now, recent = time.monotonic(), self._seen.recent  # noqa: TID251
            while recent and recent[0] < now - 1:
                recent.popleft()
            if len(recent) >= self._manners.rate:
                self._seen.write(what="throttled", peer=self._peer, port=self._local)
                self._say("421 4.7.0 too much mail, come back later", 0)
                if self._transport is not None:
                    self._transport.close()
                return
            recent.append(now)
        self._sender = _address(line)
        self._say("250 2.1.0 ok")

    def _recipient(self, line: bytes) -> None:
        rcpt = _address(line)
        refusal = self._refusal(rcpt)
        self._seen.write(
            what="rcpt",
            peer=self._peer,
            port=self._local,
            ehlo=self._ehlo,
            sender=self._sender,
            rcpt=rcpt,
            reply=refusal or "250",
        )
        self._rcpt = "" if refusal else rcpt
        self._say(refusal or "250 2.1.5 ok")

    def _refusal(self, rcpt: str) -> str | None:
        if rcpt.startswith("unknown."):
            return "550 5.1.1 no such user here"
        if rcpt.startswith("full."):
            return "452 4.2.2 mailbox full"
        if self._manners.greylist:
            which, now = (self._peer, self._sender, rcpt), time.monotonic()  # noqa: TID251
            if now - self._seen.first.setdefault(which, now) < self._manners.greylist:
                return "451 4.7.1 greylisted, try again later"
        defer = _DEFER.match(rcpt)
        if defer:
            tries = self._seen.tries[rcpt] = self._seen.tries.get(rcpt, 0) + 1
            if tries <= int(defer[1]):
                return "451 4.3.0 try again later"
        return None

    def _data(self) -> None:
        if not self._rcpt:
            self._say("503 5.5.1 no valid recipient")
            return
        self._collecting = True
        self._say("354 go ahead")

    def _message(self, message: bytes) -> None:
        rcpt, self._rcpt = self._rcpt, ""
        reply, delay = "250 2.0.0 taken", self._manners.dot_delay
        if rcpt.startswith("refuse."):
            reply = "554 5.7.1 we do not want this message"
        if rcpt.startswith("slow."):
            delay = 3.0
        dropped = rcpt.startswith("drop.") and not self._seen.tries.get(rcpt)
        if dropped:
            self._seen.tries[rcpt] = 1
        head, _, _ = message.partition(b"\r\n\r\n")
        found = re.search(rb"(?im)^message-id:\s*(\S+)", head)
        file = self._seen.store(message) if reply.startswith("250") else ""
        self._seen.write(
            what="message",
            peer=self._peer,
            port=self._local,
            sender=self._sender,
            rcpt=rcpt,
            message_id=found[1].decode(errors="replace") if found else "",
            sha256=hashlib.sha256(message).hexdigest(),
            size=len(message),
            file=file,
            tls=self._tls,
            reply="dropped" if dropped else reply,
        )
        if dropped and self._transport is not None:
            self._transport.close()
        else:
            self._say(reply, delay)

    def _start_tls(self) -> None:
        assert self._transport is not None  # noqa: S101
        self._transport.write(b"220 2.0.0 go ahead\r\n")
        # What was pipelined behind STARTTLS is not to be trusted (RFC 3207 4.2).
        self._buffer = b""
        self._chain = asyncio.ensure_future(self._upgrade())

    async def _upgrade(self) -> None:
        assert self._transport is not None and self._manners.tls is not None  # noqa: S101, PT018
        try:
            made = await asyncio.get_running_loop().start_tls(
                self._transport, self, self._manners.tls, server_side=True
            )
        except (OSError, ssl.SSLError):
            self._transport.close()
            return
        finally:
            self._chain = None
        if made is None:
            return
        self._transport = made
        self._tls = made.get_extra_info("ssl_object").version() or ""
        self._work()


def _address(line: bytes) -> str:
    found = _PATH.search(line)
    return found[1].decode(errors="replace") if found else ""


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m services.cli.demo.receiver",
        description="A receiving SMTP server with chosen manners.",
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--name", default="mx.example.test")
    parser.add_argument("--log", type=Path, help="one JSON line for each RCPT and each message")
    parser.add_argument("--maildir", type=Path)
    parser.add_argument("--greylist", type=float, default=0.0, metavar="SECONDS")
    parser.add_argument("--rate", type=float, default=0.0, metavar="PER_SECOND")
    parser.add_argument(
        "--delay", type=float, default=0.0, metavar="SECONDS", help="before each reply"
    )
    parser.add_argument(
        "--dot-delay",
        type=float,
        default=0.0,
        metavar="SECONDS",
        help="before the reply to the final dot",
    )
    parser.add_argument(
        "--banner", default="", help="say this and close, for example '554 5.7.1 go away'"
    )
    parser.add_argument("--mute", action="store_true", help="accept connections and never answer")
    parser.add_argument("--no-pipelining", action="store_true")
    parser.add_argument(
        "--tls-cert", type=Path, help="PEM file with key and certificates: offers STARTTLS"
    )
    return parser.parse_args(argv)


def _manners(arguments: argparse.Namespace) -> Manners:
    tls = None
    if arguments.tls_cert is not None:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(arguments.tls_cert)
    return Manners(
        name=arguments.name,
        greylist=arguments.greylist,
        rate=arguments.rate,
        delay=arguments.delay,
        dot_delay=arguments.dot_delay,
        banner=arguments.banner,
        mute=arguments.mute,
        tls=tls,
        pipelining=not arguments.no_pipelining,
    )


async def serve(arguments: argparse.Namespace) -> None:
    """Serve until SIGTERM or SIGINT."""
    if arguments.maildir is not None:
        for part in ("tmp", "new", "cur"):
            (arguments.maildir / part).mkdir(parents=True, exist_ok=True)
    log = arguments.log.open("a") if arguments.log is not None else None
    seen, manners = Seen(log, arguments.maildir), _manners(arguments)
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    server = await loop.create_server(
        lambda: Session(manners, seen),
        arguments.host,
        arguments.port,
        family=socket.AF_UNSPEC,
        backlog=1024,
    )
    async with server:
        await stop.wait()


def main(argv: list[str] | None = None) -> int:
    """Run the server."""
    asyncio.run(serve(_arguments(argv)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
