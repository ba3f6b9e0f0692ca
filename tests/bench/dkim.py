"""dkim.*: what a signature costs beside the arithmetic that no implementation can avoid.

CPU time of the thread, the best of several rounds: others on the machine make a round longer, never shorter.
"""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import dkim
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from services.sender.dkim.pool import SigningPool
from services.sender.dkim.sign import Signer, hash_of, sign
from shared.runtime.clock import SystemClock
from tests.bench.figures import Figures
from tests.bench.mail import message

_ROUNDS: Final = 9
_SIZES: Final = {"2k": 2_000, "10k": 10_000}


def run(figures: Figures) -> None:
    """Measure signatures."""
    key = rsa.generate_private_key(65537, 2048)
    signer, second = (
        Signer("acme.example", "s1", key),
        Signer("acme.example", "s2", Ed25519PrivateKey.generate()),
    )
    digest, padding, prehashed = bytes(32), PKCS1v15(), Prehashed(hashes.SHA256())
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    now_s = 1_700_000_000
    for name, size in _SIZES.items():
        mail, bench = message(size), f"dkim.{name}"
        bare = _us(lambda: key.sign(digest, padding, prehashed), 100)
        ours = _us(lambda mail=mail: sign((signer,), b"", mail, now_s, None), 100)  # type: ignore[misc]
        both = _us(lambda mail=mail: sign((signer, second), b"", mail, now_s, None), 100)  # type: ignore[misc]
        theirs = _us(lambda mail=mail: dkim.sign(mail, b"s1", b"acme.example", pem), 5)  # type: ignore[misc]
        hashed = _us(lambda mail=mail: hash_of(mail), 500)  # type: ignore[misc]
        figures.add(bench, "cpu_us_per_signature", ours, "us", bare)
        figures.add(bench, "cpu_us_rsa_and_ed25519", both, "us", bare)
        figures.add(bench, "cpu_us_body_hash", hashed, "us", bare)
        figures.add(bench, "cpu_us_per_signature_dkimpy", theirs, "us", bare)
        rate, cpu_us = asyncio.run(_pool(signer, mail))
        most = _threads(lambda: key.sign(digest, padding, prehashed))
        figures.add(bench, "pool_signatures_per_s", rate, "1/s", most)
        figures.add(bench, "pool_cpu_us_per_signature", cpu_us, "us", bare)


async def _pool(signer: Signer, mail: bytes, count: int = 2_000) -> tuple[float, float]:
    """Signatures a second of two threads while the loop has 128 in hand, and their CPU, hand-over included."""
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


def _threads(work: Callable[[], object], count: int = 1_000) -> float:
    """How often a second two threads can do nothing else."""
    begun = time.perf_counter()
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(lambda _: [work() for _ in range(count)], range(2)))
    return 2 * count / (time.perf_counter() - begun)


def _us(work: Callable[[], object], times: int) -> float:
    best = float("inf")
    for _ in range(_ROUNDS):
        begun = time.thread_time_ns()
        for _ in range(times):
            work()
        best = min(best, (time.thread_time_ns() - begun) / times / 1e3)
    return best
