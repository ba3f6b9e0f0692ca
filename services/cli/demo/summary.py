"""The end of the demonstration: every message accounted for, from mail.events, and one of them looked at closely."""

import json
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import dkim
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)
from rich.console import Console
from rich.table import Table

from services.cli.demo.mail import expected, mails
from services.cli.demo.stage import Stage
from shared.kafka.cluster import Cluster
from shared.records.codec import Unreadable
from shared.records.event import EVENT, Event
from shared.records.topics import Topics
from shared.runtime.loading import load

_POLL_MS: Final = 300


@dataclass(slots=True)
class Account:
    """What mail.events said, by submission."""

    finals: dict[str, list[Event]] = field(default_factory=dict)
    all: Counter[str] = field(default_factory=Counter)

    def problems(self, count: int) -> list[str]:
        """Say what is not as it must be; empty: all is."""
        found = []
        for mail in mails(count):
            ends = [event.type for event in self.finals.get(f"demo-{mail.number}", [])]
            if ends != [mail.end]:
                found.append(
                    f"demo-{mail.number} to {mail.recipient}: {ends or 'no final event'}, expected {mail.end}"
                )
        return found


async def read_events(config: Path) -> Account:
    """Read mail.events from start to end."""
    settings = load(config, {})
    topic, cluster = (
        Topics(settings.kafka.prefix).events,
        Cluster(settings.kafka.bootstrap, client_id="postyard-demo"),
    )
    places = [(topic, partition) for partition in range(settings.kafka.partitions)]
    account = Account()
    try:
        ends = await cluster.end_offsets(places)
        reader = await cluster.reader(dict.fromkeys(places, "start"))
        try:
            while any(reader.position(place) < ends[place] for place in places):
                for record in await reader.poll(max_records=5000, wait_ms=_POLL_MS):
                    event = EVENT.decode(record.value)
                    if not isinstance(event, Unreadable):
                        account.all[event.type] += 1
                        if event.final:
                            account.finals.setdefault(event.submission, []).append(event)
        finally:
            await reader.stop()
    finally:
        await cluster.close()
    return account


def show(console: Console, stage: Stage, account: Account, count: int) -> bool:
    """Print the account, and one message with its signature; True: all is as it must be."""
    problems = account.problems(count)
    got: Counter[str] = Counter(
        event.type for events in account.finals.values() for event in events
    )
    drawn = Table(title=f"{sum(got.values())} of {count} messages have their final event")
    for column in ("final event", "expected", "seen"):
        drawn.add_column(column, justify="left" if column == "final event" else "right")
    wanted = expected(count)
    for kind in sorted(wanted.keys() | got.keys()):
        drawn.add_row(kind, str(wanted[kind]), str(got[kind]))
    console.print(drawn)
    others = ", ".join(
        f"{number} {kind}" for kind, number in sorted(account.all.items()) if kind not in got
    )
    console.print(f"Other events: {others}")
    console.print(f"Delivered mail lies in {stage.maildir}/new")
    for problem in problems[:10]:
        console.print(f"[red]{problem}[/red]", highlight=False)
    return _show_one(console, stage) and not problems


def _show_one(console: Console, stage: Stage) -> bool:
    seen = next(
        (
            row
            for row in map(json.loads, stage.seen("goodmail").read_text().splitlines())
            if row.get("file")
        ),
        None,
    )
    if seen is None:
        console.print("[red]no message was delivered[/red]")
        return False
    message = (stage.maildir / "new" / seen["file"]).read_bytes()
    verified = dkim.verify(message, dnsfunc=_published(stage.directory))
    console.print(
        f"\nOne of them, from {seen['peer']} (the address that the receiving server saw), for {seen['rcpt']}:\n"
    )
    console.print(
        message.partition(b"\r\n\r\n")[0].decode(),
        markup=False,
        emoji=False,
        highlight=False,
        soft_wrap=True,
    )
    console.print(
        f"\nDKIM signature {'[green]verified[/green]' if verified else '[red]does not verify[/red]'}"
    )
    return bool(verified)


def _published(directory: Path) -> Callable[..., bytes]:
    """Answer for the name server that would publish the tenants' public keys."""

    def ask(name: bytes, timeout: float = 5) -> bytes:
        del timeout
        found = re.fullmatch(rb"demo\._domainkey\.(\w+)\.example\.?", name)
        if found is None:
            return b""
        key = load_pem_private_key((directory / f"{found[1].decode()}.pem").read_bytes(), None)
        public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        return b"v=DKIM1; k=rsa; p=" + b"".join(public.splitlines()[1:-1])

    return ask
