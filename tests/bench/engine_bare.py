"""The least that a sender in Python can do, as one process: sign in threads, and write; nothing is checked, limited, timed or told.

    python -m tests.bench.engine_bare TARGET MESSAGES BYTES CONNECTIONS

Signatures are made ahead in large batches, 20 or so connections say MAIL, RCPT and DATA in one write and believe every answer. Beside it
stands what the engine adds: it cannot be faster than this. Prints one JSON object, as ``engine_sender`` does.
"""

import asyncio
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import Final, cast

from services.sender.dkim import processor

processor.choose()  # As the sender does.

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key  # noqa: E402

from services.sender.dkim.sign import Signer, hashes_of, sign  # noqa: E402
from tests.bench.engine_sender import THREADS, Result, bare_rsa_s, main  # noqa: E402
from tests.bench.mail import message  # noqa: E402
from tests.bench.submissions import DOMAIN, SELECTOR, SENDER  # noqa: E402

_BATCH: Final = 64
_BATCHES_AHEAD: Final = 4
_WARM_UP: Final = 200
#: The answers that end a message: to MAIL, RCPT, DATA, and the dot.
_DATA: Final = 3


class Bare:
    """Gives every free connection the next signed message."""

    def __init__(self, key: RSAPrivateKey, body: bytes, connections: int) -> None:
        self._signers, self._body = (Signer(DOMAIN, SELECTOR, key),), body
        self._threads = ThreadPoolExecutor(THREADS)
        self._loop = asyncio.get_running_loop()
        self._signed: deque[bytes] = deque()
        self._connections = connections
        self.free: list[Wire] = []
        #: Messages of a run: wanted, asked for, begun, done; and the batches under way.
        self._wanted = self._asked = self._begun = self._done = 0
        self._batches = 0
        self._end = asyncio.Event()

    async def begin(self, host: str, port: int) -> None:
        """Open the connections."""
        for _ in range(self._connections):
            await self._loop.create_connection(lambda: Wire(self), host, port)
        while len(self.free) < self._connections:
            await asyncio.sleep(0.01)

    async def run(self, count: int) -> None:
        """Send so many."""
        self._wanted = count
        self._asked = self._begun = self._done = 0
        self._end.clear()
        self._ask()
        await self._end.wait()

    def _ask(self) -> None:
        while self._batches < _BATCHES_AHEAD and self._asked < self._wanted:
            size = min(_BATCH, self._wanted - self._asked)
            self._asked += size
            self._batches += 1
            future = self._loop.run_in_executor(self._threads, self._batch, size)
            future.add_done_callback(self._made)

    def _batch(self, size: int) -> list[bytes]:
        mail, now_s = self._body, int(time.time())
        return [
            sign(self._signers, b"", mail, now_s, hashes_of(self._signers, mail, {})) + mail
            for _ in range(size)
        ]

    def _made(self, future: "asyncio.Future[list[bytes]]") -> None:
        self._batches -= 1
        self._signed.extend(future.result())
        self._ask()
        while self.free and self._signed:
            self._give(self.free.pop())

    def ended(self, wire: "Wire") -> None:
        """Hear that a message has its answer."""
        self._done += 1
        self.idle(wire)
        if self._done == self._wanted:
            self._end.set()

    def idle(self, wire: "Wire") -> None:
        """Take a connection that has nothing to do."""
        if self._signed:
            self._give(wire)
        else:
            self.free.append(wire)

    def _give(self, wire: "Wire") -> None:
        self._begun += 1
        wire.send(b"u%d@bench.test" % self._begun, self._signed.popleft())


class Wire(asyncio.Protocol):
    """A connection that believes what it reads, line by line."""

    def __init__(self, bare: Bare) -> None:
        self._bare = bare
        self._rest = self._mail = b""
        #: Answers since the last message began; below 0: the greeting, and EHLO's.
        self._answers = -2
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def send(self, to: bytes, mail: bytes) -> None:
        """Say the envelope; the mail follows when the peer wants it."""
        assert self._transport is not None
        self._mail, self._answers = mail, 0
        envelope = b"MAIL FROM:<%b>\r\nRCPT TO:<%b>\r\nDATA\r\n" % (SENDER.encode(), to)
        self._transport.write(envelope)

    def data_received(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\r\n")
        for line in lines:
            if line[3:4] != b"-":
                self._answered(line)

    def _answered(self, line: bytes) -> None:
        assert self._transport is not None
        if line[:1] not in b"23":
            raise SystemExit(f"the receiver said {line!r}")
        self._answers += 1
        if self._answers == -1:
            self._transport.write(b"EHLO bench.example\r\n")
        elif self._answers == 0:
            self._bare.idle(self)
        elif self._answers == _DATA:
            self._transport.write(self._mail.replace(b"\r\n.", b"\r\n..") + b".\r\n")
        elif self._answers > _DATA:
            self._bare.ended(self)


async def measure(target: str, count: int, size: int, connections: int) -> Result:
    """Warm up, then send ``count`` and say what it took."""
    key = generate_private_key(65537, 2048)
    rsa_s = bare_rsa_s(key)
    bare = Bare(key, message(size), connections)
    host, _, port = target.rpartition(":")
    await bare.begin(host, int(port))
    await bare.run(_WARM_UP)
    begun, cpu, loop = time.monotonic(), time.process_time(), time.thread_time()
    await bare.run(count)
    return Result(
        seconds=time.monotonic() - begun,
        cpu_s=time.process_time() - cpu,
        loop_cpu_s=time.thread_time() - loop,
        rsa_s=rsa_s,
    )


if __name__ == "__main__":
    main(measure)
