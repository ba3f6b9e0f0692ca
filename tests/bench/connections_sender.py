"""Many connections of one sender process: what they cost while nothing is sent, what TLS costs, full and resumed, and mail over thousands.

    python -m tests.bench.connections_sender PLAIN_PORT TLS_PORT

The receivers listen on every address of loopback, so each address stands for a site. Prints one JSON object.
"""

import asyncio
import gc
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final, TypeVar

import msgspec
import uvloop

from services.sender.smtp.connect import Endpoint, Origin, Tls, connect
from services.sender.smtp.connection import Connection
from services.sender.smtp.envelope import Transaction
from services.sender.smtp.session import Accepted
from services.sender.smtp.timeouts import Timeouts
from services.sender.sources.paths import Open
from services.sender.tlspolicy import TlsPolicy
from shared.net.tls import context
from shared.runtime.clock import SystemClock
from shared.runtime.settings import Source
from tests.bench.mail import message
from tests.bench.submissions import SENDER
from tests.support.sending import send

SITES: Final = 500
TO_EACH: Final = 4
_TLS: Final = 300
_MESSAGES: Final = 1_500
_AT_ONCE: Final = 20

T = TypeVar("T")


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen."""

    #: Memory that one idle connection holds, KiB.
    idle_kib: float
    idle_tls_kib: float
    #: Connecting, greeting, full TLS handshake, greeting.
    handshakes_per_s: float
    handshake_cpu_us: float
    #: The same, with the ticket of an earlier connection.
    resumed_per_s: float
    resumed_cpu_us: float
    warm_tls_per_s: float
    warm_plain_per_s: float
    #: Over SITES x TO_EACH connections that are all open.
    wide_per_s: float
    wide_cpu_us: float


async def _all(jobs: Sequence[Callable[[], Awaitable[T]]]) -> list[T]:
    """Do all of them, some at once."""
    gate = asyncio.Semaphore(_AT_ONCE)

    async def one(job: Callable[[], Awaitable[T]]) -> T:
        async with gate:
            return await job()

    return await asyncio.gather(*map(one, jobs))


def _endpoint(address: str, port: int) -> Endpoint:
    return Endpoint(f"mx.{address}.example", address, port)


def _opening(address: str, port: int, tls: Tls) -> Callable[[], Awaitable[Connection]]:
    return lambda: connect(
        _endpoint(address, port),
        Origin("bench.example", Open().open),
        tls,
        timeouts=Timeouts(),
        clock=SystemClock(),
    )


async def _yes() -> bool:
    return True


def _sending(connection: Connection, body: bytes) -> Callable[[], Awaitable[None]]:
    async def sent() -> None:
        what = Transaction(SENDER, "someone@bench.test", len(body))
        report = await send(connection, what, (body,), _yes, _yes, within_ns=60_000_000_000)
        assert isinstance(report.result, Accepted), report

    return sent


async def _rate(connections: Sequence[Connection], count: int, body: bytes) -> tuple[float, float]:
    """Send in turn over all of them; gives messages a second and CPU microseconds a message."""
    begun, cpu = time.monotonic(), time.process_time()
    share = count // len(connections)

    async def many(connection: Connection) -> None:
        for _ in range(share):
            await _sending(connection, body)()

    await asyncio.gather(*map(many, connections))
    sent = share * len(connections)
    return sent / (time.monotonic() - begun), (time.process_time() - cpu) / sent * 1e6


async def _resumed(port: int) -> tuple[float, float]:
    """Connect again and again to a host that is known; gives connections a second and CPU microseconds for each."""
    policy, source = TlsPolicy(), Source("bench", 0, "direct", "none")

    async def one() -> Connection:
        tls = policy.first(
            _endpoint("127.0.0.1", port), "encrypted", source, SystemClock().now_ns()
        )
        return await _opening("127.0.0.1", port, tls)()

    first = await one()
    begun, cpu = time.monotonic(), time.process_time()
    opened = await _all([one] * _TLS)
    took, used = time.monotonic() - begun, time.process_time() - cpu
    assert all(each.peer.resumed for each in opened), "all of them are resumed"
    _close([first, *opened])
    return _TLS / took, used / _TLS * 1e6


def _rss_kib() -> float:
    gc.collect()
    fields = Path("/proc/self/statm").read_text().split()
    return int(fields[1]) * 4.0


def _close(connections: Sequence[Connection]) -> None:
    for connection in connections:
        connection.close()


async def measure(plain: int, secure: int) -> Result:
    """Measure one after the other."""
    body = message(2_000)
    none, tls = Tls("none"), Tls("required", context("encrypted"))
    # What the first of a kind costs is not a connection's.
    warm = [await _opening("127.0.0.1", secure, tls)(), await _opening("127.0.0.1", plain, none)()]
    for connection in warm:
        await _sending(connection, body)()

    before, begun, cpu = _rss_kib(), time.monotonic(), time.process_time()
    encrypted = await _all([_opening("127.0.0.1", secure, tls)] * _TLS)
    took, used = time.monotonic() - begun, time.process_time() - cpu
    idle_tls = (_rss_kib() - before) / _TLS
    warm_tls, _ = await _rate(encrypted[:_AT_ONCE], _MESSAGES, body)
    _close(encrypted)
    resumed, resumed_cpu = await _resumed(secure)

    before = _rss_kib()
    sites = [f"127.{10 + at // 250}.0.{1 + at % 250}" for at in range(SITES)]
    wide = await _all([_opening(site, plain, none) for site in sites for _ in range(TO_EACH)])
    idle = (_rss_kib() - before) / len(wide)
    warm_plain, _ = await _rate(wide[:_AT_ONCE], _MESSAGES, body)
    wide_rate, wide_cpu = await _rate(wide, len(wide), body)
    assert all(connection.usable for connection in wide), "all of them are still open"
    _close([*wide, *warm])
    await asyncio.sleep(0.1)
    return Result(
        idle_kib=idle,
        idle_tls_kib=idle_tls,
        handshakes_per_s=_TLS / took,
        handshake_cpu_us=used / _TLS * 1e6,
        resumed_per_s=resumed,
        resumed_cpu_us=resumed_cpu,
        warm_tls_per_s=warm_tls,
        warm_plain_per_s=warm_plain,
        wide_per_s=wide_rate,
        wide_cpu_us=wide_cpu,
    )


def main(plain: int, secure: int) -> None:
    """Run once and print the result."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        result = runner.run(measure(plain, secure))
    sys.stdout.buffer.write(msgspec.json.encode(result) + b"\n")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
