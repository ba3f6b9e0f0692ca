"""/metrics, /healthz and /readyz on one port.

Liveness depends on the loop alone: whoever can answer is alive. Restarting a pod because Kafka or DNS is away would only make things
worse. Readiness says why it is missing. A service may have routes of its own beside these three.
"""

import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from aiohttp import web

from shared.runtime.metrics import Metrics


class CannotListen(Exception):
    """The address or the port is not to be had."""


@dataclass(slots=True)
class Health:
    """One HTTP server; ``not_ready`` gives the reasons, none when ready; ``what`` says more about a service that is."""

    host: str
    port: int
    metrics: Metrics
    not_ready: Callable[[], list[str]]
    routes: Sequence[web.RouteDef] = ()
    what: Callable[[], list[str]] = list
    _runner: web.AppRunner | None = None

    def url(self, given: str = "") -> str:
        """Say where other machines of the cluster reach it: ``given``, else the host it listens at, else the machine's own address."""
        if given:
            return given.rstrip("/")
        if self._runner is None:
            raise RuntimeError("start() comes first")
        host = self.host
        if host in ("0.0.0.0", "::", ""):  # noqa: S104 - compared, not bound
            # In a pod its name leads to its address.
            host = socket.gethostbyname(socket.gethostname())
        return f"http://{f'[{host}]' if ':' in host else host}:{self._runner.addresses[0][1]}"

    async def start(self) -> int:
        """Listen, and give the port (``port`` 0: the one that was free); raises CannotListen."""
        app = web.Application()
        app.add_routes(
            [
                web.get("/metrics", self._metrics),
                web.get("/healthz", self._healthz),
                web.get("/readyz", self._readyz),
                *self.routes,
            ]
        )
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self.host, self.port).start()
        except OSError as error:
            await self._runner.cleanup()
            raise CannotListen(f"http.host {self.host}, http.port {self.port}: {error}") from error
        return int(self._runner.addresses[0][1])

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=self.metrics.page(), content_type="text/plain", charset="utf-8")

    async def _healthz(self, _: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _readyz(self, _: web.Request) -> web.Response:
        reasons = self.not_ready()
        return web.Response(
            text="\n".join(reasons or ["ready", *self.what()]) + "\n",
            status=503 if reasons else 200,
        )

    async def stop(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()
