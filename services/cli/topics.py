"""`postyard topics …`: make Kafka's topics what Postyard declares them to be, or say what differs."""

from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import TypeVar

import click

from services.cli.acl import commands, kafka_topic, kafka_user, rights
from services.cli.session import Misconfigured, config_option, settings_of, talk
from shared.kafka.admin import apply_topics, check_topics, forgotten_too_soon
from shared.kafka.cluster import Cluster
from shared.records.access import SERVICES, access
from shared.records.topics import CLASSES, Topics, TopicSpec
from shared.runtime.requirement import declared_topics
from shared.runtime.settings import Settings

T = TypeVar("T")


@click.group()
def topics() -> None:
    """Create Kafka's topics, check them, and say who must be allowed what with them.

    Names, partitions, retention and sizes are declared in one place of Postyard; kafka.partitions, kafka.slots,
    kafka.replication and kafka.min_insync of the configuration decide the numbers.
    """


@topics.command()
@config_option
def apply(path: Path) -> None:
    """Create what is missing and set what differs.

    A partition count that differs is never changed: which partition decides about a delivery depends on it. It is
    reported, as is everything else that is left to do, and the exit code is 78.
    """
    settings = settings_of(path)
    done = _ask(settings, apply_topics)
    for name in done.created:
        click.echo(f"created {name}")
    for what in done.altered:
        click.echo(f"altered {what}")
    if done.problems:
        raise Misconfigured("\n".join(done.problems))
    if not done.created and not done.altered:
        click.echo("all topics are as declared")


@topics.command()
@config_option
def check(path: Path) -> None:
    """Say what is not as declared, and what to do about it; exit code 78 if anything is."""
    settings = settings_of(path)
    problems = _ask(settings, check_topics)
    if problems:
        raise Misconfigured("\n".join(problems))
    click.echo("all topics are as declared")


def _ask(settings: Settings, question: Callable[[Cluster, Iterable[TopicSpec]], Awaitable[T]]) -> T:
    """Ask it of the declared topics, and say what is to be remarked on the brokers beside."""
    declared = declared_topics(settings)
    names = {Topics(settings.kafka.prefix).submissions(class_) for class_ in CLASSES}
    read = [spec for spec in declared if spec.name in names]

    async def converse(cluster: Cluster) -> tuple[T, list[str]]:
        return await question(cluster, declared), await forgotten_too_soon(cluster, read)

    answer, remarks = talk(settings, converse)
    for remark in remarks:
        click.echo(f"remark: {remark}", err=True)
    return answer


@topics.command()
@config_option
@click.option(
    "--cluster", default="postyard", show_default=True, help="The KafkaTopics' cluster in Strimzi."
)
def manifests(path: Path, cluster: str) -> None:
    """Print the topics as KafkaTopics of Strimzi, for those who do not let `apply` create them."""
    for spec in declared_topics(settings_of(path)):
        click.echo("---")
        click.echo(kafka_topic(spec, cluster=cluster))


@topics.command()
@config_option
@click.option(
    "--for",
    "services",
    type=click.Choice(list(SERVICES)),
    multiple=True,
    help="Only this service; may be given several times.",
)
@click.option(
    "--principal",
    "principals",
    multiple=True,
    metavar="SERVICE=NAME",
    help="The service's user in Kafka, where it is not called postyard-SERVICE. With mTLS: the certificate's whole subject.",
)
@click.option(
    "--as",
    "form",
    type=click.Choice(["commands", "strimzi"]),
    default="commands",
    show_default=True,
    help="For kafka-acls, or as KafkaUsers of Strimzi.",
)
@click.option(
    "--authentication",
    type=click.Choice(["scram-sha-512", "tls"]),
    default="scram-sha-512",
    show_default=True,
    help="Of the KafkaUsers.",
)
@click.option(
    "--cluster", default="postyard", show_default=True, help="The KafkaUsers' cluster in Strimzi."
)
@click.option(
    "--tool",
    default="kafka-acls.sh",
    show_default=True,
    help="How kafka-acls is started; with --command-config FILE it logs in.",
)
def acl(
    path: Path,
    services: tuple[str, ...],
    principals: tuple[str, ...],
    form: str,
    authentication: str,
    cluster: str,
    tool: str,
) -> None:
    """Print the least that each service must be allowed in Kafka.

    Nothing is changed. A service that lacks a right ends with code 77. `platform` is a program of yours that submits mail
    and follows the events.
    """
    settings = settings_of(path)
    named = dict(_principal(word) for word in principals)
    for service in services or SERVICES:
        principal = named.get(service, f"postyard-{service}")
        granted = rights(access(service, Topics(settings.kafka.prefix)))
        if form == "strimzi":
            click.echo("---")
            click.echo(
                kafka_user(principal, granted, authentication=authentication, cluster=cluster)
            )
        else:
            click.echo(f"# {service}: {SERVICES[service]}")
            for command in commands(principal, granted, tool=tool, server=settings.kafka.bootstrap):
                click.echo(command)


def _principal(word: str) -> tuple[str, str]:
    service, equals, name = word.partition("=")
    if not equals or service not in SERVICES or not name:
        raise click.BadParameter(
            f"expected SERVICE=NAME with one of {', '.join(SERVICES)}, got {word}",
            param_hint="--principal",
        )
    return service, name
