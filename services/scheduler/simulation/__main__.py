"""``python -m services.scheduler.simulation``: what ``postyard simulate`` runs."""

import gc
import json
import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Final

import click
from rich.console import Console

from services.scheduler.simulation import plot, traffic
from services.scheduler.simulation.engine import ROUND_NS, Engine, Result
from services.scheduler.simulation.report import Spent, report, sentences, tables, troubled
from shared.runtime.clock import Clock, SystemClock
from shared.runtime.lifecycle import CONFIG
from shared.runtime.loading import SettingsError
from shared.runtime.loading import load as load_settings

_S: Final = 1_000_000_000
_MS: Final = 1_000_000
#: The tables' width, where the terminal tells less or nothing.
_WIDE: Final = 150
_FILE: Final = click.Path(path_type=Path)


@click.command()
@click.option(
    "--config",
    "config",
    type=_FILE,
    required=True,
    envvar="POSTYARD_CONFIG",
    show_envvar=True,
    help="The configuration, as the services read it.",
)
@click.option(
    "--traffic",
    "traffic_",
    type=_FILE,
    required=True,
    help="What is sent to whom, and when: a TOML file.",
)
@click.option("--seed", default=1, show_default=True, help="The same number gives the same day.")
@click.option("--hours", type=click.IntRange(1), help="How long; else as the traffic file says.")
@click.option(
    "--round",
    "round_ms",
    type=click.IntRange(10),
    default=ROUND_NS // _MS,
    show_default=True,
    help="The least time between two rounds of the scheduler, ms.",
)
@click.option(
    "--compare",
    is_flag=True,
    help="Simulate again without the providers that were in trouble, and say how far the others were behind.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
@click.option("--plot", "picture", type=_FILE, help="Draw it: a file that ends with .svg.")
def simulate(
    config: Path,
    traffic_: Path,
    seed: int,
    hours: int | None,
    round_ms: int,
    compare: bool,  # noqa: FBT001 - a flag
    as_json: bool,  # noqa: FBT001 - a flag
    picture: Path | None,
) -> None:
    """Run the scheduler's policy against models of mailbox providers, in virtual time.

    Nothing is sent and no Kafka is needed. Exit code 1 if a provider's warning was not heeded or a warm-up budget was
    passed, 78 if a file is wrong.
    """
    if picture is not None and picture.suffix != ".svg":
        raise click.BadParameter("expected a file that ends with .svg", param_hint="--plot")
    try:
        settings = load_settings(config, os.environ)
        day = traffic.load(traffic_, settings)
    except SettingsError as error:
        click.echo("\n".join(error.problems), err=True)
        sys.exit(CONFIG)
    if hours is not None:
        day = replace(day, hours=hours)
    # Millions of long-lived objects and no cycles: looking for garbage among them costs a third of the time.
    gc.disable()
    clock = SystemClock()

    def run(without: list[str]) -> tuple[Result, Spent]:
        engine = Engine(settings, day, seed, round_ns=round_ms * _MS, without=without)
        return _timed(engine, clock)

    result, spent = run([])
    sick = troubled(result)
    compared = run(sick)[0] if compare and sick else None
    found = report(result, seed, spent, compared)
    if as_json:
        click.echo(json.dumps(found.figures(), indent=2))
    else:
        console = Console(width=max(Console().width, _WIDE))
        for table in tables(found):
            console.print(table)
        for sentence in sentences(found):
            console.print(sentence, highlight=False)
    if picture is not None:
        title = f"{found.messages:,} messages in {found.hours} h: delivered (blue), waiting (red)"
        picture.write_text(plot.svg(plot.series(result), found.hours, title), encoding="utf-8")
    sys.exit(1 if found.violations or found.above_warmup else 0)


def _timed(engine: Engine, clock: Clock) -> tuple[Result, Spent]:
    began, busy = clock.mono_ns(), time.process_time()
    result = engine.run()
    return result, Spent((clock.mono_ns() - began) / _S, time.process_time() - busy)


if __name__ == "__main__":
    simulate(prog_name="postyard simulate")
