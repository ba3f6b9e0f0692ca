"""Signatures are made in threads, in batches: the loop never waits for OpenSSL, which works without the GIL.

Whatever is asked for while all threads are busy goes into the next batches, shared evenly over the threads that become free, up to 64 each:
one hand-over for many signatures, and a lone message never waits for company. The hash of a shared body is kept, bounded by count. What
nobody waits for any more is not begun. A signature that fails, fails for its own waiter only.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NamedTuple

from cryptography.exceptions import UnsupportedAlgorithm

from services.sender.dkim.sign import Hashes, Signer, hashes_of, sign
from shared.records.body import BodyRef
from shared.runtime.clock import Clock

_BATCH: Final = 64
_HASHES: Final = 4096
_S: Final = 1_000_000_000


class SigningFailed(Exception):
    """OpenSSL refused to sign with a key that it had read."""


class _Task(NamedTuple):
    signers: tuple[Signer, ...]
    prepend: bytes
    body: bytes
    shared: BodyRef | None
    done: "asyncio.Future[bytes]"


class _Made(NamedTuple):
    fields: bytes | SigningFailed
    hashed: Hashes


class SigningPool:
    """Sign in ``threads`` threads."""

    def __init__(self, threads: int, clock: Clock) -> None:
        """Start no thread yet: the executor does when there is work."""
        self._clock = clock
        self._threads = threads
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="dkim")
        self._free = threads
        self._due = False
        self._waiting: deque[_Task] = deque()
        self._hashes: OrderedDict[BodyRef, Hashes] = OrderedDict()
        self._batches: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        """Show how busy it is."""
        busy = self._threads - self._free
        return f"<SigningPool [{busy}/{self._threads} busy, {len(self._waiting)} waiting]>"

    async def sign(
        self, signers: tuple[Signer, ...], prepend: bytes, body: bytes, shared: BodyRef | None
    ) -> bytes:
        """Give the DKIM-Signature fields of ``prepend + body``; the hash of a ``shared`` one is made once. Raises SigningFailed."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[bytes] = loop.create_future()
        self._waiting.append(_Task(signers, prepend, body, shared, done))
        if not self._due:
            # Not at once: what is asked for in the same turn of the loop belongs into the same batch.
            self._due = True
            loop.call_soon(self._start)
        return await done

    def _start(self) -> None:
        self._due = False
        while self._free and self._waiting:
            # Evenly: one thread with 64 and one with none would be half as fast.
            size = min(_BATCH, -(-len(self._waiting) // self._free))
            taken = [self._waiting.popleft() for _ in range(size)]
            batch = [task for task in taken if not task.done.done()]
            if batch:
                self._free -= 1
                running = asyncio.create_task(self._run(batch))
                self._batches.add(running)
                running.add_done_callback(self._batches.discard)

    async def _run(self, batch: list[_Task]) -> None:
        known = [self._known(task.shared) for task in batch]
        now_s = self._clock.now_ns() // _S
        loop = asyncio.get_running_loop()
        try:
            results = await loop.run_in_executor(self._executor, _make, batch, known, now_s)
        except BaseException as error:
            # A bug, or the pool was closed: whoever waits must hear of it, and not wait for ever.
            for task in batch:
                if not task.done.done():
                    task.done.set_exception(SigningFailed(repr(error)))
            if isinstance(error, asyncio.CancelledError):
                raise
            return
        finally:
            self._free += 1
            self._start()
        for task, made in zip(batch, results, strict=True):
            if task.shared is not None:
                self._remember(task.shared, made.hashed)
            if task.done.done():
                continue
            if isinstance(made.fields, SigningFailed):
                task.done.set_exception(made.fields)
            else:
                task.done.set_result(made.fields)

    def _known(self, ref: BodyRef | None) -> Hashes:
        if ref is None or ref not in self._hashes:
            return {}
        self._hashes.move_to_end(ref)
        return self._hashes[ref]

    def _remember(self, ref: BodyRef, hashed: Hashes) -> None:
        # Another batch may have hashed it in another way meanwhile.
        self._hashes[ref] = {**self._hashes.get(ref, {}), **hashed}
        self._hashes.move_to_end(ref)
        if len(self._hashes) > _HASHES:
            self._hashes.popitem(last=False)

    def close(self) -> None:
        """Let the threads end; what waits fails."""
        self._executor.shutdown(wait=False, cancel_futures=True)
        while self._waiting:
            task = self._waiting.popleft()
            if not task.done.done():
                task.done.set_exception(SigningFailed("the signing pool is closed"))


def _make(batch: Sequence[_Task], known: Sequence[Hashes], now_s: int) -> list[_Made]:
    hashes: dict[BodyRef, Hashes] = {}
    made = []
    for task, kept in zip(batch, known, strict=True):
        if task.shared is None:
            hashed = hashes_of(task.signers, task.body, kept)
        else:
            hashed = hashes_of(task.signers, task.body, hashes.get(task.shared, kept))
            hashes[task.shared] = hashed
        try:
            made.append(_Made(sign(task.signers, task.prepend, task.body, now_s, hashed), hashed))
        except (ValueError, UnsupportedAlgorithm) as error:
            made.append(_Made(SigningFailed(str(error)), hashed))
    return made
