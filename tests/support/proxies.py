"""Real proxies, each a process of the test's own: microsocks, which sends from one address, and HAProxy, which is told from which."""

import socket
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from tests.support.stack import free_port


@dataclass(slots=True)
class Program:
    """A program that listens on ``port``; it may be killed and started again at the same place."""

    command: Sequence[str]
    port: int
    host: str = "127.0.0.1"
    _process: subprocess.Popen[bytes] | None = field(default=None)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        self._process = subprocess.Popen(
            self.command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        end = time.monotonic() + 20
        while True:
            try:
                socket.create_connection((self.host, self.port), 1).close()
            except OSError:
                if time.monotonic() > end or self._process.poll() is not None:
                    raise
                time.sleep(0.02)
            else:
                return

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)

    def signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)


def microsocks(address: str, *, user: str = "", password: str = "") -> Program:
    """A SOCKS5 server that sends from ``address``."""
    port = free_port()
    command = ["microsocks", "-i", "127.0.0.1", "-p", str(port), "-b", address]
    if user:
        command += ["-u", user, "-P", password]
    return Program(command, port)


def haproxy(directory: Path, *addresses: str) -> Program:
    """An HAProxy that connects where a PROXY header says, from those of its addresses that it names."""
    port = free_port()
    chosen = [
        f"    use-server ip-{at} if {{ src {address} }}" for at, address in enumerate(addresses)
    ]
    for at, address in enumerate(addresses):
        v6 = ":" in address
        chosen.append(
            f"    server ip-{at} {'[::]' if v6 else '0.0.0.0'} source {address}{':0' if v6 else ''} weight 0"
        )
    file = directory / "haproxy.cfg"
    file.write_text(
        "defaults\n    mode tcp\n    retries 0\n    timeout connect 5s\n    timeout client 1m\n    timeout server 1m\n"
        f"listen postyard\n    bind 127.0.0.1:{port} accept-proxy\n" + "\n".join(chosen) + "\n"
    )
    return Program(["/usr/sbin/haproxy", "-db", "-f", str(file)], port)
