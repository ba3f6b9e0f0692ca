"""`postyard simulate`: the scheduler's simulator, which is a program of that service; services know nothing of each other."""

import subprocess
import sys
from typing import Final

import click

_PROGRAM: Final = "services.scheduler.simulation"


@click.command(
    context_settings={"ignore_unknown_options": True, "help_option_names": []},
    short_help="Run the scheduler's policy against models of mailbox providers.",
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def simulate(arguments: tuple[str, ...]) -> None:
    """Hand everything over to the simulator; it has its own --help."""
    ended = subprocess.run([sys.executable, "-m", _PROGRAM, *arguments], check=False)
    sys.exit(ended.returncode)
