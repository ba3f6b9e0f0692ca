"""`postyard directives`: what is in force, and how far the schedulers are with it."""

from pathlib import Path

import click

from services.cli.orders.order import shown
from services.cli.schedulers import Answers, ask
from services.cli.session import config_option, read_control, settings_of, talk
from shared.kafka.cluster import Cluster
from shared.records.answers import OrdersAnswer
from shared.records.control import Directive
from shared.runtime.clock import SystemClock


@click.command()
@click.option(
    "--done", is_flag=True, help="Ask the schedulers how far they are, and with how many."
)
@config_option
def directives(path: Path, done: bool) -> None:  # noqa: FBT001 - click's
    """List the orders in force: what, on whom, until when, by whom, why, and their ids."""
    settings = settings_of(path)

    async def converse(cluster: Cluster) -> list[Directive]:
        view = await read_control(cluster, settings)
        return [each.order for each in view.in_force(SystemClock().now_ns())]

    orders = talk(settings, converse)
    progress: dict[str, str] = {}
    if done and orders:
        found: Answers[OrdersAnswer] = talk(
            settings, lambda cluster: ask(cluster, settings, OrdersAnswer, "/orders")
        )
        said = [each for answer in found.answers for each in answer.orders]
        for order in orders:
            mine = [each for each in said if each.id == order.id]
            progress[order.id] = (
                f"; {sum(each.hits for each in mine)} deliveries,"
                f" done in {sum(each.done for each in mine)} of {settings.kafka.partitions} partitions"
            )
        found.warn()
    for order in orders:
        click.echo(f"{order.action} {shown(order)}{progress.get(order.id, '')}")
