"""`postyard topics …`: make Kafka's topics what Postyard declares them to be, or say what differs."""

from pathlib import Path

import click

from services.cli.session import Misconfigured, config_option, settings_of, talk
from shared.kafka.admin import apply_topics, check_topics
from shared.runtime.requirement import declared_topics


@click.group()
def topics() -> None:
    """Create Kafka's topics, or check them.

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
    done = talk(settings, lambda cluster: apply_topics(cluster, declared_topics(settings)))
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
    problems = talk(settings, lambda cluster: check_topics(cluster, declared_topics(settings)))
    if problems:
        raise Misconfigured("\n".join(problems))
    click.echo("all topics are as declared")
