"""``python -m services.cli.demo run|up|down``: a whole cluster on this machine, with mail to watch."""

import asyncio
import contextlib
import logging
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click
from rich.console import Console

from services.cli.cluster.error import LocalKafkaError
from services.cli.demo import console as lines
from services.cli.demo import summary
from services.cli.demo.mail import mails
from services.cli.demo.stage import ROOT, Stage, StageError
from services.cli.demo.watch import watch
from shared.runtime.clock import SystemClock

_PATIENCE_S: Final = 240.0
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_DIR = click.option(
    "--dir",
    "directory",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("run/demo"),
    show_default=True,
    help="The demonstration's folder; emptied at the start.",
)
_CLASS = click.argument("class_", metavar="CLASS", type=click.Choice(["transactional", "bulk"]))


@click.group()
def main() -> None:
    """Run everything on this machine: Kafka, the services, two receiving servers, and mail to watch."""
    # What a client says of its connections while Kafka starts or ends is no news here.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)


@main.command()
@_DIR
@click.option("--count", type=int, default=2000, show_default=True, help="Messages.")
@click.option("--patience", type=float, default=_PATIENCE_S, show_default=True, help="Seconds.")
def run(directory: Path, count: int, patience: float) -> None:
    """Send messages through a whole cluster, watch, account for each, and end everything.

    Exit code 0 if every message came to the end that it was meant for.
    """
    console, stage = Console(), Stage(directory)
    with _started(console, stage, keep=False):
        _produce(stage, count)
        if not watch(console, stage, SystemClock(), count, patience):
            console.print(f"Not all have ended after {patience:.0f} s.", style="red")
        account = asyncio.run(summary.account_of(stage))
        good = summary.show(console, stage, account, list(mails(count)))
    console.print("Nothing is left running.")
    sys.exit(0 if good else 1)


@main.command()
@_DIR
@click.option(
    "--port", type=int, default=29092, show_default=True, help="Kafka's; 0: any free one."
)
def up(directory: Path, port: int) -> None:
    """Start the cluster and keep it running."""
    console, stage = Console(), Stage(directory, kafka_port=port)
    with _started(console, stage, keep=True):
        pass
    say = click.echo
    say(f"\nKafka answers at {stage.kafka.bootstrap}. Everything else is in {stage.directory}:")
    say("configuration, logs, and the Maildir of both receiving servers.\n")
    for process in stage.processes:
        say(f"  {process.name:10} pid {process.pid:<7} 127.0.0.1:{process.port}")
    say("\nThe README shows what to do with it. `make down` ends it.")


@main.command()
@_DIR
def down(directory: Path) -> None:
    """End what `up` started; its folder stays."""
    Stage(directory).stop()
    click.echo("Nothing is left running.")


@main.command()
@_DIR
@_CLASS
def produce(directory: Path, class_: str) -> None:
    """Append each line of standard input to mail.submissions.CLASS, as a console producer does."""
    count = asyncio.run(lines.produce(_running(directory), class_, sys.stdin.buffer))
    click.echo(f"{count} produced")


@main.command()
@_DIR
@click.option("--from-start", is_flag=True, help="Not only what comes from now on.")
def follow(directory: Path, from_start: bool) -> None:  # noqa: FBT001 - click's way
    """Print the events as they come, until Ctrl-C."""
    with contextlib.suppress(KeyboardInterrupt, BrokenPipeError):
        asyncio.run(lines.follow(_running(directory), "start" if from_start else "end"))


def _running(directory: Path) -> Stage:
    stage = Stage(directory)
    if not stage.kafka.running:
        raise click.ClickException(f"nothing runs in {stage.directory}: `make up` starts it")
    return stage


@contextlib.contextmanager
def _started(console: Console, stage: Stage, *, keep: bool) -> Iterator[None]:
    """Start; end everything when the block ends, or only if it fails where the stage is to be kept."""
    try:
        with stage.taken():
            done = False
            with _signals():
                try:
                    console.print(
                        f"Starting Kafka, ingest, scheduler, sender and two receiving servers in {stage.directory} …",
                        soft_wrap=True,
                    )
                    stage.start()
                    yield
                    done = True
                finally:
                    if not (keep and done):
                        _stop(stage)
    except (StageError, LocalKafkaError) as error:
        raise click.ClickException(str(error)) from error


@contextlib.contextmanager
def _signals() -> Iterator[None]:
    """Make SIGTERM and SIGHUP what Ctrl-C is: an exception that ends everything on its way out."""

    def ended(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, ended) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stop(stage: Stage) -> None:
    """End everything; a second Ctrl-C does not leave half of it running."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    stage.stop()


def _produce(stage: Stage, count: int) -> None:
    words = ["--bootstrap", stage.kafka.bootstrap, "--count", str(count)]
    module = "services.cli.demo.producer"
    done = subprocess.run([sys.executable, "-m", module, *words], cwd=ROOT, check=False)
    if done.returncode:
        raise StageError("the producer failed")


if __name__ == "__main__":
    main()
