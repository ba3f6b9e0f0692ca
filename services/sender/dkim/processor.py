"""Lets OpenSSL take the faster of its two ways to RSA on processors where it takes the slower one.

Where a processor has ADX and BMI2, OpenSSL multiplies with them, and never tries AVX2. On AMD's Zen 3 that is a mistake: with AVX2 an
RSA-2048 signature, which is half of what a message costs a sender, needs 7 to 14 % less CPU (docs/performance.md). Zen 4 has AVX-512 IFMA,
which OpenSSL prefers to both. OpenSSL reads what it may use from the environment when it is loaded (OPENSSL_ia32cap(3)), so this must be
asked before anything imports ``cryptography``.
"""

import os
from collections.abc import MutableMapping
from pathlib import Path
from typing import Final

VARIABLE: Final = "OPENSSL_ia32cap"
#: Of the second vector (CPUID leaf 7, EBX) without bit 19, ADX.
WITHOUT_ADX: Final = ":~0x80000"
_CPUINFO: Final = Path("/proc/cpuinfo")
#: AMD's family 19h: Zen 3 and Zen 4.
_FAMILY: Final = "25"


def choose(env: MutableMapping[str, str] = os.environ, cpuinfo: Path = _CPUINFO) -> None:
    """Set ``env`` for the processor, unless somebody has."""
    try:
        text = cpuinfo.read_text()
    except OSError:
        return
    if VARIABLE not in env and prefers_avx2(text):
        env[VARIABLE] = WITHOUT_ADX


def prefers_avx2(cpuinfo: str) -> bool:
    """Say whether AVX2 is known to be faster than ADX on the processor that ``/proc/cpuinfo`` describes."""
    first, _, _ = cpuinfo.partition("\n\n")
    said = {
        name.strip(): value.strip()
        for name, _, value in (line.partition(":") for line in first.splitlines())
    }
    flags = frozenset(said.get("flags", "").split())
    amd = (said.get("vendor_id"), said.get("cpu family")) == ("AuthenticAMD", _FAMILY)
    return amd and {"avx2", "adx"} <= flags and "avx512ifma" not in flags
