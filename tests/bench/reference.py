"""The reference: Postfix with OpenDKIM as its milter, from Debian, relaying everything to the same sink.

It is tuned as far as it goes: 20 connections that stay open, no delay on the way in, no look-ups of names, no limits per client. Its
configuration, queue, milter and log are in a folder of its own, its port is on loopback, and it is ended by its own process id; nothing of
the system's Postfix is touched. It needs root, since Postfix does.
"""

import asyncio
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Final

import aiosmtplib

from tests.bench.pipeline import CONNECTIONS
from tests.bench.run import Latency, Measured, Run
from tests.bench.sink import Sink, program
from tests.bench.submissions import CHECKED, DOMAIN, SELECTOR, SENDER
from tests.bench.usage import Pids, tree
from tests.support.stack import free_port

_FEEDERS: Final = 20
_DELAYS: Final = re.compile(r"to=<l-.* delays=([\d.]+)/([\d.]+)/([\d.]+)/[\d.]+, .* status=sent")

_MAIN_CF: Final = """
compatibility_level = 3.6
queue_directory = {directory}/queue
data_directory = {directory}/data
maillog_file = {directory}/mail.log
maillog_file_prefixes = {directory}
delay_logging_resolution_limit = 6
myhostname = mail.acme.example
mydestination =
alias_maps =
alias_database =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
smtpd_relay_restrictions = permit_mynetworks, reject
smtpd_peername_lookup = no
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
notify_classes =
"""
_MASTER_CF: Final = """
127.0.0.1:{port} inet n - n - - smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
proxywrite unix - - n - 1 proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
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
        self._port = free_port()
        (directory / "etc").mkdir(parents=True)
        (directory / "queue").mkdir()
        (directory / "data").mkdir()
        shutil.chown(directory / "data", "postfix")
        values = {
            "directory": directory,
            "port": self._port,
            "key_file": key_file,
        }
        values |= {"sink": sink.port, "kept": kept.port, "connections": CONNECTIONS}
        values |= {"domain": DOMAIN, "selector": SELECTOR}
        for name, text in (
            ("etc/main.cf", _MAIN_CF),
            ("etc/master.cf", _MASTER_CF),
            ("opendkim.conf", _OPENDKIM),
        ):
            (directory / name).write_text(text.format(**values))
        self._opendkim: subprocess.Popen[bytes] | None = None
        self._master: int | None = None

    def start(self) -> None:
        """Start both, and wait until they listen."""
        opendkim = program("opendkim")
        assert opendkim is not None
        self._opendkim = subprocess.Popen(
            [opendkim, "-f", "-x", str(self._directory / "opendkim.conf")],
            stdin=subprocess.DEVNULL,
        )
        _there(self._directory / "opendkim.socket")
        self._postfix("start")
        pid = (self._directory / "queue/pid/master.pid").read_text()
        self._master = int(pid)
        _listening(self._port)

    def stop(self) -> None:
        """End what was started."""
        if self._master is not None:
            ours = tree([self._master])
            self._postfix("stop")
            _ended(ours)
            self._master = None
        if self._opendkim is not None:
            self._opendkim.terminate()
            self._opendkim.wait(20)
            self._opendkim = None

    def _postfix(self, word: str) -> None:
        command = program("postfix")
        assert command is not None
        done = subprocess.run(
            [command, "-c", str(self._directory / "etc"), word],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            env=dict(os.environ) | {"MAIL_LOGTAG": "bench"},
        )
        if done.returncode:
            log = self._directory / "mail.log"
            said = log.read_text() if log.exists() else ""
            raise SystemExit(f"postfix {word}: {done.stdout}{done.stderr}{said}")

    @property
    def pids(self) -> Pids:
        assert self._master is not None
        assert self._opendkim is not None
        return {
            "postfix": [self._master],
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
        words += ["-f", SENDER, "-t", "reader@bench.test", f"127.0.0.1:{self._port}"]
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
        found = _DELAYS.findall((self._directory / "mail.log").read_text())
        if len(found) != len(recipients):
            raise SystemExit(f"Postfix logged {len(found)} of {len(recipients)} deliveries")
        # Before the queue manager, in it, and connecting: what is left is the transmission.
        return Latency([sum(map(float, delays)) * 1000 for delays in found])

    async def _send_evenly(self, recipients: list[str], mail: bytes, rate: float) -> None:
        clients = [
            aiosmtplib.SMTP(hostname="127.0.0.1", port=self._port, start_tls=False)
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


def _listening(port: int, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)
        else:
            return


def _there(socket_path: Path, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not socket_path.is_socket():
        if time.monotonic() > end:
            raise SystemExit(f"OpenDKIM made no {socket_path}")
        time.sleep(0.05)


def _ended(pids: list[int], seconds: float = 20) -> None:
    """Wait until they are gone; whoever stays is killed."""
    end = time.monotonic() + seconds
    while left := [pid for pid in pids if Path(f"/proc/{pid}").exists()]:
        if time.monotonic() > end:
            for pid in left:
                os.kill(pid, signal.SIGKILL)
            return
        time.sleep(0.05)
