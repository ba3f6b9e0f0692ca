"""``python -m services.cli.demo run|up|down``: a whole cluster on this machine, with mail to watch."""

import asyncio
import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click
from rich.console import Console
from rich.live import Live

from services.cli.cluster.error import LocalKafkaError
from services.cli.demo import summary, view
from services.cli.demo.stage import ROOT, Stage, StageError

_PATIENCE_S: Final = 240.0
_LOOK_S: Final = 0.5
_LINE_S: Final = 5.0
#: How long nothing may change after the last message ended, so that what should not come has had its chance to.
_QUIET_S: Final = 2.0

_DIR = click.option(
    "--dir",
    "directory",
    type=click.Path(path_type=Path),
    default=Path("run/demo"),
    show_default=True,
    help="The demonstration's folder; emptied at the start.",
)


@click.group()
def main() -> None:
    """Run everything on this machine: Kafka, the services, two receiving servers, and mail to watch."""


@main.command()
@_DIR
@click.option("--count", type=int, default=2000, show_default=True, help="Messages.")
def run(directory: Path, count: int) -> None:
    """Send messages through a whole cluster, watch, account for each, and end everything."""
    console = Console()
    stage = Stage(directory)
    with _ending(stage):
        _start(console, stage)
        _produce(stage, count)
        _watch(console, stage, count)
        account = asyncio.run(summary.read_events(stage.config))
        good = summary.show(console, stage, account, count)
    console.print("Nothing is left running.")
    sys.exit(0 if good else 1)


@main.command()
@_DIR
def up(directory: Path) -> None:
    """Start the cluster and keep it running."""
    console, stage = Console(), Stage(directory)
    try:
        _start(console, stage)
    except BaseException:
        stage.stop()
        raise
    console.print(
        f"Kafka answers at {stage.kafka.bootstrap}; logs, configuration and the Maildir are in {stage.directory}."
    )
    for process in stage.processes:
        console.print(f"  {process.name:10} pid {process.pid}  port {process.port}")
    console.print("`make down` ends it.")


@main.command()
@_DIR
def down(directory: Path) -> None:
    """End what `up` started."""
    Stage(directory).stop()
    click.echo("Nothing is left running.")


@contextlib.contextmanager
def _ending(stage: Stage) -> Iterator[None]:
    """End everything however the block ends: a SIGTERM is an exception here."""

    def ended(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, ended)
    try:
        yield
    except (StageError, LocalKafkaError) as error:
        raise click.ClickException(str(error)) from error
    finally:
        stage.stop()
        signal.signal(signal.SIGTERM, before)


def _start(console: Console, stage: Stage) -> None:
    console.print(
        f"Starting Kafka, ingest, scheduler, sender and two receiving servers in {stage.directory} …"
    )
    try:
        stage.start()
    except (StageError, LocalKafkaError) as error:
        raise click.ClickException(str(error)) from error


def _produce(stage: Stage, count: int) -> None:
    words = [
        sys.executable,
        "-m",
        "services.cli.demo.producer",
        "--bootstrap",
        stage.kafka.bootstrap,
        "--count",
        str(count),
    ]
    subprocess.run(words, cwd=ROOT, check=True)


def _watch(console: Console, stage: Stage, count: int) -> None:
    """Show the metrics until everything has ended, or patience has."""
    before = now = view.read("")
    until = time.monotonic() + _PATIENCE_S  # noqa: TID251 - a person watches
    last = quiet = time.monotonic()  # noqa: TID251
    printed = 0.0
    with (
        Live(console=console, refresh_per_second=4, transient=False)
        if console.is_terminal
        else contextlib.nullcontext() as live
    ):
        while time.monotonic() < until:  # noqa: TID251
            time.sleep(_LOOK_S)  # noqa: TID251
            at = time.monotonic()  # noqa: TID251
            before, now = now, view.read(stage.metrics("scheduler"))
            if live is not None:
                live.update(view.table(now, before, at - last))
            elif at - printed >= _LINE_S:
                console.print(view.line(now), highlight=False, soft_wrap=True)
                printed = at
            last = at
            if now.ended < count:
                quiet = at
            elif at - quiet > _QUIET_S:
                return


if __name__ == "__main__":
    main()
