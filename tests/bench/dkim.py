"""dkim.*: what a signature costs beside the arithmetic that no implementation can avoid.

CPU time of the thread, the best of several rounds: others on the machine make a round longer, never shorter.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final, NamedTuple

import dkim
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from services.sender.dkim.canonicalise import body_hash, division
from services.sender.dkim.pool import SigningPool
from services.sender.dkim.sign import Signer, hashes_of, sign
from shared.runtime.clock import SystemClock
from tests.bench.figures import Figures
from tests.bench.mail import message

_ROUNDS: Final = 9
_PAIRS: Final = 5
_SIZES: Final = {"2k": 2_000, "10k": 10_000}
_NOW_S: Final = 1_700_000_000


class _Free(Signer):
    """A signer whose arithmetic costs nothing: what is left is ours."""

    def _made(self, digest: bytes) -> bytes:
        return bytes(256)


def run(figures: Figures) -> None:
    """Measure signatures."""
    key = rsa.generate_private_key(65537, 2048)
    signer = Signer("acme.example", "s1", key)
    second = Signer("acme.example", "s2", Ed25519PrivateKey.generate())
    free = _Free("acme.example", "s1", key)
    digest, padding, prehashed = bytes(32), PKCS1v15(), Prehashed(hashes.SHA256())
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())

    def arithmetic() -> object:
        return key.sign(digest, padding, prehashed)

    for name, size in _SIZES.items():
        mail, bench = message(size), f"dkim.{name}"
        body = mail[division(mail)[1] :]
        bare = _us(arithmetic, 100)
        for metric, work, times in (
            ("cpu_us_per_signature", partial(_sign, (signer,), mail), 100),
            ("cpu_us_rsa_and_ed25519", partial(_sign, (signer, second), mail), 100),
            ("cpu_us_beside_arithmetic", partial(_sign, (free,), mail), 1000),
            ("cpu_us_body_hash", partial(body_hash, body, "relaxed"), 1000),
            ("cpu_us_per_signature_dkimpy", partial(dkim.sign, mail, b"s1", b"acme.example", pem), 5),
        ):  # fmt: skip
            figures.add(bench, metric, _us(work, times), "us", bare)
        # The two take turns, as all that is compared here.
        pairs = [(asyncio.run(_pool(signer, mail)), _threads(arithmetic)) for _ in range(_PAIRS)]
        ours, bare_threads = (_best(list(side)) for side in zip(*pairs, strict=True))
        figures.add(bench, "pool_signatures_per_s", ours.rate, "1/s", bare_threads.rate)
        figures.add(bench, "pool_cpu_us_per_signature", ours.cpu_us, "us", bare_threads.cpu_us)
        alone = _best([asyncio.run(_pool(free, mail)) for _ in range(_PAIRS)])
        figures.add(bench, "pool_cpu_us_beside_arithmetic", alone.cpu_us, "us", bare)
        figures.add(bench, "pool_loop_us_per_message", alone.loop_us, "us", bare)


def _sign(signers: tuple[Signer, ...], mail: bytes) -> bytes:
    return sign(signers, b"", mail, _NOW_S, hashes_of(signers, mail, {}))


class _Run(NamedTuple):
    rate: float
    #: Of the process, and of the thread that asks, for each signature.
    cpu_us: float
    loop_us: float


class _Stopwatch:
    def __init__(self) -> None:
        self._begun = (time.perf_counter(), time.process_time(), time.thread_time())

    def stop(self, count: int) -> _Run:
        now = (time.perf_counter(), time.process_time(), time.thread_time())
        took, cpu, loop = (now - begun for now, begun in zip(now, self._begun, strict=True))
        return _Run(count / took, cpu / count * 1e6, loop / count * 1e6)


def _best(runs: Sequence[_Run]) -> _Run:
    rates, cpu, loop = zip(*runs, strict=True)
    return _Run(max(rates), min(cpu), min(loop))


async def _pool(signer: Signer, mail: bytes, count: int = 2_000) -> _Run:
    """Sign in two threads while the loop has 32 in hand."""
    pool = SigningPool(2, SystemClock())
    todo = iter(range(count))

    async def ask() -> None:
        for _ in todo:
            await pool.sign((signer,), b"", mail, None)

    watch = _Stopwatch()
    await asyncio.gather(*(ask() for _ in range(32)))
    run = watch.stop(count)
    pool.close()
    return run


def _threads(work: Callable[[], object], count: int = 1_000) -> _Run:
    """Let two threads do nothing else."""
    watch = _Stopwatch()
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(lambda _: [work() for _ in range(count)], range(2)))
    return watch.stop(2 * count)


def _us(work: Callable[[], object], times: int) -> float:
    best = float("inf")
    for _ in range(_ROUNDS):
        begun = time.thread_time_ns()
        for _ in range(times):
            work()
        best = min(best, (time.thread_time_ns() - begun) / times / 1e3)
    return best
