"""Run a real Kafka for the demo and the tests: one JVM, one folder, one port on 127.0.0.1.

Everything of a broker is in its folder: `server.properties`, `data`, `kafka.log`, `kafka.pid`. The broker process holds
a lock on `kafka.pid` (it inherits the descriptor), so whether it runs is asked of the kernel: a stale file or a reused
process id can neither keep a broker from starting nor get a stranger killed, and two starts at once make one broker.

The folder is formatted under another name and renamed, so one that is there is whole. A broker that was killed comes
back on the same port with the same data: `kill()`, then `start()`.

The functions block; from a loop they are called in a thread. A broker outlives the process that started it unless it
is stopped, which leaving the context manager does.
"""

import base64
import contextlib
import fcntl
import itertools
import os
import secrets
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Self

from services.cli.cluster.error import LocalKafkaError
from services.cli.cluster.jars import fetch_jars
from services.cli.cluster.properties import Ports, read_ports, server_properties
from services.cli.cluster.secured import Secured
from services.cli.cluster.tools import find_java

_JVM: Final = (
    *("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData"),
    *("-Djava.io.tmpdir=tmp", "-Djava.awt.headless=true"),
    f"-Dlog4j2.configurationFile={Path(__file__).with_name('log4j2.xml').absolute().as_uri()}",
)
# Below the ports that the kernel gives to outgoing connections: a client that knocks at a restarting broker from such
# a port can be given the broker's own, and connects to itself (TCP's simultaneous open).
_PORTS: Final = range(20_000, 30_000)
_API_VERSIONS: Final = 18


class LocalKafka:
    """A broker in a folder: `with LocalKafka(directory) as kafka: … kafka.bootstrap`."""

    def __init__(
        self,
        directory: Path,
        *,
        port: int = 0,
        heap_mib: int = 512,
        env: Mapping[str, str] | None = None,
        secured: Secured | None = None,
    ) -> None:
        self.directory = directory.absolute()
        self._port = port
        self._heap_mib = heap_mib
        self._secured = secured
        self._env = dict(os.environ if env is None else env)

    def __repr__(self) -> str:
        ports = read_ports(self._properties)
        where = f"127.0.0.1:{ports.broker}" if ports else "never started"
        return f"<LocalKafka {self.directory} [{where} | {'runs' if self.running else 'stopped'}]>"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def bootstrap(self) -> str:
        """Give `host:port` for clients; it stays the same over restarts."""
        ports = read_ports(self._properties)
        if ports is None:
            msg = f"no broker was ever started in {self.directory}"
            raise LocalKafkaError(msg)
        return f"127.0.0.1:{ports.broker}"

    @property
    def log(self) -> Path:
        """Give the file that the broker writes to."""
        return self.directory / "kafka.log"

    @property
    def pid(self) -> int | None:
        """Give the broker's process id while it runs."""
        try:
            with self._pidfile.open() as pidfile:
                if not _lock(pidfile, fcntl.LOCK_SH):
                    return int(pidfile.read() or 0) or None
        except FileNotFoundError:
            pass
        return None

    @property
    def running(self) -> bool:
        """Tell whether the process is there; it may not answer yet."""
        return self.pid is not None

    @property
    def answers(self) -> bool:
        """Tell whether it serves clients."""
        ports = read_ports(self._properties)
        return ports is not None and _answers(ports.broker, tls=self._secured is not None)

    def start(self, *, seconds: float = 60) -> None:
        """Start the broker unless it runs, and wait until it answers; the first time fetches and formats."""
        java, jars = find_java(self._env), fetch_jars(self._env)
        self.directory.mkdir(parents=True, exist_ok=True)
        # Of two starts at once the second waits, and finds the broker of the first.
        with (self.directory / "start.lock").open("w") as starting:
            fcntl.flock(starting, fcntl.LOCK_EX)
            pid = self.pid
            if pid is not None:
                self._check_port()
            else:
                pid = self._launch([str(java), *_JVM, "-cp", f"{jars}/*"])
            self._wait(pid, seconds)

    def stop(self, *, seconds: float = 30) -> bool:
        """Ask the broker to leave, and make it leave after ``seconds``; tell whether one was running."""
        return self._end(signal.SIGTERM, seconds) or self._end(signal.SIGKILL, 10)

    def kill(self) -> bool:
        """Kill the broker as a power cut would: kill -9, with no word to clients; tell whether one was running."""
        return self._end(signal.SIGKILL, 10)

    def remove(self) -> None:
        """Stop the broker and delete its folder with all that it holds."""
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    @property
    def _properties(self) -> Path:
        return self.directory / "server.properties"

    @property
    def _pidfile(self) -> Path:
        return self.directory / "kafka.pid"

    def _check_port(self) -> None:
        if self._port and not self.bootstrap.endswith(f":{self._port}"):
            msg = f"a broker runs in {self.directory} on {self.bootstrap}: stop it, or leave the port as it is"
            raise LocalKafkaError(msg)

    def _launch(self, command: list[str]) -> int:
        ports = self._choose_ports()
        (self.directory / "tmp").mkdir(exist_ok=True)
        self._properties.write_text(self._settings(ports, "data"))
        # Emptied before it is locked: whoever finds it locked reads nothing or the right number, never an old one.
        with self.log.open("ab") as log, self._pidfile.open("w") as pidfile:
            if not (self.directory / "data").is_dir():
                self._format(ports, command, log)
            fcntl.flock(pidfile, fcntl.LOCK_EX)
            broker = subprocess.Popen(
                [*command, f"-Xmx{self._heap_mib}m", "kafka.Kafka", self._properties.name],
                cwd=self.directory,
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[pidfile.fileno()],  # and with it the lock
                start_new_session=True,  # Ctrl-C is for the services first
            )
            pidfile.write(str(broker.pid))
            # It may outlive this object and this process, and be stopped by another: Popen need not watch it.
            broker.returncode = 0
        return broker.pid

    def _wait(self, pid: int, seconds: float) -> None:
        if not _until(lambda: self.answers or not self.running, seconds):
            self.kill()
            msg = f"the broker did not answer within {seconds:.0f} s: see {self.log}"
            raise LocalKafkaError(msg)
        if not self.running:
            _reap(pid)
            msg = f"the broker ended at its start; {self.log} ends with:\n{self._tail()}"
            raise LocalKafkaError(msg)

    def _choose_ports(self) -> Ports:
        known = read_ports(self._properties)
        if known is not None and self._port in {0, known.broker}:
            ports = known
        else:
            # The controller's own port is in the quorum's state on disk: it may not change either.
            ports = Ports(self._port or _free_port(), known.controller if known else _free_port())
        for port in (ports.broker, ports.controller):
            if not _is_free(port):
                msg = f"127.0.0.1:{port} is taken by another program: choose another port, or stop that program"
                raise LocalKafkaError(msg)
        return ports

    def _settings(self, ports: Ports, data: str) -> str:
        return server_properties(ports, data=data, secured=self._secured)

    def _quorum(self) -> list[str]:
        """Give the options that say of which quorum the folder is formatted: here, of one node."""
        # A Kafka id is 16 bytes in URL-safe base64; the zero keeps "-" from its beginning, which would be an option.
        cluster_id = base64.urlsafe_b64encode(b"\0" + secrets.token_bytes(15)).decode().rstrip("=")
        return ["-t", cluster_id, "--standalone"]

    def _format(self, ports: Ports, command: list[str], log: IO[bytes]) -> None:
        fresh = self.directory / "data.new"
        shutil.rmtree(fresh, ignore_errors=True)
        settings = self.directory / "format.properties"
        settings.write_text(self._settings(ports, fresh.name))
        tool = ["-Xmx128m", "kafka.tools.StorageTool", "format", "-c", settings.name]
        secured = self._secured.format_options() if self._secured else ()
        done = subprocess.run(
            [*command, *tool, *self._quorum(), *secured],
            cwd=self.directory,
            env=self._env,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            check=False,
        )
        if done.returncode != 0:
            msg = f"the data folder could not be formatted; {self.log} ends with:\n{self._tail()}"
            raise LocalKafkaError(msg)
        settings.unlink()
        fresh.rename(self.directory / "data")

    def _end(self, number: signal.Signals, seconds: float) -> bool:
        pid = self.pid
        if pid is None:
            return False
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        gone = _until(lambda: not self.running, seconds)
        if gone:
            _reap(pid)
        return gone

    def _tail(self, lines: int = 15) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


def _reap(pid: int) -> None:
    with contextlib.suppress(ChildProcessError):  # somebody else's child
        os.waitpid(pid, 0)


def _lock(file: IO[str], kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _until(condition: Callable[[], bool], seconds: float) -> bool:
    # The one place here that waits. It holds up a command line or a test, and decides nothing about mail.
    deadline = time.monotonic() + seconds  # noqa: TID251
    while not condition():
        if time.monotonic() >= deadline:  # noqa: TID251
            return False
        time.sleep(0.05)  # noqa: TID251
    return True


def _free_port() -> int:
    start = secrets.randbelow(len(_PORTS))
    for port in itertools.chain(_PORTS[start:], _PORTS[:start]):
        if _is_free(port):
            return port
    msg = f"no port from {_PORTS.start} to {_PORTS.stop - 1} is free"
    raise LocalKafkaError(msg)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As Java does; connections of the broker before, in TIME_WAIT, are no hindrance.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _link(port: int, *, tls: bool) -> socket.socket:
    link = socket.create_connection(("127.0.0.1", port), timeout=2)
    if not tls:
        return link
    # Only whether somebody answers is asked; nothing is said that a stranger might not hear.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context.wrap_socket(link)


def _answers(port: int, *, tls: bool) -> bool:
    """Ask for the API versions, the one question that needs neither a version to be agreed on first nor a login."""
    header = struct.pack(">hhih", _API_VERSIONS, 0, 1, -1)
    try:
        with _link(port, tls=tls) as link, link.makefile("rb") as said:
            link.sendall(struct.pack(">i", len(header)) + header)
            answer = said.read(10)
    except OSError:
        return False
    # Length, the number of the question, and error code 0.
    return answer[4:] == struct.pack(">ih", 1, 0)
