"""Signatures are made in threads, in batches: the loop never waits for OpenSSL, which works without the GIL.

Whatever is asked for while a batch is being made goes into the next one, up to 64: one hand-over to a thread for many signatures.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NamedTuple

from services.sender.dkim.canonicalise import part
from services.sender.dkim.sign import Signer, body_hash, sign
from shared.records.body import BodyRef
from shared.runtime.clock import Clock

_BATCH: Final = 64
_HASHES: Final = 4096
_S: Final = 1_000_000_000


class _Task(NamedTuple):
    signers: tuple[Signer, ...]
    prepend: bytes
    body: bytes
    shared: BodyRef | None
    done: "asyncio.Future[bytes]"


class SigningPool:
    """Sign in ``threads`` threads."""

    def __init__(self, threads: int, clock: Clock) -> None:
        """Start no thread yet: the executor does when there is work."""
        self._clock = clock
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="dkim")
        self._free = threads
        self._waiting: deque[_Task] = deque()
        self._hashes: OrderedDict[BodyRef, bytes] = OrderedDict()
        self._batches: set[asyncio.Task[None]] = set()

    async def sign(
        self, signers: tuple[Signer, ...], prepend: bytes, body: bytes, shared: BodyRef | None
    ) -> bytes:
        """Give the DKIM-Signature fields of ``prepend + body``; the hash of a ``shared`` body is made once."""
        done: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Task(signers, prepend, body, shared, done))
        # Not at once: what arrives in the same turn of the loop belongs into the same batch.
        asyncio.get_running_loop().call_soon(self._start)
        return await done

    def _start(self) -> None:
        while self._free and self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(_BATCH, len(self._waiting)))]
            batch = [task for task in batch if not task.done.done()]
            if not batch:
                continue
            self._free -= 1
            running = asyncio.ensure_future(self._run(batch))
            self._batches.add(running)
            running.add_done_callback(self._batches.discard)

    async def _run(self, batch: list[_Task]) -> None:
        now_s = self._clock.now_ns() // _S
        known = [
            self._hashes.get(task.shared) if task.shared is not None else None for task in batch
        ]
        loop = asyncio.get_running_loop()
        try:
            results = await loop.run_in_executor(self._executor, _sign_all, batch, known, now_s)
        finally:
            self._free += 1
        for task, (signature, hashed) in zip(batch, results, strict=True):
            if task.shared is not None:
                self._remember(task.shared, hashed)
            if not task.done.done():
                task.done.set_result(signature)
        self._start()

    def _remember(self, ref: BodyRef, hashed: bytes) -> None:
        self._hashes[ref] = hashed
        if len(self._hashes) > _HASHES:
            self._hashes.popitem(last=False)

    def close(self) -> None:
        """Let the threads end."""
        self._executor.shutdown(wait=False, cancel_futures=True)


def _sign_all(
    batch: Sequence[_Task], known: Sequence[bytes | None], now_s: int
) -> list[tuple[bytes, bytes]]:
    found = []
    for task, hashed in zip(batch, known, strict=True):
        made = hashed or body_hash(part(task.body)[1])
        found.append((sign(task.signers, task.prepend, task.body, now_s, made), made))
    return found
