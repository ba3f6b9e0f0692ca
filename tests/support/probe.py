"""A probe of a container's spec: when it is due, and what the answers in a row mean. The defaults are those of the API."""

import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

#: What Kubernetes says of a probe's status.
_OK: Final = range(200, 400)


@dataclass(slots=True)
class Probe:
    """One probe of one process: a restarted container is asked anew."""

    spec: Mapping[str, Any]
    #: When the process began, in seconds of the monotonic clock.
    since: float
    _due: float = 0
    #: Answers in a row: good ones count up, bad ones down.
    _row: int = 0

    def look(self, now: float, ask: Callable[[Mapping[str, Any]], bool]) -> bool | None:
        """Ask if it is time, and give what holds from now on; None: as before."""
        if now < max(self._due, self.since + self.spec.get("initialDelaySeconds", 0)):
            return None
        self._due = now + self.spec.get("periodSeconds", 10)
        good = ask(self.spec)
        self._row = max(self._row, 0) + 1 if good else min(self._row, 0) - 1
        if self._row >= self.spec.get("successThreshold", 1):
            return True
        if -self._row >= self.spec.get("failureThreshold", 3):
            return False
        return None


def asked(
    spec: Mapping[str, Any],
    port: Callable[[int | str], int],
    run: Callable[[Sequence[str]], "subprocess.Popen[bytes]"],
) -> bool:
    """Ask once; ``port``: where a named or numbered port of the pod is on this machine."""
    seconds = spec.get("timeoutSeconds", 1)
    match spec:
        case {"httpGet": http}:
            return get(port(http["port"]), http["path"], seconds)[0] in _OK
        case {"tcpSocket": tcp}:
            try:
                socket.create_connection(("127.0.0.1", port(tcp["port"])), seconds).close()
            except OSError:
                return False
            return True
        case {"exec": {"command": command}}:
            process = run(command)
            try:
                return process.wait(seconds) == 0
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)
                return False
        case _:
            raise AssertionError(f"a probe that is not known here: {spec}")


def get(port: int, path: str, seconds: float = 5) -> tuple[int, str]:
    """Give status and text; 0: nobody answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=seconds) as answer:
            return int(answer.status), answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""
