"""Everything that the demonstration runs, as processes in one folder: Kafka, the services, the receiving servers.

A process outlives the command that started it only where ``up`` wants that; what was started is written down in ``processes.json``, with
each process's start time, so that ``down`` can never end a stranger that was given the same number.
"""

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from services.cli.cluster.broker import LocalKafka
from services.cli.demo.mail import TENANTS

ROOT: Final = Path(__file__).resolve().parents[3]
_TEMPLATE: Final = Path(__file__).with_name("postyard.toml")
_READY_S: Final = 60.0
_END_S: Final = 30.0
SERVICES: Final = ("ingest", "scheduler", "sender")


class StageError(Exception):
    """Something of the demonstration did not start; the message says what to look at."""


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
        return _since(self.pid) == self.since


def _since(pid: int) -> str:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    fields = text.rpartition(")")[2].split()
    return "" if fields[0] == "Z" else fields[19]


class Stage:
    """The demonstration in one folder."""

    def __init__(self, directory: Path) -> None:
        """``directory`` is the demonstration's own; ``start`` empties it."""
        self.directory = directory.absolute()
        self.kafka = LocalKafka(self.directory / "kafka")
        self._children: dict[int, subprocess.Popen[bytes]] = {}

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

    @property
    def processes(self) -> list[Started]:
        """List what was started, and may still run."""
        path = self.directory / "processes.json"
        if not path.exists():
            return []
        return [Started(**row) for row in json.loads(path.read_text())]

    @property
    def runs(self) -> bool:
        """Say whether anything of it runs."""
        return self.kafka.running or any(process.runs for process in self.processes)

    def metrics(self, service: str) -> str:
        """Give a service's /metrics page; empty while it does not answer."""
        ports = [process.port for process in self.processes if process.name == service]
        return "".join(_get(port, "/metrics") or "" for port in ports)

    # -- start

    def start(self) -> None:
        """Start everything in an empty folder, and wait until it is ready; raises StageError."""
        if self.runs:
            raise StageError(f"it runs already in {self.directory}: `make down` ends it")
        shutil.rmtree(self.directory, ignore_errors=True)
        self.directory.mkdir(parents=True)
        self.kafka.start()
        good, strict = _free_port(), _free_port()
        self._configure(good, strict)
        self._cli("topics", "apply")
        self._cli("config", "apply", str(self.config))
        self._receiver("goodmail", good)
        self._receiver("strictmail", strict, "--greylist", "4", "--rate", "60")
        for service in SERVICES:
            self._service(service)
        self._wait_ready()

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

    def _environment(self, **more: str) -> dict[str, str]:
        ours = {"POSTYARD_CONFIG": str(self.config), "PYTHONPATH": str(ROOT)}
        return dict(os.environ) | ours | more

    def _cli(self, *words: str) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "services.cli", *words],
            cwd=ROOT,
            env=self._environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise StageError(f"postyard {' '.join(words)} failed:\n{done.stdout}{done.stderr}")

    def _receiver(self, name: str, port: int, *options: str) -> None:
        words = ["services.cli.demo.receiver", "--port", str(port), "--name", f"mx.{name}.example"]
        words += ["--log", str(self.seen(name)), "--maildir", str(self.maildir), *options]
        self._spawn(name, words, port, self._environment())

    def _service(self, service: str) -> None:
        port = _free_port()
        environment = self._environment(
            POSTYARD_HTTP_PORT=str(port),
            POSTYARD_POD=f"{service}-0",
            POSTYARD_LOCK_DIR=str(self.directory),
        )
        self._spawn(service, [f"services.{service}"], port, environment)

    def _spawn(self, name: str, words: list[str], port: int, environment: dict[str, str]) -> None:
        with (self.directory / f"{name}.log").open("ab") as log:
            child = subprocess.Popen(
                [sys.executable, "-m", *words],
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._children[child.pid] = child
        started = Started(name, child.pid, _since(child.pid), port)
        self._write([*self.processes, started])

    def _write(self, processes: list[Started]) -> None:
        path = self.directory / "processes.json"
        fresh = path.with_suffix(f".{secrets.token_hex(4)}")
        fresh.write_text(json.dumps([asdict(process) for process in processes]))
        fresh.rename(path)

    def _wait_ready(self) -> None:
        until = time.monotonic() + _READY_S  # noqa: TID251 - this command's own patience
        for process in self.processes:
            while process.name in SERVICES and _get(process.port, "/readyz") is None:
                if not process.runs or time.monotonic() > until:  # noqa: TID251
                    raise StageError(
                        f"{process.name} is not ready: see {self.directory / process.name}.log"
                    )
                time.sleep(0.1)  # noqa: TID251

    # -- end

    def stop(self) -> None:
        """End everything, politely first; services drain before Kafka goes."""
        processes = sorted(self.processes, key=lambda process: process.name not in SERVICES)
        for process in processes:
            if process.runs:
                os.kill(process.pid, signal.SIGTERM)
        until = time.monotonic() + _END_S  # noqa: TID251
        for process in processes:
            while self._alive(process) and time.monotonic() < until:  # noqa: TID251
                time.sleep(0.05)  # noqa: TID251
            if self._alive(process):
                os.kill(process.pid, signal.SIGKILL)
        self.kafka.stop()
        if self.directory.exists():
            self._write([])

    def _alive(self, process: Started) -> bool:
        child = self._children.get(process.pid)
        if child is not None:
            child.poll()
        return process.runs


def _get(port: int, path: str) -> str | None:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=3) as answer:
            text: str = answer.read().decode()
            return text
    except OSError:
        return None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
