"""connections.*: what many connections of one sender cost, towards receivers that speak TLS, on the other core."""

import os
from pathlib import Path
from typing import Final

import trustme

from tests.bench.connections_sender import SITES, TO_EACH, Result
from tests.bench.cores import cores, measured
from tests.bench.figures import Figures
from tests.support.receiver import Receiver, start_receiver

_BENCH: Final = "connections"


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
        _tell(figures, _measured(receivers, ours, others))
    finally:
        for receiver in receivers:
            receiver.stop()


def _measured(receivers: list[Receiver], ours: set[int], others: set[int]) -> Result:
    for receiver in receivers:
        os.sched_setaffinity(receiver.process.pid, others)
    ports = [str(receiver.port) for receiver in receivers]
    return measured("tests.bench.connections_sender", ports, ours, Result)


def _tell(figures: Figures, result: Result) -> None:
    figures.add(_BENCH, "idle_kib", result.idle_kib, "KiB")
    figures.add(_BENCH, "idle_tls_kib", result.idle_tls_kib, "KiB")
    figures.add(_BENCH, "tls_handshakes_per_s", result.handshakes_per_s, "1/s")
    figures.add(_BENCH, "tls_handshake_cpu_us", result.handshake_cpu_us, "us")
    figures.add(
        _BENCH, "warm_tls_messages_per_s", result.warm_tls_per_s, "1/s", result.warm_plain_per_s
    )
    open_now = SITES * TO_EACH
    figures.add(
        _BENCH, f"messages_per_s_over_{open_now}", result.wide_per_s, "1/s", result.warm_plain_per_s
    )
    figures.add(_BENCH, f"cpu_us_over_{open_now}", result.wide_cpu_us, "us")
