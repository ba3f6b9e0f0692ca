"""connections.*: what many connections of one sender cost, towards receivers that speak TLS, on the other core.

The reference for handshakes is OpenSSL's own program, TLS and nothing else: no greetings, no other language than C. (Postfix's
smtp-source speaks no TLS; the one for mail on warm connections is the same mail without TLS.)
"""

import os
import re
import resource
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trustme

from tests.bench.connections_sender import SITES, TO_EACH, Result
from tests.bench.cores import cores, measured
from tests.bench.figures import Figures
from tests.support.proxies import Program
from tests.support.receiver import Receiver, start_receiver
from tests.support.stack import free_port

_BENCH: Final = "connections"


@dataclass(frozen=True, slots=True)
class Bare:
    """What ``openssl s_time`` makes of it."""

    per_s: float
    cpu_us: float


def run(figures: Figures, directory: Path) -> None:
    """Measure and report."""
    ours, others = cores()
    certificate = directory / "receiver.pem"
    issued = trustme.CA().issue_cert("mx.example.test")
    issued.private_key_and_cert_chain_pem.write_to_path(str(certificate))
    receivers = [
        # All of loopback: each address is a site.
        start_receiver(directory, "plain", host="0.0.0.0"),
        start_receiver(directory, "secure", "--tls-cert", str(certificate)),
    ]
    try:
        bare = {how: _openssl(certificate, how, ours, others) for how in ("new", "reuse")}
        _tell(figures, _measured(receivers, ours, others), bare)
    finally:
        for receiver in receivers:
            receiver.stop()


def _measured(receivers: list[Receiver], ours: set[int], others: set[int]) -> Result:
    for receiver in receivers:
        os.sched_setaffinity(receiver.process.pid, others)
    ports = [str(receiver.port) for receiver in receivers]
    return measured("tests.bench.connections_sender", ports, ours, Result)


def _openssl(certificate: Path, how: str, ours: set[int], others: set[int]) -> Bare:
    """Connect with ``openssl s_time``, over TLS and nothing else; it reads a page, or it would never see a ticket of TLS 1.3."""
    port = free_port()
    serve = ["s_server", "-accept", str(port), "-cert", str(certificate), "-www", "-quiet"]
    ask = ["s_time", "-connect", f"127.0.0.1:{port}", "-www", "/", f"-{how}", "-time", "2"]
    with Program(["taskset", "-c", _list(others), "openssl", *serve], port):
        asked = ["taskset", "-c", _list(ours), "openssl", *ask]
        before = _children_s()
        said = subprocess.run(asked, check=True, capture_output=True, text=True).stdout
        used = _children_s() - before
    found = re.findall(r"(\d+) connections in (\d+) real seconds", said)
    assert found, said
    # With -reuse a first connection, to get a ticket, is reported before the others.
    count, seconds = found[-1]
    return Bare(float(count) / float(seconds), used / float(count) * 1e6)


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _list(chosen: set[int]) -> str:
    return ",".join(map(str, sorted(chosen)))


def _tell(figures: Figures, result: Result, bare: dict[str, Bare]) -> None:
    figures.add(_BENCH, "idle_kib", result.idle_kib, "KiB")
    figures.add(_BENCH, "idle_tls_kib", result.idle_tls_kib, "KiB")
    figures.add(_BENCH, "tls_handshakes_per_s", result.handshakes_per_s, "1/s", bare["new"].per_s)
    figures.add(_BENCH, "tls_handshake_cpu_us", result.handshake_cpu_us, "us", bare["new"].cpu_us)
    figures.add(_BENCH, "tls_resumed_per_s", result.resumed_per_s, "1/s", bare["reuse"].per_s)
    figures.add(_BENCH, "tls_resumed_cpu_us", result.resumed_cpu_us, "us", bare["reuse"].cpu_us)
    figures.add(
        _BENCH, "warm_tls_messages_per_s", result.warm_tls_per_s, "1/s", result.warm_plain_per_s
    )
    open_now = SITES * TO_EACH
    figures.add(
        _BENCH, f"messages_per_s_over_{open_now}", result.wide_per_s, "1/s", result.warm_plain_per_s
    )
    figures.add(_BENCH, f"cpu_us_over_{open_now}", result.wide_cpu_us, "us")
