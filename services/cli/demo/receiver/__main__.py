"""``python -m services.cli.demo.receiver``: serve until SIGTERM or SIGINT."""

import argparse
import asyncio
import signal
import ssl
import sys
from pathlib import Path

import uvloop

from services.cli.demo.receiver.manners import Doorman, Manners
from services.cli.demo.receiver.seen import Seen
from services.cli.demo.receiver.session import Common, Session
from shared.runtime.clock import SystemClock


def _pair(text: str, mark: str) -> tuple[str, str]:
    left, found, right = text.partition(mark)
    if not found or not left:
        raise argparse.ArgumentTypeError(f'expected two words with "{mark}" between, got "{text}"')
    return left, right


def _delay(text: str) -> tuple[str, float]:
    verb, seconds = _pair(text, "=")
    return verb.upper(), float(seconds)


def _user(text: str) -> tuple[str, str]:
    return _pair(text, ":")


def _script(text: str) -> tuple[int, int, str]:
    which, reply = _pair(text, "=")
    first, count = _pair(which, "+")
    return int(first), int(count), reply


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m services.cli.demo.receiver",
        description="A receiving SMTP server with chosen manners.",
        epilog="Recipients choose their fate by how their local part begins: "
        "unknown. full. deferN. refuse. drop. slow.",
    )
    add = parser.add_argument
    add("--host", default="127.0.0.1")
    add("--port", type=int, required=True)
    add("--name", default="mx.example.test")
    add("--log", type=Path, help="one JSON line for each RCPT, each message, each 421")
    add("--maildir", type=Path, help="where messages are kept; without it they are thrown away")
    for option, what in (
        ("--greylist", "451 for a new (address, sender, recipient), for so long"),
        ("--delay", "before each reply"),
        ("--dot-delay", "before the reply to the final dot"),
    ):
        add(option, type=float, default=0.0, metavar="SECONDS", help=what)
    add("--rate", type=int, default=0, metavar="PER_SECOND", help="421 above it, instead of 250")
    add(
        "--script",
        type=_script,
        action="append",
        default=[],
        metavar="FIRST+COUNT=REPLY",
        help="refuse so many of all recipients that are tried with this reply",
    )
    add("--delay-at", type=_delay, action="append", default=[], metavar="VERB=SECONDS")
    add("--banner", default="", help='say this and close, for example "554 5.7.1 go away"')
    add("--mute", action="store_true", help="accept connections and never answer")
    add("--no-pipelining", action="store_true")
    add("--wordy", action="store_true", help="every reply has two lines")
    add("--user", type=_user, action="append", default=[], metavar="NAME:PASSWORD")
    add("--tls-cert", type=Path, help="PEM file with key and certificates: offers STARTTLS")
    return parser.parse_args(argv)


def manners(given: argparse.Namespace) -> Manners:
    """Turn options into manners."""
    return Manners(
        name=given.name,
        greylist_s=given.greylist,
        rate=given.rate,
        delay_s=given.delay,
        dot_delay_s=given.dot_delay,
        delays_s=dict(given.delay_at),
        banner=given.banner,
        mute=given.mute,
        pipelining=not given.no_pipelining,
        wordy=given.wordy,
        script=tuple(given.script),
        users=dict(given.user),
    )


def _context(path: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context


async def serve(given: argparse.Namespace) -> None:
    """Serve until told to stop."""
    clock = SystemClock()
    log = given.log.open("ab") if given.log is not None else None
    tls = _context(given.tls_cert) if given.tls_cert is not None else None
    common = Common(Doorman(manners(given)), Seen(clock, log, given.maildir), clock, tls)
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    server = await loop.create_server(
        lambda: Session(common), given.host, given.port, backlog=1024, reuse_address=True
    )
    await stop.wait()
    # Not ``async with``: it would wait for senders that keep their connections.
    server.close()


def main(argv: list[str] | None = None) -> int:
    """Run the server."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(arguments(argv)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
