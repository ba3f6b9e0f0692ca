"""`postyard config …`: check a configuration, and publish what of it lives in mail.control (the lane map).

Publishing reads back what it wrote: of two operators who publish at once one finds the other's version in force, and grows that one
instead.
"""

from pathlib import Path
from typing import Final

import click

from services.cli.forecast import warmup_lines
from services.cli.lanes import AsItIs, Grown, Refused, grow
from services.cli.remarks import remarks
from services.cli.session import (
    Failed,
    Misconfigured,
    append_control,
    author_option,
    config_argument,
    read_control,
    settings_of,
    talk,
)
from shared.kafka.cluster import Cluster
from shared.records.codec import encode
from shared.records.configuration import Configuration
from shared.runtime.clock import SystemClock
from shared.runtime.credentials import unusable
from shared.runtime.files import texts_of
from shared.runtime.reloading import fingerprint
from shared.runtime.settings import Settings

_TRIES: Final = 5
#: A record of mail.control, as the brokers take it by default.
_MOST_BYTES: Final = 900_000


@click.group()
def config() -> None:
    """Check a configuration, or publish what of it lives in Kafka."""


@config.command()
@config_argument
@click.option(
    "--daily",
    type=click.IntRange(1, 1_000_000_000),
    help="Messages a day to one provider: says how many would expire while sources are warmed up.",
)
def check(path: Path, daily: int | None) -> None:
    """Check FILE (a TOML file, or a directory of them) and say everything that is wrong with it.

    Each line begins with the path of the setting. The keys and passwords that it names are read too, so run this where
    they are. Exit code 78 if anything is wrong; a summary if nothing is.
    """
    settings = settings_of(path)
    problems = unusable(settings)
    if problems:
        raise Misconfigured("\n".join(problems))
    said = [f"remark     {remark}" for remark in remarks(settings)]
    click.echo("\n".join([summary(settings), *warmup_lines(settings, daily), *said]))


def summary(settings: Settings) -> str:
    """Say in a few lines what a configuration amounts to."""
    kafka = settings.kafka
    lines = [f"kafka      {kafka.bootstrap}, {kafka.partitions} partitions, {kafka.slots} slots"]
    for source in sorted(settings.sources.values(), key=lambda source: source.slot):
        where = source.address or f"{source.host}:{source.port}"
        if source.via:
            where += f" via {', '.join(map(str, source.via))}"
        warmed = "" if source.warmup == "none" else f", warmed up as {source.warmup}"
        lines.append(f"source     {source.name}: slot {source.slot}, {source.kind} {where}{warmed}")
    for pool in settings.pools.values():
        parts = ", ".join(f"{name} x{weight}" for name, weight in pool.sources.items())
        spills = "" if pool.spill is None else f"; spills over to {pool.spill.to}"
        lines.append(f"pool       {pool.name}: {parts}{spills}")
    for tenant in settings.tenants.values():
        signed = "unsigned where no key fits" if tenant.unsigned else f"{len(tenant.dkim)} keys"
        lines.append(f"tenant     {tenant.name}: {', '.join(tenant.domains)}; {signed}")
    lines.append(f"providers  {', '.join(sorted(settings.providers))}")
    if settings.routes:
        lines.append(f"routes     {', '.join(settings.routes)}")
    return "\n".join(lines)


@config.command()
@config_argument
@author_option
@click.option("--reason", default="", help="Why; whoever is on call will read it.")
def apply(path: Path, author: str, reason: str) -> None:
    """Publish FILE, and the lane map that it needs.

    The lane map says which partition decides about which mail. Providers and smart hosts that are new get a lane; what
    is there moves only where [lanes] says so, and mail goes on meanwhile. If nothing is new, nothing is written.

    Services whose own configuration says [configuration] follow = "control" go by the files as they were published
    here; all others by their own. Keys and passwords are not published, only the paths to them.
    """
    settings, texts = settings_of(path), texts_of(path)
    record = Configuration(
        fingerprint=fingerprint(path),
        files=texts,
        author=author,
        reason=reason,
        wall_ns=SystemClock().now_ns(),
    )
    size = len(encode(record))
    if size > _MOST_BYTES:
        raise Misconfigured(f"{path}: {size} bytes are too many to publish: at most {_MOST_BYTES}")

    async def both(cluster: Cluster) -> str:
        return (
            f"{await publish(cluster, settings)}\n{await publish_files(cluster, settings, record)}"
        )

    click.echo(talk(settings, both))


async def publish_files(cluster: Cluster, settings: Settings, record: Configuration) -> str:
    """Put the configuration in force for those who follow mail.control, and say what was done."""
    current = (await read_control(cluster, settings)).configuration
    if current is not None and current.fingerprint == record.fingerprint:
        return f"configuration {record.fingerprint} is published already, by {current.author}"
    await append_control(cluster, settings, record)
    return f"configuration {record.fingerprint} is published"


async def publish(cluster: Cluster, settings: Settings) -> str:
    """Put the lane map of ``settings`` in force, and say what was done."""
    done: Grown | None = None
    for _ in range(_TRIES):
        current = (await read_control(cluster, settings)).lane_map
        match grow(current, settings):
            case Refused(reason=reason):
                raise Misconfigured(reason)
            case AsItIs(current=current):
                if done is None:
                    return f"lane map version {current.version} is in force and has every lane; nothing to do"
                return f"lane map version {current.version} is in force; {done.news}"
            case Grown() as grown:
                done = grown
                await append_control(cluster, settings, grown.proposal)
    raise Failed("somebody else keeps publishing lane maps; nothing of this one is in force")
