"""Read the configuration, talk to Kafka once, and end with an exit code that names the cause.

Every command is a short conversation: connect, ask or append, read back, close. What goes wrong becomes one sentence on standard error and
a code: 69 Kafka does not answer, 77 it does not let us, 78 the configuration or the topics are wrong, 1 the order makes no sense now, 2
wrong usage (click's).
"""

import asyncio
import getpass
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from shared.kafka.admin import check_topics
from shared.kafka.cluster import Cluster, connect
from shared.kafka.controlfeed import read_to_end
from shared.kafka.errors import KafkaTrouble, KafkaUnavailable, NotAllowed, TopicProblem
from shared.kafka.security import CredentialsUnusable
from shared.protocol.control import ControlView
from shared.records.codec import encode
from shared.records.control import Control, control_key
from shared.records.topics import Topics
from shared.runtime.lifecycle import BUG, CONFIG, NO_PERMISSION, UNAVAILABLE
from shared.runtime.loading import SettingsError, load
from shared.runtime.requirement import declared_topics
from shared.runtime.settings import Settings

T = TypeVar("T")
#: A command that says nothing for so long is worse than one that gives up.
_PATIENCE_S: Final = 45
_DEFAULT_CONFIG: Final = "postyard.toml"

_CONFIG: Final = click.Path(path_type=Path)

config_option: Callable[[Callable[..., Any]], Callable[..., Any]] = click.option(
    "--config",
    "path",
    type=_CONFIG,
    envvar="POSTYARD_CONFIG",
    show_envvar=True,
    default=_DEFAULT_CONFIG,
    show_default=True,
    help="The configuration: a TOML file, or a directory of them.",
)

config_argument: Callable[[Callable[..., Any]], Callable[..., Any]] = click.argument(
    "path", metavar="FILE", type=_CONFIG, envvar="POSTYARD_CONFIG", default=_DEFAULT_CONFIG
)


def _login() -> str | None:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # A container's user often has no name.
        return None


author_option: Callable[[Callable[..., Any]], Callable[..., Any]] = click.option(
    "--author",
    envvar="POSTYARD_AUTHOR",
    default=_login,
    required=True,
    help="Who orders it; your login if not given.",
)


class Failed(click.ClickException):
    """The command could not do what it was asked; its sentences are printed, and the class says the exit code."""

    def show(self, file: Any = None) -> None:
        """Print every line as it is: each is a sentence that begins with what it is about."""
        click.echo(self.message, file=file, err=file is None)


class Misconfigured(Failed):
    """The configuration, or the topics, must be changed first."""

    exit_code = CONFIG


class Unavailable(Failed):
    """Kafka does not answer: later it may work."""

    exit_code = UNAVAILABLE


class Refused(Failed):
    """Kafka does not know us, or lets us not do this."""

    exit_code = NO_PERMISSION


class Broken(Failed):
    """Kafka said what nobody expected."""

    exit_code = BUG


def settings_of(path: Path) -> Settings:
    """Read the configuration; raises Failed with all its problems."""
    try:
        return load(path, os.environ)
    except SettingsError as error:
        raise Misconfigured("\n".join(error.problems)) from error


def talk(settings: Settings, conversation: Callable[[Cluster], Awaitable[T]]) -> T:
    """Connect, hold ``conversation``, close; raises Failed."""
    where = settings.kafka.bootstrap
    try:
        return asyncio.run(_talk(settings, conversation))
    except CredentialsUnusable as error:
        raise Misconfigured(str(error)) from error
    except NotAllowed as error:
        raise Refused(f"Kafka at {where} does not allow it: {error}") from error
    except KafkaUnavailable as error:
        raise Unavailable(f"Kafka at {where} does not answer: {error}") from error
    except TimeoutError as error:
        raise Unavailable(f"Kafka at {where} did not answer within {_PATIENCE_S} s") from error
    except TopicProblem as error:
        raise Misconfigured(str(error)) from error
    except KafkaTrouble as error:
        raise Broken(f"Kafka at {where}: {type(error).__name__}: {error}") from error


async def _talk(settings: Settings, conversation: Callable[[Cluster], Awaitable[T]]) -> T:
    cluster = connect(settings.kafka, client_id="postyard-cli")
    try:
        async with asyncio.timeout(_PATIENCE_S):
            return await conversation(cluster)
    finally:
        await cluster.close()


async def _control(cluster: Cluster, settings: Settings) -> str:
    """Name mail.control, once it is known to be there: a client waits long for a topic that is not."""
    name = Topics(settings.kafka.prefix).control
    problems = await check_topics(
        cluster, [spec for spec in declared_topics(settings) if spec.name == name]
    )
    if problems:
        raise TopicProblem("\n".join(problems))
    return name


async def read_control(cluster: Cluster, settings: Settings) -> ControlView:
    """Read mail.control to the end that it has now."""
    return await read_to_end(cluster, await _control(cluster, settings))


async def append_control(cluster: Cluster, settings: Settings, record: Control) -> None:
    """Append one record to mail.control; it is acknowledged by all in-sync replicas when this returns."""
    topic = await _control(cluster, settings)
    producer = await cluster.producer(linger_ms=0)
    try:
        await producer.send(topic, 0, encode(record), key=control_key(record))
    finally:
        await producer.stop()
