"""Give operators and the Makefile `postyard cluster …`: a local Kafka to play with.

It is for one machine: one broker, one copy of everything, no encryption, only on 127.0.0.1.
"""

import os
from pathlib import Path
from typing import Final

import click

from services.cli.cluster.broker import LocalKafka
from services.cli.cluster.error import LocalKafkaError
from services.cli.cluster.jars import fetch_jars

_DIRECTORY: Final = click.option(
    "--dir",
    "directory",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("run/kafka"),
    show_default=True,
    help="The broker's folder: configuration, data, log.",
)


@click.group()
def cluster() -> None:
    """Run a local Kafka: one broker on 127.0.0.1, for trying things out."""


@cluster.command()
def fetch() -> None:
    """Fetch Kafka's jars with Maven into the cache, unless they are there."""
    try:
        click.echo(fetch_jars(os.environ))
    except LocalKafkaError as problem:
        raise click.ClickException(str(problem)) from problem


@cluster.command()
@_DIRECTORY
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=0,
    help="0: the one it had before, else any free one.",
)
def up(directory: Path, port: int) -> None:
    """Start the broker, wait until it answers, and print where."""
    kafka = LocalKafka(directory, port=port)
    try:
        kafka.start()
    except LocalKafkaError as problem:
        raise click.ClickException(str(problem)) from problem
    click.echo(kafka.bootstrap)


@cluster.command()
@_DIRECTORY
def down(directory: Path) -> None:
    """Stop the broker; its data stay."""
    click.echo("stopped" if LocalKafka(directory).stop() else "it was not running")


@cluster.command()
@_DIRECTORY
@click.pass_context
def status(context: click.Context, directory: Path) -> None:
    """Say whether the broker runs; exit 1 if not."""
    kafka = LocalKafka(directory)
    click.echo(repr(kafka))
    context.exit(0 if kafka.answers else 1)
