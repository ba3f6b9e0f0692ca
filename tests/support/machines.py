"""Machines of a test's own, each a network namespace with real addresses, joined by cables: for root on Linux.

A namespace is a thread's, and ends with it: nothing has a name, nothing is left behind, however the test ends. What is called in a machine,
and every program that is started there, sees its addresses only.
"""

import contextlib
import ctypes
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self, TypeVar

T = TypeVar("T")
#: <linux/sched.h>; Python has both calls from 3.12 on.
_CLONE_NEWNET: Final = 0x40000000
_LIBC: Final = ctypes.CDLL(None, use_errno=True)


def missing() -> str:
    """Say why there can be no machines here; empty: there can."""
    if os.geteuid() != 0:
        return "only root may make network namespaces"
    if not all(map(shutil.which, ("ip", "unshare"))):
        return "iproute2 or util-linux is not installed"
    done = subprocess.run(["unshare", "--net", "true"], capture_output=True, check=False)
    return "" if done.returncode == 0 else "no network namespaces can be made here"


@dataclass
class Machine:
    """``with Machine() as one: …``."""

    _thread: ThreadPoolExecutor = field(init=False)
    #: The thread that has the namespace.
    tid: int = field(init=False)

    def __enter__(self) -> Self:
        self._thread = ThreadPoolExecutor(1, initializer=_leave)
        self.tid = self.call(threading.get_native_id)
        self.do("ip", "link", "set", "lo", "up")
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown()

    def call(self, what: Callable[[], T]) -> T:
        """Call it in the machine."""
        return self._thread.submit(what).result()

    def do(self, *command: str) -> None:
        """Run a command in the machine."""
        done = self.call(
            lambda: subprocess.run(command, capture_output=True, text=True, check=False)
        )
        assert done.returncode == 0, (command, done.stderr)

    @contextlib.contextmanager
    def beside(self, what: Callable[[threading.Event], None]) -> Iterator[None]:
        """Run it beside whatever is called in the machine, until the block ends and the event that it is given is set."""
        stop = threading.Event()
        with ThreadPoolExecutor(1, initializer=self._join) as thread:
            running = thread.submit(what, stop)
            try:
                yield
            finally:
                stop.set()
                running.result(30)

    def _join(self) -> None:
        with Path(f"/proc/self/task/{self.tid}/ns/net").open() as there:
            _checked(_LIBC.setns(there.fileno(), _CLONE_NEWNET))


def cable(one: Machine, other: Machine, ends: tuple[str, str], *addresses: tuple[str, str]) -> None:
    """Lay a cable between two machines; each pair of addresses, with their prefixes, is given to its ends."""
    here, there = ends
    one.do(
        "ip", "link", "add", here, "type", "veth", "peer", "name", there, "netns", str(other.tid)
    )
    for machine, end, side in ((one, here, 0), (other, there, 1)):
        machine.do("ip", "link", "set", end, "up")
        for pair in addresses:
            if pair[side]:
                give(machine, end, pair[side])


def give(machine: Machine, end: str, address: str) -> None:
    """Give an address to one end of a cable."""
    # An IPv6 address is not used before it is known to be nobody else's, which takes a second or two.
    machine.do("ip", "address", "add", address, "dev", end, *(["nodad"] if ":" in address else []))


def _leave() -> None:
    _checked(_LIBC.unshare(_CLONE_NEWNET))


def _checked(result: int) -> None:
    if result:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
