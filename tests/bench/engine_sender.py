"""The sender engine alone, as one process: a slot's line with grants in hand, real signatures, real connections, no Kafka.

    python -m tests.bench.engine_sender TARGET MESSAGES BYTES CONNECTIONS

What Kafka would say is said at once: `started` is stamped when it is asked for, outcomes are counted. Prints one JSON object.
"""

import asyncio
import sys
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, cast

from services.sender.dkim import processor

processor.choose()  # As the sender does, so the bare operation is measured in the same way.

import msgspec  # noqa: E402
import structlog  # noqa: E402
import uvloop  # noqa: E402
from cryptography.hazmat.primitives import hashes  # noqa: E402
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15  # noqa: E402
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key  # noqa: E402
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed  # noqa: E402

from services.sender.dkim.pool import Signed, SigningFailed, SigningPool  # noqa: E402
from services.sender.dkim.sign import Signer  # noqa: E402
from services.sender.line import Line, Tools  # noqa: E402
from services.sender.messages import Made  # noqa: E402
from services.sender.reach import Knock  # noqa: E402
from services.sender.smtp.connect import Endpoint, Origin, Tls, connect  # noqa: E402
from services.sender.smtp.connection import Connection  # noqa: E402
from services.sender.smtp.report import Report  # noqa: E402
from services.sender.smtp.timeouts import Timeouts  # noqa: E402
from services.sender.sources.paths import Open  # noqa: E402
from shared.records.grant import Grant  # noqa: E402
from shared.records.outcome import Handback, Outcome  # noqa: E402
from shared.runtime.clock import Clock, SystemClock  # noqa: E402
from shared.runtime.settings import Settings  # noqa: E402
from tests.bench.mail import message  # noqa: E402
from tests.bench.submissions import DOMAIN, SELECTOR, SENDER  # noqa: E402

if TYPE_CHECKING:
    from services.sender.journal import Journal
    from services.sender.messages import Messages
    from services.sender.ownership import SlotOwner
    from services.sender.reach import Reach

#: What the dispatch reader would have in hand.
_AHEAD: Final = 400
THREADS: Final = 2
_WARM_UP: Final = 200
_LEASE_NS: Final = 600_000_000_000


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What one run was."""

    seconds: float
    cpu_s: float
    #: Of it, the first thread's: the loop.
    loop_cpu_s: float
    #: Of one bare RSA operation, before the run.
    rsa_s: float


@dataclass(slots=True)
class _Owner:
    """Owns slot 0 for good."""

    clock: Clock
    slot: int = 0
    epoch: int = 1
    source: str = "bench"
    stopping: bool = False

    @property
    def beat_stamp_ns(self) -> int:
        return self.clock.now_ns()

    def acting(self, mono_ns: int) -> bool:
        return True

    def may_start(self, mono_ns: int) -> bool:
        return True


@dataclass(slots=True)
class _Journal:
    """Acknowledges at once, and counts."""

    clock: Clock
    results: Counter[str] = field(default_factory=Counter)
    unacknowledged: Counter[int] = field(default_factory=Counter)
    said: asyncio.Event = field(default_factory=asyncio.Event)

    def prompt(self, partition: int) -> bool:
        return True

    def started(self, grant: Grant, then: Callable[[int], None]) -> None:
        then(self.clock.now_ns())

    def say(self, grant: Grant, record: Outcome | Handback) -> None:
        self.results[record.result if isinstance(record, Outcome) else record.reason] += 1
        self.said.set()


@dataclass(slots=True)
class _Messages:
    """Signs with one key that needs no file."""

    signing: SigningPool
    signers: tuple[Signer, ...]
    overhead_bytes: int = 1000

    def ask(self, grant: Grant, body: bytes, then: Callable[[Made], None]) -> Callable[[], object]:
        def signed(fields: Signed) -> None:
            then(fields if isinstance(fields, SigningFailed) else (fields, b"", body))

        return self.signing.ask(self.signers, b"", body, None, signed).cancel


@dataclass(slots=True)
class _Reach:
    """Connects to one address."""

    endpoint: Endpoint
    clock: Clock
    usable: bool = True

    def serves(self, connection: Connection, grant: Grant) -> bool:
        return True

    def learn(self, connection: Connection, report: Report) -> None:
        pass

    async def connect(self, grant: Grant, knock: Knock) -> Connection:
        return await connect(
            self.endpoint,
            Origin("bench.example", Open().open),
            Tls("none"),
            timeouts=Timeouts(),
            clock=self.clock,
        )


@dataclass(slots=True)
class Engine:
    """One line, and what it is given."""

    line: Line
    journal: _Journal
    clock: Clock
    connections: int
    _offered: int = 0

    def offer(self, body: bytes) -> None:
        self._offered += 1
        now = self.clock.now_ns()
        self.line.offer(
            Grant(
                id=f"b-{self._offered}",
                n=1,
                slot=0,
                epoch=1,
                part=0,
                t0_ns=now,
                t1_ns=now + _LEASE_NS,
                tenant="acme",
                class_="bulk",
                from_=SENDER,
                to=f"u{self._offered}@bench.test",
                domain="bench.test",
                site="bench.test",
                limit_key="bench",
                size_bytes=len(body),
                header_domain=DOMAIN,
                connections=self.connections,
                messages_per_connection=1_000_000,
            ),
            body,
        )

    async def run(self, count: int, body: bytes) -> None:
        """Send so many, with some hundred in hand as the dispatch reader would have."""
        begun = self._offered
        while (done := self.journal.results.total()) < begun + count:
            while self._offered < min(done + _AHEAD, begun + count):
                self.offer(body)
            self.journal.said.clear()
            await self.journal.said.wait()


def _engine(target: str, key: RSAPrivateKey, connections: int) -> Engine:
    host, _, port = target.rpartition(":")
    clock = SystemClock()
    journal = _Journal(clock)
    messages = _Messages(SigningPool(THREADS, clock), (Signer(DOMAIN, SELECTOR, key),))
    tools = Tools(
        Settings(),
        clock,
        cast("Journal", journal),
        cast("Messages", messages),
        structlog.get_logger(),
    )
    reach = _Reach(Endpoint(host, host, int(port)), clock)
    line = Line(cast("SlotOwner", _Owner(clock)), cast("Reach", reach), tools)
    line.new_epoch()
    return Engine(line, journal, clock, connections)


def bare_rsa_s(key: RSAPrivateKey) -> float:
    """CPU seconds of one RSA operation, the best of several rounds."""
    digest, padding, prehashed = bytes(32), PKCS1v15(), Prehashed(hashes.SHA256())
    best = float("inf")
    for _ in range(5):
        begun = time.thread_time()
        for _ in range(100):
            key.sign(digest, padding, prehashed)
        best = min(best, (time.thread_time() - begun) / 100)
    return best


async def measure(target: str, count: int, size: int, connections: int) -> Result:
    """Warm up, then send ``count`` and say what it took."""
    key = generate_private_key(65537, 2048)
    rsa_s = bare_rsa_s(key)
    engine, body = _engine(target, key, connections), message(size)
    await engine.run(_WARM_UP, body)
    begun, cpu, loop = time.monotonic(), time.process_time(), time.thread_time()
    await engine.run(count, body)
    result = Result(
        seconds=time.monotonic() - begun,
        cpu_s=time.process_time() - cpu,
        loop_cpu_s=time.thread_time() - loop,
        rsa_s=rsa_s,
    )
    if set(engine.journal.results) != {"delivered"}:
        raise SystemExit(f"not all were delivered: {engine.journal.results}")
    await engine.line.close()
    return result


def main(measuring: Callable[..., Coroutine[object, object, Result]]) -> None:
    """Run once by the words of the command line, and print the result."""
    target, *numbers = sys.argv[1:]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        result = runner.run(measuring(target, *map(int, numbers)))
    sys.stdout.buffer.write(msgspec.json.encode(result) + b"\n")


if __name__ == "__main__":
    main(measure)
