"""Signatures are made in threads, in batches: the loop never waits for OpenSSL, which works without the GIL.

What is asked for in one turn of the loop is parted evenly among the threads and put into their queue, so a lone message never waits for
company. A thread takes what is there, up to 16 and not more than its share, and tells the loop of all of them at once: one hand-over for
many signatures, and none that has been ready for long. Threads take their next batch by themselves; they do not wait for a loop that is
busy. The hash of a shared body is kept, bounded by count. What nobody waits for any more is not begun. A signature that fails, fails for
its own waiter only.
"""

import asyncio
import contextlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Final, NamedTuple

from cryptography.exceptions import UnsupportedAlgorithm

from services.sender.dkim.sign import Hashes, Signer, hashes_of, sign
from shared.records.body import BodyRef
from shared.runtime.clock import Clock

_BATCH: Final = 16
_HASHES: Final = 4096
_S: Final = 1_000_000_000


class SigningFailed(Exception):
    """OpenSSL refused to sign with a key that it had read."""


#: The DKIM-Signature fields, or why there are none.
Signed = bytes | SigningFailed


@dataclass(slots=True, eq=False)
class Asked:
    """What was asked for; ``then`` hears of it in the loop."""

    signers: tuple[Signer, ...]
    prepend: bytes
    body: bytes
    shared: BodyRef | None
    #: None: nobody waits any more.
    then: Callable[[Signed], None] | None

    def cancel(self) -> None:
        """Want it no more; ``then`` is not called."""
        self.then = None


class _Made(NamedTuple):
    task: Asked
    fields: Signed
    hashed: Hashes


class SigningPool:
    """Sign in ``threads`` threads."""

    def __init__(self, threads: int, clock: Clock) -> None:
        """Start the threads; they end with ``close``, or with the process."""
        self._clock = clock
        self._turn: list[Asked] = []
        self._queue: SimpleQueue[list[Asked] | None] = SimpleQueue()
        self._hashes: OrderedDict[BodyRef, Hashes] = OrderedDict()
        self._busy = [False] * threads
        self._closed = False
        #: Of whoever asked first; asking for it each time would cost as much as the rest.
        self._loop: asyncio.AbstractEventLoop | None = None
        for number in range(threads):
            threading.Thread(
                target=self._work, args=(number,), name=f"dkim-{number}", daemon=True
            ).start()

    def __repr__(self) -> str:
        """Show how busy it is."""
        return f"<SigningPool [{sum(self._busy)}/{len(self._busy)} busy, {self._queue.qsize()} portions waiting]>"

    async def sign(
        self, signers: tuple[Signer, ...], prepend: bytes, body: bytes, shared: BodyRef | None
    ) -> bytes:
        """Give the DKIM-Signature fields of ``prepend + body``; the hash of a ``shared`` one is made once. Raises SigningFailed."""
        done: asyncio.Future[Signed] = asyncio.get_running_loop().create_future()

        def then(signed: Signed) -> None:
            if not done.done():
                done.set_result(signed)

        asked = self.ask(signers, prepend, body, shared, then)
        try:
            signed = await done
        finally:
            asked.cancel()
        if isinstance(signed, SigningFailed):
            raise signed
        return signed

    def ask(
        self,
        signers: tuple[Signer, ...],
        prepend: bytes,
        body: bytes,
        shared: BodyRef | None,
        then: Callable[[Signed], None],
    ) -> Asked:
        """Have ``then`` called with what ``sign`` gives, in a later turn of the loop, together with others."""
        asked = Asked(signers, prepend, body, shared, then)
        if not self._turn:
            if self._loop is None:
                self._loop = asyncio.get_running_loop()
            self._loop.call_soon(self._hand_over)
        self._turn.append(asked)
        return asked

    def _hand_over(self) -> None:
        tasks, self._turn = self._turn, []
        if self._closed:
            _refuse(tasks)
            return
        # Evenly: one thread with 16 and one with none would be half as fast.
        size = min(_BATCH, -(-len(tasks) // len(self._busy)))
        for at in range(0, len(tasks), size or 1):
            self._queue.put(tasks[at : at + size])

    # -- in the threads

    def _work(self, number: int) -> None:
        while (batch := self._queue.get()) is not None:
            self._busy[number] = True
            self._fill(batch)
            made = self._made([task for task in batch if task.then is not None])
            self._busy[number] = False
            if made and self._loop is not None:
                # The loop may be closed meanwhile, and then nobody waits.
                with contextlib.suppress(RuntimeError):
                    self._loop.call_soon_threadsafe(self._settle, made)

    def _fill(self, batch: list[Asked]) -> None:
        """Add what waits to a batch, as far as it is this thread's share."""
        share = self._queue.qsize() // len(self._busy)
        while share and len(batch) < _BATCH:
            share -= 1
            try:
                more = self._queue.get_nowait()
            except Empty:
                return
            if more is None:
                self._queue.put(None)
                return
            batch += more

    def _made(self, batch: Sequence[Asked]) -> list[_Made]:
        try:
            # Reading the hashes beside the loop is one operation of a dict.
            return _make(batch, self._hashes, self._clock.now_ns() // _S)
        except Exception as error:  # noqa: BLE001 - a bug: whoever waits must hear of it, and not wait for ever
            return [_Made(task, SigningFailed(repr(error)), {}) for task in batch]

    # -- in the loop

    def _settle(self, made: Sequence[_Made]) -> None:
        for task, fields, hashed in made:
            if task.shared is not None:
                self._remember(task.shared, hashed)
            try:
                _tell(task, fields)
            except Exception as error:  # noqa: BLE001 - one waiter's bug, and not the others'
                asyncio.get_running_loop().call_exception_handler(
                    {"message": "who waited for a signature failed", "exception": error}
                )

    def _remember(self, ref: BodyRef, hashed: Hashes) -> None:
        # Another batch may have hashed it in another way meanwhile.
        self._hashes[ref] = {**self._hashes.get(ref, {}), **hashed}
        self._hashes.move_to_end(ref)
        if len(self._hashes) > _HASHES:
            self._hashes.popitem(last=False)

    def close(self) -> None:
        """Let the threads end; what waits fails."""
        self._closed = True
        self._hand_over()
        with contextlib.suppress(Empty):
            while True:
                _refuse(self._queue.get_nowait() or ())
        for _ in self._busy:
            self._queue.put(None)


def _refuse(tasks: Iterable[Asked]) -> None:
    for task in tasks:
        _tell(task, SigningFailed("the signing pool is closed"))


def _tell(task: Asked, fields: Signed) -> None:
    then, task.then = task.then, None
    if then is not None:
        then(fields)


def _make(batch: Sequence[Asked], hashes: OrderedDict[BodyRef, Hashes], now_s: int) -> list[_Made]:
    fresh: dict[BodyRef, Hashes] = {}
    made = []
    for task in batch:
        known: Hashes = {}
        if task.shared is not None:
            known = fresh.get(task.shared) or hashes.get(task.shared) or known
        hashed = hashes_of(task.signers, task.body, known)
        if task.shared is not None:
            fresh[task.shared] = hashed
        try:
            fields = sign(task.signers, task.prepend, task.body, now_s, hashed)
        except (ValueError, UnsupportedAlgorithm) as error:
            made.append(_Made(task, SigningFailed(str(error)), hashed))
        else:
            made.append(_Made(task, fields, hashed))
    return made
