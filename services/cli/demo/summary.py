"""The end of the demonstration: every message accounted for, and one of them looked at closely."""

import re
from collections import Counter
from collections.abc import Callable
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

from services.cli.demo.account import Account, Taken, taken
from services.cli.demo.mail import Mail
from services.cli.demo.stage import RECEIVERS, Stage
from shared.kafka.cluster import connect
from shared.records.codec import Unreadable
from shared.records.event import EVENT
from shared.records.topics import Topics
from shared.runtime.loading import load

_POLL_MS: Final = 300
_SHOWN: Final = 10


async def account_of(stage: Stage) -> Account:
    """Read mail.events from start to end, and the receiving servers' logs."""
    settings = load(stage.config, stage.environment())
    topic = Topics(settings.kafka.prefix).events
    places = [(topic, partition) for partition in range(settings.kafka.partitions)]
    cluster = connect(settings.kafka, client_id="postyard-demo")
    account = Account()
    for name in RECEIVERS:
        account.see(taken(stage.seen(name).read_text().splitlines()))
    try:
        ends = await cluster.end_offsets(places)
        reader = await cluster.reader(dict.fromkeys(places, "start"))
        try:
            while any(reader.position(place) < ends[place] for place in places):
                for record in await reader.poll(max_records=5000, wait_ms=_POLL_MS):
                    event = EVENT.decode(record.value)
                    if not isinstance(event, Unreadable):
                        account.hear(event)
        finally:
            await reader.stop()
    finally:
        await cluster.close()
    return account


def show(console: Console, stage: Stage, account: Account, mails: list[Mail]) -> bool:
    """Print the account, and one message with its signature; True: all is as it must be."""
    problems = account.problems(mails)
    ends, wanted = account.ends, Counter(mail.end for mail in mails)
    console.print(f"\n{sum(ends.values())} of {len(mails)} messages have their final event:")
    drawn = Table()
    for column in ("final event", "expected", "seen"):
        drawn.add_column(column, justify="left" if column == "final event" else "right")
    for kind in sorted(wanted.keys() | ends.keys()):
        drawn.add_row(kind, str(wanted[kind]), str(ends[kind]))
    console.print(drawn)
    others = ", ".join(
        f"{number} {kind}" for kind, number in sorted(account.said.items()) if kind not in ends
    )
    console.print(f"On the way there: {others}. Taken twice: {account.copies}.")
    console.print(f"Delivered mail lies in {stage.maildir}/new", soft_wrap=True)
    for problem in problems[:_SHOWN]:
        console.print(problem, style="red", markup=False, highlight=False, soft_wrap=True)
    if len(problems) > _SHOWN:
        console.print(f"… and {len(problems) - _SHOWN} more", style="red")
    if not problems:
        console.print(
            "Every message ended as its address said, once, and the receiving servers agree.",
            style="green",
        )
    first = next((each for found in account.seen.values() for each in found), None)
    return _show_one(console, stage, first) and not problems


def _show_one(console: Console, stage: Stage, seen: Taken | None) -> bool:
    if seen is None:
        console.print("No message was delivered.", style="red")
        return False
    message = (stage.maildir / "new" / seen.file).read_bytes()
    verified = dkim.verify(message, dnsfunc=published(stage.directory))
    console.print(
        f"\nOne of them, for {seen.rcpt}. The receiving server saw it come from {seen.peer}:\n"
    )
    console.print(
        message.partition(b"\r\n\r\n")[0].decode(errors="replace"),
        markup=False,
        emoji=False,
        highlight=False,
        soft_wrap=True,
    )
    word = "verified" if verified else "DOES NOT VERIFY"
    console.print(f"\nDKIM signature: {word} (by dkimpy)", style="green" if verified else "red")
    return bool(verified)


def published(directory: Path) -> Callable[..., bytes]:
    """Answer for the name server that would publish the tenants' public keys."""

    def ask(name: bytes, timeout: float = 5) -> bytes:
        del timeout
        found = re.fullmatch(rb"demo\._domainkey\.(\w+)\.example\.?", name)
        path = directory / f"{found[1].decode()}.pem" if found is not None else None
        if path is None or not path.is_file():
            return b""
        key = load_pem_private_key(path.read_bytes(), None)
        public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        return b"v=DKIM1; k=rsa; p=" + b"".join(public.splitlines()[1:-1])

    return ask
