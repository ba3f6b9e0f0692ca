"""Everything that the demonstration runs, as processes in one folder: Kafka, the services, the receiving servers.

A process outlives the command that started it only where ``up`` wants that; what was started is written down in ``processes.json``, with
each process's start time, so that ``down`` can never end a stranger that was given the same number. The folder is emptied at each start,
so only one that is new, empty or known by that file is taken.
"""

import contextlib
import fcntl
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from services.cli.cluster.broker import LocalKafka
from services.cli.demo.mail import TENANTS
from services.cli.demo.patience import Patience

ROOT: Final = Path(__file__).resolve().parents[3]
SERVICES: Final = ("ingest", "scheduler", "sender")
RECEIVERS: Final = ("goodmail", "strictmail")
#: A new (address, sender, recipient) waits so many seconds; above so many messages in a second 421.
_STRICT: Final = ("--greylist", "4", "--rate", "60")
_TEMPLATE: Final = Path(__file__).with_name("postyard.toml")
_LIST: Final = "processes.json"
_READY_S: Final = 60.0
_END_S: Final = 30.0
# Below the ports that the kernel gives to outgoing connections: none of those can sit on one before it is listened to.
_PORTS: Final = range(20_000, 32_000)


class StageError(Exception):
    """Something of the demonstration is not as it must be; the message says what to look at."""


@dataclass(frozen=True, slots=True)
class Started:
    """One process of the demonstration."""

    name: str
    pid: int
    #: Start time as the kernel counts it: with the pid it names one process for ever.
    since: str
    port: int

    @property
    def runs(self) -> bool:
        """Say whether this very process still runs."""
        return bool(self.since) and _since(self.pid) == self.since

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, if it still runs."""
        if self.runs:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)


def _since(pid: int) -> str:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    # The name may hold blanks and brackets; what follows its last bracket are fields from the third on.
    fields = text.rpartition(")")[2].split()
    return "" if fields[0] == "Z" else fields[19]


class Stage:
    """The demonstration in one folder."""

    def __init__(self, directory: Path, *, kafka_port: int = 0) -> None:
        """``directory`` is the demonstration's own; ``start`` empties it. ``kafka_port`` 0: any free one."""
        self.directory = directory.absolute()
        self.kafka = LocalKafka(self.directory / "kafka", port=kafka_port)
        self._children: dict[int, subprocess.Popen[bytes]] = {}

    def __repr__(self) -> str:
        """Show where it is and what of it runs."""
        running = [process.name for process in self.processes if process.runs]
        return f"<Stage {self.directory} [{', '.join(running) or 'empty'}]>"

    @property
    def config(self) -> Path:
        """Give the configuration that the services read."""
        return self.directory / "postyard.toml"

    @property
    def maildir(self) -> Path:
        """Give the Maildir of both receiving servers."""
        return self.directory / "maildir"

    def seen(self, name: str) -> Path:
        """Give what the receiving server ``name`` wrote down."""
        return self.directory / f"{name}.jsonl"

    def log(self, name: str) -> Path:
        """Give what a process printed."""
        return self.directory / f"{name}.log"

    @property
    def processes(self) -> list[Started]:
        """List what was started, and may still run."""
        try:
            return [Started(**row) for row in json.loads((self.directory / _LIST).read_text())]
        except FileNotFoundError:
            return []

    @property
    def runs(self) -> bool:
        """Say whether anything of it runs."""
        return self.kafka.running or any(process.runs for process in self.processes)

    def check(self) -> None:
        """Raise StageError for a process that has ended although nobody asked it to."""
        for process in self.processes:
            if not self._alive(process):
                raise StageError(f"{process.name} has ended: see {self.log(process.name)}")
        if not self.kafka.running:
            raise StageError(f"Kafka has ended: see {self.kafka.log}")

    def metrics(self, service: str) -> str:
        """Give a service's /metrics page; empty while it does not answer."""
        ports = [process.port for process in self.processes if process.name == service]
        return "".join(_get(port, "/metrics") or "" for port in ports)

    # -- start

    @contextlib.contextmanager
    def taken(self) -> Iterator[None]:
        """Keep others from starting in the same folder; raises StageError if something runs there, or it is not ours."""
        self.directory.mkdir(parents=True, exist_ok=True)
        folder = os.open(self.directory, os.O_RDONLY)
        try:
            try:
                fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise StageError(f"somebody else is starting it in {self.directory}") from None
            if self.runs:
                raise StageError(
                    f"it runs already in {self.directory}: end that one first (make down)"
                )
            there = [path.name for path in self.directory.iterdir()]
            if there and _LIST not in there:
                raise StageError(
                    f"{self.directory} holds other things and would be emptied: name another folder"
                )
            yield
        finally:
            os.close(folder)

    def start(self) -> None:
        """Start everything, from nothing, and wait until it is ready; raises StageError, LocalKafkaError."""
        self._empty()
        self.kafka.start()
        # All at once: what has been started listens to its own a moment later.
        good, strict, *ports = _free_ports(2 + len(SERVICES))
        self._configure(good, strict)
        self._cli("topics", "apply")
        self._cli("config", "apply", str(self.config))
        self._receiver("goodmail", good)
        self._receiver("strictmail", strict, *_STRICT)
        for service, port in zip(SERVICES, ports, strict=True):
            self._service(service, port)
        self._wait_ready()

    def _empty(self) -> None:
        # The list goes last and comes first: the folder is known as ours whenever this is interrupted.
        for path in sorted(self.directory.iterdir(), key=lambda path: path.name == _LIST):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        self._write([])

    def _configure(self, good: int, strict: int) -> None:
        for tenant in TENANTS:
            key = generate_private_key(65537, 2048)
            pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            path = self.directory / f"{tenant}.pem"
            path.touch(0o600)
            path.write_bytes(pem)
        text = _TEMPLATE.read_text()
        for name, value in (
            ("bootstrap", self.kafka.bootstrap),
            ("good", good),
            ("strict", strict),
        ):
            text = text.replace("{" + name + "}", str(value))
        self.config.write_text(text)

    def environment(self, **more: str) -> dict[str, str]:
        """Give the environment of the services and of the command line."""
        ours = {"POSTYARD_CONFIG": str(self.config), "PYTHONPATH": str(ROOT)}
        return dict(os.environ) | ours | more

    def _cli(self, *words: str) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "services.cli", *words],
            cwd=ROOT,
            env=self.environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise StageError(f"postyard {' '.join(words)} failed:\n{done.stdout}{done.stderr}")

    def _receiver(self, name: str, port: int, *options: str) -> None:
        words = ["services.cli.demo.receiver", "--port", str(port), "--name", f"mx.{name}.example"]
        words += ["--log", str(self.seen(name)), "--maildir", str(self.maildir), *options]
        self._spawn(name, words, port, self.environment())

    def _service(self, service: str, port: int) -> None:
        environment = self.environment(
            POSTYARD_HTTP_PORT=str(port),
            POSTYARD_POD=f"{service}-0",
            POSTYARD_LOCK_DIR=str(self.directory),
        )
        self._spawn(service, [f"services.{service}"], port, environment)

    def _spawn(self, name: str, words: list[str], port: int, environment: dict[str, str]) -> None:
        with self.log(name).open("ab") as log:
            child = subprocess.Popen(
                [sys.executable, "-m", *words],
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for the command; it ends the others in order
            )
        self._children[child.pid] = child
        started = Started(name, child.pid, _since(child.pid), port)
        self._write([*self.processes, started])

    def _write(self, processes: list[Started]) -> None:
        path = self.directory / _LIST
        fresh = path.with_suffix(f".{secrets.token_hex(4)}")
        fresh.write_text(json.dumps([asdict(process) for process in processes]))
        fresh.rename(path)

    def _wait_ready(self) -> None:
        patience = Patience(_READY_S)
        for process in self.processes:
            path = "/readyz" if process.name in SERVICES else None
            if not patience.until(lambda p=process, at=path: _answers(p, at) or not self._alive(p)):  # type: ignore[misc]
                raise StageError(f"{process.name} is not ready: see {self.log(process.name)}")
        self.check()

    # -- end

    def stop(self) -> None:
        """End everything, politely first: the services drain, then the receiving servers go, then Kafka."""
        processes = self.processes
        self._end([process for process in processes if process.name in SERVICES])
        self._end([process for process in processes if process.name not in SERVICES])
        self.kafka.stop()
        if (self.directory / _LIST).exists():
            self._write([])

    def _end(self, processes: Sequence[Started]) -> None:
        for process in processes:
            process.signal(signal.SIGTERM)
        patience = Patience(_END_S)
        for process in processes:
            if not patience.until(lambda p=process: not self._alive(p)):  # type: ignore[misc]
                process.signal(signal.SIGKILL)
                Patience(_END_S).until(lambda p=process: not self._alive(p))  # type: ignore[misc]

    def _alive(self, process: Started) -> bool:
        child = self._children.get(process.pid)
        if child is not None:
            child.poll()
        return process.runs


def _answers(process: Started, path: str | None) -> bool:
    if path is not None:
        return _get(process.port, path) is not None
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", process.port)) == 0


def _get(port: int, path: str) -> str | None:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=3) as answer:
            text: str = answer.read().decode()
            return text
    except (OSError, HTTPException):
        # Nobody, or somebody else who took the port first: then the process says so in its log, and ends.
        return None


def _free_ports(count: int) -> list[int]:
    found: list[int] = []
    first = secrets.randbelow(len(_PORTS))
    for port in (*_PORTS[first:], *_PORTS[:first]):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                found.append(port)
        if len(found) == count:
            return found
    raise StageError(f"no port from {_PORTS.start} to {_PORTS.stop - 1} is free")
