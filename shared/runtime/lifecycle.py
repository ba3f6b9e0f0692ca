"""How a service's process begins and ends: settings, log, loop, signals, exit code by cause.

0 asked to stop · 2 wrong usage · 69 Kafka is not there · 70 a bug · 71 the port is taken · 77 Kafka does not let us · 78 the
configuration or the topics are wrong

Before a service runs, the topics are compared with what its configuration declares: a wrong partition count is found here and not by
mail that nobody decides about. The first SIGTERM or SIGINT sets ``stop``; how long the service then takes is its own affair.
"""

import argparse
import asyncio
import os
import secrets
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import uvloop
from aiohttp import web
from structlog.typing import FilteringBoundLogger

from shared.kafka.cluster import connect
from shared.kafka.controlfeed import read_to_end
from shared.kafka.errors import KafkaUnavailable, NotAllowed, TopicProblem
from shared.kafka.security import CredentialsUnusable
from shared.records.configuration import Configuration
from shared.records.topics import Topics
from shared.runtime.health import CannotListen, Health
from shared.runtime.loading import SettingsError
from shared.runtime.logging import configure
from shared.runtime.metrics import Metrics
from shared.runtime.reloading import Reloading, Renew, read
from shared.runtime.requirement import require_topics
from shared.runtime.settings import Settings

OK: Final = 0
UNAVAILABLE: Final = 69
BUG: Final = 70
MACHINE: Final = 71
NO_PERMISSION: Final = 77
CONFIG: Final = 78

#: What ends a process, and is no bug.
_CONDITIONS: Final = (
    KafkaUnavailable,
    NotAllowed,
    CredentialsUnusable,
    TopicProblem,
    SettingsError,
    CannotListen,
)
_ENVIRONMENT: Final = """\
environment:
  POSTYARD_CONFIG           the configuration, where --config is not given
  POSTYARD_KAFKA_BOOTSTRAP  wins over kafka.bootstrap
  POSTYARD_KAFKA_USERNAME   wins over kafka.sasl.username
  POSTYARD_HTTP_PORT        wins over http.port; 0 takes any free one
  POSTYARD_HTTP_URL         where others reach http.port (a scheduler says it to `postyard`); else the machine's address
  POSTYARD_POD              what stays the same when the process restarts in its pod (the pod's uid), and nobody else's
  POSTYARD_LOCK_DIR         a directory of the pod, where its processes prove with locks that they live
  POSTYARD_ORDINAL          which of the senders this is, for direct sources; wins over the end of HOSTNAME

exit codes:
  0 asked to stop   2 wrong usage   69 Kafka does not answer   70 a bug   71 the port is taken
  77 Kafka does not know us or lets us not do this   78 the configuration or the topics are wrong
"""


class Serve(Protocol):
    """Answer /metrics, /healthz and /readyz, and the service's own routes, until the process ends."""

    def __call__(
        self,
        not_ready: Callable[[], list[str]],
        routes: Sequence[web.RouteDef] = (),
        what: Callable[[], list[str]] = list,
    ) -> Awaitable[Health]:
        """``not_ready`` gives the reasons why the service is not; none when it is; ``what`` says more about one that is."""
        ...


@dataclass(frozen=True, slots=True)
class Process:
    """What every service is given."""

    settings: Settings
    log: FilteringBoundLogger
    metrics: Metrics
    env: Mapping[str, str]
    #: Unique for each start.
    name: str
    #: The same for a restart in the same pod.
    pod: str
    stop: asyncio.Event
    serve: Serve
    reloading: Reloading

    async def work(self, run: Awaitable[None], hot: Collection[str], renew: Renew) -> None:
        """Await ``run``, and meanwhile have ``renew`` take over what changes in the sections ``hot`` of the configuration."""
        async with asyncio.TaskGroup() as tasks:
            looking = tasks.create_task(self.reloading.run(hot, renew))
            await run
            looking.cancel()


def main(
    service: str,
    about: str,
    run: Callable[[Process], Awaitable[None]],
    argv: Sequence[str] | None = None,
) -> int:
    """Run a service until it ends or is told to; gives the exit code."""
    arguments = _arguments(service, about, argv)
    env = dict(os.environ)
    path = Path(arguments.config or env.get("POSTYARD_CONFIG") or "postyard.toml")
    written = read(path, env)
    settings = written.settings
    if settings is None:
        for problem in written.problems:
            sys.stderr.write(f"{problem}\n")
        return CONFIG
    name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
    pod = env.get("POSTYARD_POD") or name
    log = configure(service, pod, settings.log.level, recipients=settings.log.recipients)
    metrics = Metrics()
    reloading = Reloading(path, env, settings, log, metrics, written.fingerprint)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_run(service, run, reloading, name, pod))


def _arguments(service: str, about: str, argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=f"python -m services.{service}",
        description=about,
        epilog=_ENVIRONMENT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--config", help="a TOML file, or a directory of them (POSTYARD_CONFIG; postyard.toml)"
    )
    return parser.parse_args(argv)


async def _run(
    service: str,
    run: Callable[[Process], Awaitable[None]],
    reloading: Reloading,
    name: str,
    pod: str,
) -> int:
    stop, settings, log, metrics = (
        asyncio.Event(),
        reloading.settings,
        reloading.log,
        reloading.metrics,
    )
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    served: list[Health] = []

    async def serve(
        not_ready: Callable[[], list[str]],
        routes: Sequence[web.RouteDef] = (),
        what: Callable[[], list[str]] = list,
    ) -> Health:
        health = Health(settings.http.host, settings.http.port, metrics, not_ready, routes, what)
        port = await health.start()
        log.info("listening", host=settings.http.host, port=port)
        served.append(health)
        return health

    log.info("starting")
    code = OK
    try:
        await require_topics(settings, service, client_id=f"postyard-{name}")
        if settings.configuration.follow == "control":
            reloading.begin(await _published(settings, client_id=f"postyard-{name}"))
            settings = reloading.settings
        await run(Process(settings, log, metrics, reloading.env, name, pod, stop, serve, reloading))
    except* _CONDITIONS as group:
        code = _condition(log, _first(group))
    except* Exception as group:
        log.exception("bug", reason=_told(_first(group)))
        code = BUG
    finally:
        for health in served:
            await health.stop()
        log.info("ended", code=code)
    return code


async def _published(settings: Settings, *, client_id: str) -> Configuration | None:
    cluster = connect(settings.kafka, client_id=client_id)
    try:
        view = await read_to_end(cluster, Topics(settings.kafka.prefix).control)
    finally:
        await cluster.close()
    return view.configuration


def _condition(log: FilteringBoundLogger, error: BaseException) -> int:
    """Say what keeps the process from running, and give its exit code."""
    reason = _told(error)
    match error:
        case KafkaUnavailable():
            log.error("kafka_unavailable", reason=reason)
            return UNAVAILABLE
        case NotAllowed():
            log.error("kafka_not_allowed", reason=reason)
            return NO_PERMISSION
        case CredentialsUnusable():
            log.error("credentials_unusable", reason=reason)
        case TopicProblem():
            log.error("topics_wrong", reason=reason)
        case SettingsError():
            log.error("config_unusable", reason=reason)
        case _:
            log.error("cannot_listen", reason=reason)
            return MACHINE
    return CONFIG


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
