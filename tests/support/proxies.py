"""Real proxies, each a process of the test's own: microsocks and Dante send from one address, HAProxy is told from which."""

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


def dante(directory: Path, listen: str, address: str, *, user: str, password: str) -> Program:
    """A SOCKS5 server that sends from ``address`` for one user, who is none of this machine: for root.

    Dante asks the system for its users. So it gets one of its own, in files that only it sees instead of the system's. All of its
    processes end with the shell, the first of their own numbering; Dante itself, which changes users, would outlive its parent.
    """
    port = free_port()
    made = subprocess.run(
        ["openssl", "passwd", "-6", password], check=True, capture_output=True, text=True
    )
    lines = {
        "passwd": f"{user}:x:4242:65534::/:/usr/sbin/nologin\n",
        "shadow": f"{user}:{made.stdout.strip()}:19000::::::\n",
    }
    for name, line in lines.items():
        copy = directory / name
        copy.write_text(Path("/etc", name).read_text() + line)
        copy.chmod(0o600 if name == "shadow" else 0o644)
    file = directory / "danted.conf"
    file.write_text(
        f"logoutput: stderr\ninternal: {listen} port = {port}\nexternal: {address}\n"
        "clientmethod: none\nsocksmethod: username\nuser.privileged: root\nuser.unprivileged: nobody\n"
        "client pass { from: 0.0.0.0/0 to: 0.0.0.0/0 }\n"
        "socks pass { from: 0.0.0.0/0 to: 0.0.0.0/0 command: connect }\n"
    )
    mounts = " && ".join(f"mount --bind {directory / name} /etc/{name}" for name in lines)
    alone = ["unshare", "--mount", "--pid", "--fork", "--kill-child"]
    command = [*alone, "sh", "-c", f"{mounts} && danted -f {file}; exit"]
    return Program(command, port, listen)


def haproxy(directory: Path, *addresses: str, listen: str = "127.0.0.1") -> Program:
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
        f"listen postyard\n    bind {listen}:{port} accept-proxy\n" + "\n".join(chosen) + "\n"
    )
    return Program(["/usr/sbin/haproxy", "-db", "-f", str(file)], port, listen)
