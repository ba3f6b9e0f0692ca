import asyncio
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from services.sender.dkim.pool import SigningFailed, SigningPool
from services.sender.dkim.sign import Header, Signer
from shared.records.body import BodyRef
from shared.runtime.clock import SystemClock
from shared.runtime.settings import Canonicalization
from tests.support.dkim import fields_of, verified

_MESSAGE = b"From: a@acme.example\r\nSubject: hello\r\n\r\nHello.\r\n"


@dataclass(frozen=True)
class _Watched(Signer):
    """A signer that notes who signed and may hold its thread up."""

    threads: list[int] = field(kw_only=True)
    gate: threading.Event = field(kw_only=True)

    def field(self, header: Header, hashed: bytes, now_s: int) -> bytes:
        self.threads.append(threading.get_ident())
        assert self.gate.wait(60)
        return super().field(header, hashed, now_s)


@pytest.fixture
def signer(rsa_key: RSAPrivateKey) -> Signer:
    return Signer("acme.example", "s", rsa_key)


@pytest.fixture
async def pool() -> AsyncIterator[SigningPool]:
    ours = SigningPool(2, SystemClock())
    yield ours
    ours.close()


async def test_each_message_gets_its_own_signature(pool: SigningPool, signer: Signer) -> None:
    messages = [_MESSAGE + b"%d\r\n" % at for at in range(300)]
    fields = await asyncio.gather(*(pool.sign((signer,), b"", each, None) for each in messages))
    for made, message in zip(fields, messages, strict=True):
        assert verified(made + message, signer.key)


async def test_a_lone_message_does_not_wait_for_company(pool: SigningPool, signer: Signer) -> None:
    async with asyncio.timeout(60):
        assert await pool.sign((signer,), b"X: y\r\n", _MESSAGE, None)


async def test_a_burst_is_shared_by_the_threads_and_the_loop_goes_on(
    pool: SigningPool, rsa_key: RSAPrivateKey
) -> None:
    gate, threads = threading.Event(), list[int]()
    watched = _Watched("acme.example", "s", rsa_key, threads=threads, gate=gate)
    asked = [asyncio.create_task(pool.sign((watched,), b"", _MESSAGE, None)) for _ in range(10)]
    async with asyncio.timeout(60):
        while len(threads) < 2:
            await asyncio.sleep(0.001)
    assert len(set(threads)) == 2
    assert repr(pool) == "<SigningPool [2/2 busy, 0 portions waiting]>"
    gate.set()
    await asyncio.gather(*asked)
    assert sorted(threads.count(each) for each in set(threads)) == [5, 5]
    assert threading.get_ident() not in threads
    assert repr(pool) == "<SigningPool [0/2 busy, 0 portions waiting]>"


async def test_whoever_gave_up_before_its_turn_is_not_signed_for(rsa_key: RSAPrivateKey) -> None:
    gate, threads = threading.Event(), list[int]()
    watched = _Watched("acme.example", "s", rsa_key, threads=threads, gate=gate)
    pool = SigningPool(1, SystemClock())
    first = asyncio.create_task(pool.sign((watched,), b"", _MESSAGE, None))
    async with asyncio.timeout(60):
        while not threads:
            await asyncio.sleep(0.001)
    late = asyncio.create_task(pool.sign((watched,), b"", _MESSAGE, None))
    last = asyncio.create_task(pool.sign((watched,), b"", _MESSAGE, None))
    await asyncio.sleep(0)
    late.cancel()
    await asyncio.sleep(0)
    gate.set()
    assert await first
    assert await last
    assert late.cancelled()
    assert len(threads) == 2
    pool.close()


async def test_a_signature_that_fails_fails_for_its_own_waiter_only(
    pool: SigningPool, signer: Signer
) -> None:
    class Refusing(Signer):
        def field(self, *_: object) -> bytes:
            raise ValueError("digest too large for key size")

    bad = Refusing("acme.example", "s", signer.key)
    good, failed = await asyncio.gather(
        pool.sign((signer,), b"", _MESSAGE, None),
        pool.sign((bad,), b"", _MESSAGE, None),
        return_exceptions=True,
    )
    assert isinstance(good, bytes)
    assert isinstance(failed, SigningFailed)
    assert "too large" in str(failed)


async def test_a_bug_in_a_thread_reaches_whoever_waits_and_the_pool_works_on(
    pool: SigningPool, signer: Signer
) -> None:
    class Buggy(Signer):
        def field(self, *_: object) -> bytes:
            raise ZeroDivisionError

    with pytest.raises(SigningFailed, match="ZeroDivisionError"):
        await pool.sign((Buggy("acme.example", "s", signer.key),), b"", _MESSAGE, None)
    assert await pool.sign((signer,), b"", _MESSAGE, None)


async def test_a_shared_body_is_hashed_once_whatever_is_put_before_it(
    pool: SigningPool, signer: Signer
) -> None:
    ref = BodyRef(partition=0, offset=7, size_bytes=len(_MESSAGE))
    for at in range(3):
        prepend = b"Message-ID: <%d@acme.example>\r\n" % at
        made = await pool.sign((signer,), prepend, _MESSAGE, ref)
        assert verified(made + prepend + _MESSAGE, signer.key)
    # Another body under the same reference shows that the hash was kept: its own would differ.
    made = await pool.sign((signer,), b"", _MESSAGE + b"more\r\n", ref)
    assert verified(made + _MESSAGE, signer.key)
    # Signed in another way it has another hash, and that one is kept beside it.
    simple = replace(signer, canonicalization=Canonicalization("relaxed", "simple"))
    for body in (_MESSAGE, _MESSAGE + b"more\r\n"):
        made = await pool.sign((simple, signer), b"", body, ref)
        assert verified(made + _MESSAGE, signer.key, 0)
        assert verified(made + _MESSAGE, signer.key, 1)


async def test_a_closed_pool_leaves_nobody_waiting(rsa_key: RSAPrivateKey) -> None:
    gate, threads = threading.Event(), list[int]()
    watched = _Watched("acme.example", "s", rsa_key, threads=threads, gate=gate)
    pool = SigningPool(1, SystemClock())
    first = asyncio.create_task(pool.sign((watched,), b"", _MESSAGE, None))
    async with asyncio.timeout(60):
        while not threads:
            await asyncio.sleep(0.001)
    waiting = asyncio.create_task(pool.sign((watched,), b"", _MESSAGE, None))
    await asyncio.sleep(0.01)
    pool.close()
    gate.set()
    assert await first
    with pytest.raises(SigningFailed, match="closed"):
        await waiting
    with pytest.raises(SigningFailed, match="closed"):
        await pool.sign((watched,), b"", _MESSAGE, None)


async def test_what_waited_while_a_thread_was_busy_is_signed_as_one_batch(
    rsa_key: RSAPrivateKey,
) -> None:
    gate, threads = threading.Event(), list[int]()
    watched = _Watched("acme.example", "s", rsa_key, threads=threads, gate=gate)
    pool = SigningPool(1, SystemClock())
    asked = [asyncio.create_task(pool.sign((watched,), b"", _MESSAGE, None))]
    async with asyncio.timeout(60):
        while not threads:
            await asyncio.sleep(0.001)
    for _ in range(3):
        asked.append(asyncio.create_task(pool.sign((watched,), b"", _MESSAGE, None)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert repr(pool) == "<SigningPool [1/1 busy, 3 portions waiting]>"
    gate.set()
    await asked[0]
    await asked[1]
    # They were told of in one breath, so when one is there all are.
    assert all(task.done() for task in asked)
    pool.close()


def test_one_signer_may_be_used_by_many_threads(signer: Signer) -> None:
    found: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: found.append(fields_of((signer,), _MESSAGE)))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1
