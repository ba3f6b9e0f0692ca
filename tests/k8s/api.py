"""A client of the API server for what helm and kubectl do not do: the status of nodes and pods, many questions a second."""

import http.client
import json
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

Object = dict[str, Any]
_MERGE: Final = "application/strategic-merge-patch+json"
_SECONDS: Final = 20
_TRIES: Final = 4
_PAUSE_S: Final = 0.5
#: Somebody else was there before, or it is there already: whoever asks looks again.
_LATE: Final = (404, 409)


class Refused(Exception):
    """The API server says no."""


@dataclass(slots=True)
class Api:
    """Connections that any thread may use, one at a time each; ``close`` ends them."""

    host: str
    port: int
    certificate: Path
    token: str
    _idle: list[http.client.HTTPSConnection] = field(default_factory=list)
    _context: ssl.SSLContext = field(init=False)

    def __post_init__(self) -> None:
        """Trust the server's own certificate."""
        self._context = ssl.create_default_context(cafile=str(self.certificate))

    def close(self) -> None:
        """Close what is not in use."""
        while self._idle:
            self._idle.pop().close()

    def healthy(self) -> bool:
        """Say whether the server is ready."""
        try:
            return self._ask("GET", "/readyz", None, "")[0] == 200
        except (OSError, http.client.HTTPException):
            return False

    def get(self, path: str) -> Object | None:
        """Read an object or a list; None: there is none."""
        return self._do("GET", path)

    def items(self, path: str) -> list[Object]:
        """Read a list's objects."""
        found = self._do("GET", path)
        assert found is not None, path
        items: list[Object] = found["items"]
        return items

    def create(self, path: str, what: Mapping[str, Any]) -> Object | None:
        """Make an object; None: it is there already."""
        return self._do("POST", path, what)

    def patch(self, path: str, what: Mapping[str, Any]) -> Object | None:
        """Change an object; None: it is gone."""
        return self._do("PATCH", path, what, _MERGE)

    def delete(self, path: str, options: Mapping[str, Any]) -> Object | None:
        """Delete an object; ``options`` go into the body, where alone the last word on a pod's grace counts."""
        return self._do("DELETE", path, options)

    def _do(self, method: str, path: str, body: Any = None, kind: str = "application/json") -> Object | None:  # fmt: skip
        for again in range(_TRIES):
            try:
                status, text = self._ask(method, path, body, kind, fresh=again > 0)
            except (OSError, http.client.HTTPException):
                # The server had closed what was idle; another idle one may be as old. What is asked here may be asked twice.
                if again == _TRIES - 1:
                    raise
                time.sleep(_PAUSE_S * again)
            else:
                return self._judged(f"{method} {path}", status, text)
        raise AssertionError("not reached")

    @staticmethod
    def _judged(asked: str, status: int, text: bytes) -> Object | None:
        if status in _LATE:
            return None
        if status >= 300:
            raise Refused(f"{asked}: {status} {text[:500]!r}")
        found: Object = json.loads(text)
        return found

    def _ask(self, method: str, path: str, body: Any, kind: str, *, fresh: bool = False) -> tuple[int, bytes]:  # fmt: skip
        try:
            connection = None if fresh else self._idle.pop()
        except IndexError:
            connection = None
        if connection is None:
            connection = http.client.HTTPSConnection(
                self.host, self.port, timeout=_SECONDS, context=self._context
            )
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": kind}
        try:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            text = answer.read()
        except (OSError, http.client.HTTPException):
            connection.close()
            raise
        self._idle.append(connection)
        return answer.status, text
