"""dkim.*: what a signature costs beside the arithmetic that no implementation can avoid.

CPU time of the thread, the best of several rounds: others on the machine make a round longer, never shorter.
"""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final

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
        rate, cpu_us = max(rate for (rate, _), _ in pairs), min(us for (_, us), _ in pairs)
        most, most_us = max(rate for _, (rate, _) in pairs), min(us for _, (_, us) in pairs)
        figures.add(bench, "pool_signatures_per_s", rate, "1/s", most)
        figures.add(bench, "pool_cpu_us_per_signature", cpu_us, "us", most_us)
        beside = min(asyncio.run(_pool(free, mail))[1] for _ in range(_PAIRS))
        figures.add(bench, "pool_cpu_us_beside_arithmetic", beside, "us", bare)


def _sign(signers: tuple[Signer, ...], mail: bytes) -> bytes:
    return sign(signers, b"", mail, _NOW_S, hashes_of(signers, mail, {}))


async def _pool(signer: Signer, mail: bytes, count: int = 2_000) -> tuple[float, float]:
    """Signatures a second of two threads while the loop has 128 in hand, and their CPU in us, hand-over included."""
    pool = SigningPool(2, SystemClock())
    todo = iter(range(count))

    async def ask() -> None:
        for _ in todo:
            await pool.sign((signer,), b"", mail, None)

    begun, used = time.perf_counter(), time.process_time()
    await asyncio.gather(*(ask() for _ in range(128)))
    took, used = time.perf_counter() - begun, time.process_time() - used
    pool.close()
    return count / took, used / count * 1e6


def _threads(work: Callable[[], object], count: int = 1_000) -> tuple[float, float]:
    """How often a second two threads can do nothing else, and its CPU in us."""
    begun, used = time.perf_counter(), time.process_time()
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(lambda _: [work() for _ in range(count)], range(2)))
    took, used = time.perf_counter() - begun, time.process_time() - used
    return 2 * count / took, used / (2 * count) * 1e6


def _us(work: Callable[[], object], times: int) -> float:
    best = float("inf")
    for _ in range(_ROUNDS):
        begun = time.thread_time_ns()
        for _ in range(times):
            work()
        best = min(best, (time.thread_time_ns() - begun) / times / 1e3)
    return best
