"""Postyard's services as real processes on a real broker, for tests: start, kill -9, stop and continue, and hear what they say.

The configuration is what an operator writes: a TOML file. Nothing in the services knows that a test runs them.
"""

import contextlib
import fcntl
import io
import os
import secrets
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from services.cli.config import apply as config_apply
from services.cli.topics import apply as topics_apply
from shared.records.codec import Unreadable
from shared.records.event import EVENT, Event
from shared.records.topics import Topics
from tests.support.nursery import ROOT, Launch, Process, launch

_READY_S: Final = 60
_FIRST_PORT: Final = 10_000
_PORTS: Final = 9_000


@dataclass(slots=True)
class Service:
    """One process of a service."""

    kind: str
    name: str
    process: Process
    log: Path
    port: int

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def signal(self, number: int) -> None:
        if self.alive:
            self.process.send_signal(number)

    def kill(self) -> None:
        """kill -9, and wait until the kernel has taken it away."""
        self.signal(signal.SIGKILL)
        self.process.wait(30)

    def terminate(self, seconds: float = 60) -> int:
        """SIGTERM, and the exit code."""
        self.signal(signal.SIGTERM)
        return self.process.wait(seconds)

    def ready(self) -> bool:
        try:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{self.port}/readyz", timeout=2
            ) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def metrics(self) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=5) as answer:
            text: str = answer.read().decode()
            return text


@dataclass(slots=True)
class Stack:
    """A cluster of one's own: a topic prefix, a configuration file, processes."""

    directory: Path
    kafka: str
    prefix: str
    config: str
    services: list[Service] = field(default_factory=list)
    launch: Launch = launch
    _started: Counter[str] = field(default_factory=Counter)

    @property
    def topics(self) -> Topics:
        return Topics(self.prefix)

    @property
    def config_path(self) -> Path:
        return self.directory / "postyard.toml"

    def set_up(self) -> None:
        """Write the configuration, create the topics, publish the lane map: the commands themselves, without a process for each.

        In a thread, for they run a loop of their own. What the processes say and how they end is shown in tests/integration/cli.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        self.config_path.write_text(self.config)
        # A benchmark's output is its figures.
        with ThreadPoolExecutor(1) as aside, contextlib.redirect_stdout(io.StringIO()):
            for command, words in (topics_apply, ["--config"]), (config_apply, []):
                given = [*words, str(self.config_path)]
                aside.submit(command.main, given, standalone_mode=False).result(60)

    def start_all(self) -> None:
        """Set up, start one of each service, and wait until they are ready."""
        self.set_up()
        self.wait_ready(
            *(self.start(kind, wait=False) for kind in ("ingest", "scheduler", "sender"))
        )

    def environment(self, **more: str) -> dict[str, str]:
        ours = {"POSTYARD_CONFIG": str(self.config_path), "PYTHONPATH": str(ROOT)}
        return dict(os.environ) | ours | more

    def cli(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run `postyard …`."""
        with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
            process = self.launch(
                "services.cli",
                words,
                cwd=ROOT,
                env=self.environment(),
                stdout=stdout,
                stderr=stderr,
            )
            try:
                code = process.wait(60)
            finally:
                process.send_signal(signal.SIGKILL)
            said = []
            for file in (stdout, stderr):
                file.seek(0)
                said.append(file.read().decode())
        done = subprocess.CompletedProcess(words, code, *said)
        if check and done.returncode:
            raise AssertionError(
                f"postyard {' '.join(words)}: {done.returncode}\n{done.stdout}\n{done.stderr}"
            )
        return done

    def start(
        self,
        kind: str,
        name: str | None = None,
        *,
        wait: bool = True,
        code: Path = ROOT,
        **env: str,
    ) -> Service:
        """Start ``python -m services.<kind>`` of the tree ``code``; the same ``name`` again is a restart in the same pod."""
        name = name or f"{kind}-{self._started[kind]}"
        self._started[kind] += 1
        port = free_port()
        log = self.directory / f"{name}.log"
        locks = self.directory / "locks"
        locks.mkdir(exist_ok=True)
        more = {
            "POSTYARD_HTTP_PORT": str(port),
            "POSTYARD_POD": name,
            "POSTYARD_LOCK_DIR": str(locks),
            "PYTHONPATH": str(code),
        }
        if code != ROOT:
            # A tree that is gone after the test: nobody reads again what is compiled of it.
            more["PYTHONDONTWRITEBYTECODE"] = "1"
        # The nursery has the modules of this tree.
        start = self.launch if code == ROOT else launch
        with log.open("ab") as out:
            process = start(
                f"services.{kind}",
                [],
                cwd=code,
                env=self.environment(**(more | env)),
                stdout=out,
                stderr=out,
            )
        service = Service(kind, name, process, log, port)
        self.services.append(service)
        if wait:
            self.wait_ready(service)
        return service

    def wait_ready(self, *services: Service) -> None:
        """Wait until each answers /readyz with 200."""
        end = time.monotonic() + _READY_S
        for service in services:
            while not service.ready():
                if not service.alive or time.monotonic() > end:
                    raise AssertionError(
                        f"{service.name} is not ready:\n{service.log.read_text()[-4000:]}"
                    )
                time.sleep(0.1)

    def stop(self) -> None:
        """End every process that was started here."""
        for service in self.services:
            service.signal(signal.SIGCONT)
            service.signal(signal.SIGTERM)
        end = time.monotonic() + 20
        for service in self.services:
            try:
                service.process.wait(max(0.1, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                service.kill()

    # -- mail

    async def produce(self, values: Iterable[bytes], class_: str = "bulk") -> int:
        """Produce submissions as a platform would."""
        producer = AIOKafkaProducer(
            bootstrap_servers=self.kafka, acks="all", max_request_size=40 << 20
        )
        await producer.start()
        count = 0
        try:
            for value in values:
                await producer.send(self.topics.submissions(class_), value)
                count += 1
            await producer.flush()
        finally:
            await producer.stop()
        return count


@dataclass(slots=True)
class Events:
    """Everything said on mail.events so far, by delivery."""

    stack: Stack
    partitions: int
    by_delivery: defaultdict[str, list[Event]] = field(default_factory=lambda: defaultdict(list))
    other: list[Event] = field(default_factory=list)
    _consumer: AIOKafkaConsumer | None = None

    async def __aenter__(self) -> Self:
        self._consumer = AIOKafkaConsumer(
            bootstrap_servers=self.stack.kafka,
            enable_auto_commit=False,
            isolation_level="read_committed",
            auto_offset_reset="earliest",
        )
        await self._consumer.start()
        self._consumer.assign(
            [TopicPartition(self.stack.topics.events, p) for p in range(self.partitions)]
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._consumer is not None
        await self._consumer.stop()

    async def read(self, wait_ms: int = 200) -> None:
        """Take what has come."""
        assert self._consumer is not None
        for records in (await self._consumer.getmany(timeout_ms=wait_ms)).values():
            for record in records:
                event = EVENT.decode(record.value)
                assert not isinstance(event, Unreadable), event
                if event.delivery is None:
                    self.other.append(event)
                else:
                    self.by_delivery[event.delivery].append(event)

    async def until_accepted(self, deliveries: int, seconds: float) -> None:
        """Wait until something was said of so many deliveries."""
        end = time.monotonic() + seconds
        while len(self.by_delivery) < deliveries:
            assert time.monotonic() < end, (
                f"{len(self.by_delivery)} of {deliveries} after {seconds} s"
            )
            await self.read()

    async def until_final(self, deliveries: int, seconds: float) -> None:
        """Wait until so many deliveries have a final event."""
        end = time.monotonic() + seconds
        while len(self.finals()) < deliveries:
            if time.monotonic() > end:
                raise AssertionError(
                    f"{len(self.finals())} of {deliveries} final after {seconds} s: {self.open()[:5]}"
                )
            await self.read()

    def finals(self) -> dict[str, Event]:
        """Give each delivery's final event; two of them are an error at once."""
        found: dict[str, Event] = {}
        for id_, events in self.by_delivery.items():
            final = [event for event in events if event.final]
            assert len(final) <= 1, f"{id_} has {len(final)} final events: {final}"
            if final:
                assert events[-1].final, (
                    f"{id_}: something was said after the final event: {events}"
                )
                found[id_] = final[0]
        return found

    def unknown(self) -> set[str]:
        """Give the recipients of whom an attempt's end was said to be unknown."""
        return {
            said[0].to
            for said in self.by_delivery.values()
            if any(event.type == "unknown" for event in said)
        }

    def open(self) -> Sequence[list[Event]]:
        return [events for events in self.by_delivery.values() if not events[-1].final]

    def types(self) -> Counter[str]:
        return Counter(event.type for event in self.finals().values())


def free_port() -> int:
    """Give a port of 127.0.0.1 that is free, below those that the kernel gives to outgoing connections.

    One that the kernel chose could be given to a connection before a server of the test listens on it; and each is given once in a
    while to one test of this machine alone, for it is seconds before that server does.
    """
    with (Path(tempfile.gettempdir()) / f"postyard-test-port-{os.getuid()}").open("a+") as last:
        fcntl.flock(last, fcntl.LOCK_EX)
        last.seek(0)
        port = int(last.read() or secrets.randbelow(_PORTS))
        for _ in range(_PORTS):
            port = (port + 1) % _PORTS
            with socket.socket() as probe:
                try:
                    probe.bind(("127.0.0.1", _FIRST_PORT + port))
                except OSError:
                    continue
            last.truncate(0)
            last.write(str(port))
            return _FIRST_PORT + port
    raise AssertionError(f"no free port from {_FIRST_PORT} on")
