"""The reference: Postfix with OpenDKIM as its milter, from Debian, relaying everything to the same sink.

It is tuned as far as it goes: 20 connections that stay open, no delay on the way in, no look-ups of names, no limits per client. The
milter lies in Postfix's folder, and both are ended by their own process ids.
"""

import asyncio
import os
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import aiosmtplib

from tests.bench.pipeline import CONNECTIONS
from tests.bench.run import Latency, Measured, Run
from tests.bench.sink import Sink
from tests.bench.submissions import CHECKED, DOMAIN, SELECTOR, SENDER
from tests.bench.usage import Pids
from tests.support.postfix import Postfix
from tests.support.processes import program

_FEEDERS: Final = 20
_DELAYS: Final = re.compile(r"to=<l-.* delays=([\d.]+)/([\d.]+)/([\d.]+)/[\d.]+, .* status=sent")

_RELAYING: Final = """
delay_logging_resolution_limit = 6
myhostname = mail.acme.example
mynetworks = 127.0.0.0/8
smtpd_relay_restrictions = permit_mynetworks, reject
smtpd_client_connection_count_limit = 0
smtpd_milters = unix:{directory}/opendkim.socket
milter_default_action = tempfail
relayhost = [127.0.0.1]:{sink}
transport_maps = inline:{{ check.test=smtp:[127.0.0.1]:{kept} }}
smtp_dns_support_level = disabled
smtp_connection_reuse_count_limit = 1000
default_destination_concurrency_limit = {connections}
initial_destination_concurrency = {connections}
in_flow_delay = 0
max_use = 1000
"""
_OPENDKIM: Final = """
Mode s
Background no
Syslog no
Socket local:{directory}/opendkim.socket
UMask 000
Domain {domain}
Selector {selector}
KeyFile {key_file}
RequireSafeKeys no
Canonicalization relaxed/relaxed
SignatureAlgorithm rsa-sha256
OversignHeaders From
InternalHosts 127.0.0.0/8
"""


def missing() -> str | None:
    """Say why there can be no reference here."""
    absent = [name for name in ("postfix", "opendkim", "smtp-source") if program(name) is None]
    if absent:
        return f"{', '.join(absent)} missing (Debian: postfix, opendkim)"
    return None if os.geteuid() == 0 else "Postfix starts only as root"


class Reference:
    """Postfix and OpenDKIM, ready to be started in ``directory``."""

    def __init__(self, directory: Path, key_file: Path, sink: Sink, kept: Sink) -> None:
        self._directory, self._sink = directory, sink
        relaying = _RELAYING.format(
            directory=directory, sink=sink.port, kept=kept.port, connections=CONNECTIONS
        )
        self._postfix = Postfix(directory, relaying)
        (directory / "opendkim.conf").write_text(
            _OPENDKIM.format(
                directory=directory, domain=DOMAIN, selector=SELECTOR, key_file=key_file
            )
        )
        self._opendkim: subprocess.Popen[bytes] | None = None
        self._running = ExitStack()

    def start(self) -> None:
        """Start both, and wait until they listen."""
        opendkim = program("opendkim")
        assert opendkim is not None
        self._opendkim = self._running.enter_context(
            _ending(
                subprocess.Popen(
                    [opendkim, "-f", "-x", str(self._directory / "opendkim.conf")],
                    stdin=subprocess.DEVNULL,
                )
            )
        )
        _there(self._directory / "opendkim.socket")
        self._running.enter_context(self._postfix)

    def stop(self) -> None:
        """End what was started."""
        self._running.close()

    @property
    def pids(self) -> Pids:
        assert self._opendkim is not None
        return {
            "postfix": [self._postfix.master],
            "opendkim": [self._opendkim.pid],
            "receiver": [self._sink.pid],
        }

    def check(self, mail: bytes) -> None:
        """Send one message to the sink that keeps it."""
        asyncio.run(self._send_evenly([CHECKED], mail, 1))

    def throughput(self, messages: int, mail: bytes) -> Run:
        """Hand mail over as fast as it is taken, with Postfix's own load generator."""
        source, text = program("smtp-source"), self._directory / "message"
        assert source is not None
        # It puts the line ends in by itself.
        text.write_bytes(mail.replace(b"\r\n", b"\n"))
        words = ["-d", "-N", "-s", str(_FEEDERS), "-m", str(messages), "-F", str(text)]
        words += ["-f", SENDER, "-t", "reader@bench.test", f"127.0.0.1:{self._postfix.port}"]
        with Measured(self.pids, self._sink, messages) as measured:
            subprocess.run([source, *words], check=True)
        return measured.run()

    def latency(self, rate: float, seconds: float, mail: bytes) -> Latency:
        """Hand mail over at an even rate, and read the delays up to MAIL in Postfix's log."""
        recipients = [f"l-{at}@bench.test" for at in range(round(rate * seconds))]
        before = self._sink.count
        asyncio.run(self._send_evenly(recipients, mail, rate))
        self._sink.until(before + len(recipients), 60)
        time.sleep(1)  # the log is written behind the mail
        found = _DELAYS.findall(self._postfix.log())
        if len(found) != len(recipients):
            raise SystemExit(f"Postfix logged {len(found)} of {len(recipients)} deliveries")
        # Before the queue manager, in it, and connecting: what is left is the transmission.
        return Latency([sum(map(float, delays)) * 1000 for delays in found])

    async def _send_evenly(self, recipients: list[str], mail: bytes, rate: float) -> None:
        clients = [
            aiosmtplib.SMTP(hostname="127.0.0.1", port=self._postfix.port, start_tls=False)
            for _ in range(min(_FEEDERS, len(recipients)))
        ]
        for client in clients:
            await client.connect()
        start = time.monotonic()

        async def feed(first: int) -> None:
            for at in range(first, len(recipients), len(clients)):
                await asyncio.sleep(max(0.0, start + at / rate - time.monotonic()))
                await clients[first].sendmail(SENDER, [recipients[at]], mail)

        await asyncio.gather(*map(feed, range(len(clients))))
        for client in clients:
            await client.quit()


@contextmanager
def _ending(process: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    yield process
    process.terminate()
    process.wait(20)


def _there(socket_path: Path, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not socket_path.is_socket():
        if time.monotonic() > end:
            raise SystemExit(f"OpenDKIM made no {socket_path}")
        time.sleep(0.05)
