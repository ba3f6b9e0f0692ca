"""Processes of services and commands that need not import everything anew: one process has, and forks.

What runs is what ``python -m …`` runs, in a process of its own with its own arguments, environment, folder and output, from the module's
first line to the interpreter's end. Only what the imports cost is paid once and not some hundred times: more than all else that a short
test does. Every kind of process is also started by ``python -m`` somewhere: by the demo, the pods, the tests of the life cycle.

The nursery has one thread and no loop, else it could not fork safely. What it is to start comes by a socket that is its input, each time
with the output's descriptors and a socket for this child alone: its process id is told there, and its exit code when it has ended. The
nursery ends when nobody is left who could ask.
"""

import contextlib
import gc
import importlib
import json
import os
import runpy
import select
import selectors
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final, Protocol

from services.sender.dkim import processor

ROOT: Final = Path(__file__).resolve().parents[2]
#: The modules that it can run. Senders come first: they choose OpenSSL's way before anything loads it.
MODULES: Final = (
    "services.sender",
    "services.scheduler",
    "services.ingest",
    "services.cli",
    "services.cli.demo.receiver",
)
_MOST: Final = 1 << 20
#: Above any that the nursery has open.
_DESCRIPTORS: Final = 1 << 12


class Process(Protocol):
    """What tests want of a process, be it a Popen or one of ours."""

    pid: int

    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...
    def send_signal(self, sig: int) -> None: ...


class Launch(Protocol):
    """Start ``python -m module words``."""

    def __call__(
        self,
        module: str,
        words: Sequence[str],
        *,
        cwd: Path,
        env: Mapping[str, str],
        stdout: IO[bytes],
        stderr: IO[bytes],
    ) -> Process: ...


def launch(
    module: str,
    words: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    stdout: IO[bytes],
    stderr: IO[bytes],
) -> Process:
    """Start it as anybody would."""
    return subprocess.Popen(
        [sys.executable, "-m", module, *words], cwd=cwd, env=env, stdout=stdout, stderr=stderr
    )


@dataclass(slots=True)
class Child:
    """A process that the nursery has started. Any thread may wait for its end, and several at once."""

    pid: int
    #: A descriptor: where its end is told, and open as long as anybody could be waiting there.
    _told: int
    _words: list[str]
    _code: int | None = None
    _hearing: threading.Lock = field(default_factory=threading.Lock)

    def __del__(self) -> None:
        os.close(self._told)

    def poll(self) -> int | None:
        return self._hear(0)

    def wait(self, timeout: float | None = None) -> int:
        code = self._hear(timeout)
        if code is None:
            assert timeout is not None
            raise subprocess.TimeoutExpired(self._words, timeout)
        return code

    def send_signal(self, sig: int) -> None:
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, sig)

    def _hear(self, timeout: float | None) -> int | None:
        listening = select.poll()
        listening.register(self._told, select.POLLIN)
        if not listening.poll(None if timeout is None else 1000 * timeout):
            return None
        with self._hearing:
            if self._code is None:
                said = os.read(self._told, 16)
                assert said, "the nursery ended before its child did"
                self._code = int(said)
            return self._code


@contextlib.contextmanager
def nursery() -> Iterator[Launch]:
    """Run a nursery; give what starts a process in it."""
    asking, asked = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with asking:
        with asked:
            running = subprocess.Popen(
                [sys.executable, "-m", "tests.support.nursery"], cwd=ROOT, stdin=asked.fileno()
            )

        def ours(
            module: str,
            words: Sequence[str],
            *,
            cwd: Path,
            env: Mapping[str, str],
            stdout: IO[bytes],
            stderr: IO[bytes],
        ) -> Process:
            assert module in MODULES, module
            told, telling = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with telling:
                given = [each.fileno() for each in (telling, stdout, stderr)]
                job = [module, list(words), str(cwd), dict(env)]
                socket.send_fds(asking, [json.dumps(job).encode()], given)
            said = told.recv(16)
            assert said, "the nursery is not there"
            return Child(int(said), told.detach(), [module, *words])

        yield ours
    running.wait(60)


@dataclass(slots=True)
class _Job:
    module: str
    words: list[str]


@dataclass(slots=True)
class _Nursery:
    asked: socket.socket
    selector: selectors.DefaultSelector = field(default_factory=selectors.DefaultSelector)
    #: process id -> where its end is told
    telling: dict[int, socket.socket] = field(default_factory=dict)

    def serve(self) -> _Job | None:
        """Start what is asked for: gives each child what it is to run, and nothing here once nobody is left to ask."""
        self.selector.register(self.asked, selectors.EVENT_READ)
        while True:
            for key, _ in self.selector.select():
                if key.fileobj is not self.asked:
                    self._ended(key.fd, key.data)
                    continue
                said, given, _, _ = socket.recv_fds(self.asked, _MOST, 3)
                if not said:
                    return None
                if job := self._start(said, given):
                    return job

    def _start(self, said: bytes, given: list[int]) -> _Job | None:
        pid = os.fork()
        if pid == 0:
            return self._born(said, given)
        telling, *output = given
        for each in output:
            os.close(each)
        self.telling[pid] = socket.socket(fileno=telling)
        self.telling[pid].send(b"%d" % pid)
        self.selector.register(os.pidfd_open(pid), selectors.EVENT_READ, pid)
        return None

    def _ended(self, descriptor: int, pid: int) -> None:
        self.selector.unregister(descriptor)
        os.close(descriptor)
        _, status = os.waitpid(pid, 0)
        # Nobody may want to hear it.
        with self.telling.pop(pid) as telling, contextlib.suppress(OSError):
            telling.send(b"%d" % os.waitstatus_to_exitcode(status))

    def _born(self, said: bytes, given: list[int]) -> _Job:
        """Become what ``python -m`` would start."""
        module, words, cwd, env = json.loads(said)
        _, stdout, stderr = given
        os.dup2(stdout, 1)
        os.dup2(stderr, 2)
        nothing = os.open(os.devnull, os.O_RDONLY)
        self.asked.detach()
        os.dup2(nothing, 0)
        # Whoever waits for the end of another child would wait for this one, too.
        self.selector.close()
        for each in self.telling.values():
            each.detach()
        os.closerange(3, _DESCRIPTORS)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.chdir(cwd)
        os.environ.clear()
        os.environ.update(env)
        return _Job(module, words)


def _prepare() -> None:
    """Import what the modules import, and not themselves: each child runs its own from the first line on."""
    processor.choose()
    for module in MODULES:
        importlib.import_module(f"{module}.__main__")
        del sys.modules[f"{module}.__main__"]
        delattr(sys.modules[module], "__main__")
    tasks = [task.name for task in Path("/proc/self/task").iterdir()]
    assert len(tasks) == 1, f"something that was imported has started a thread: {tasks}"
    gc.collect()
    gc.freeze()


def _main() -> _Job | None:
    # Ctrl-C is for whoever runs the tests; the nursery ends with them.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _prepare()
    return _Nursery(socket.socket(fileno=0)).serve()


if __name__ == "__main__" and (job := _main()):
    sys.argv[1:] = job.words
    runpy.run_module(job.module, run_name="__main__", alter_sys=True)
