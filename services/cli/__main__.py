"""``postyard``: what an operator types."""

import logging

import click

from services.cli.cluster.commands import cluster
from services.cli.config import config
from services.cli.limits import limits
from services.cli.orders.directives import directives
from services.cli.orders.limiting import limit, slow
from services.cli.orders.once import cancel, expire, reroute, rush
from services.cli.orders.standing import pause, resume
from services.cli.queue import explain, queue
from services.cli.simulate import simulate
from services.cli.topics import topics


@click.group(context_settings={"max_content_width": 100})
def postyard() -> None:
    """Operate Postyard, the mail delivery cluster on Kafka.

    The services themselves are started with `python -m services.ingest`, `services.scheduler`, `services.sender`; each has --help.

    Exit codes: 0 done, 1 it makes no sense now, 2 wrong usage, 69 Kafka does not answer, 70 a bug, 77 Kafka does not
    allow it, 78 configuration or topics are wrong.
    """


ORDERS = (pause, resume, slow, limit, cancel, reroute, rush, expire, directives)
for command in (topics, config, limits, *ORDERS, queue, explain, simulate, cluster):
    postyard.add_command(command)


def main() -> None:
    """Run the command that was typed."""
    # What a client says about its connections is said once more, better, by the command itself.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    postyard(prog_name="postyard")


if __name__ == "__main__":
    main()
