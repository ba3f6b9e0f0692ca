"""Mail that flows while services are killed, and the account of what became of it."""

import asyncio
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from tests.support.config import submission
from tests.support.stack import Events, Service, Stack

SENDERS: Final = ("sender-0", "sender-1")
_ALL: Final = ("ingest-0", "scheduler-0", "scheduler-1", *SENDERS)


@dataclass(slots=True)
class Killing:
    """One ingest, two schedulers, two senders; any of them dies by kill -9 and is started again."""

    stack: Stack
    rng: random.Random
    running: dict[str, Service] = field(default_factory=dict)

    def start(self) -> None:
        for name in _ALL:
            self._start(name)

    def _start(self, name: str) -> None:
        self.running[name] = self.stack.start(name.rpartition("-")[0], name, wait=False)

    async def kill(self, times: int, events: Events) -> None:
        for number in range(times):
            await events.read()
            await asyncio.sleep(self.rng.uniform(0.5, 4))
            # The first time both senders at once, with mail between `started` and the reply: one of them owns the slots.
            count = 2 if number % 4 == 3 else 1
            victims = self.rng.sample(sorted(self.running), count) if number else SENDERS
            for name in victims:
                self.running[name].kill()
            await asyncio.sleep(self.rng.uniform(0.1, 3))
            for name in victims:
                self._start(name)


async def feed(stack: Stack, messages: int, kills: int, domains: int = 5) -> int:
    """Produce to a0.test … in small portions, so that mail is under way all the time; all of it twice, as one does who got no answer."""
    produced, portion = 0, 40
    pause = max(0.5, kills * 3.0 / (messages / portion))
    while produced < messages:
        count = min(portion, messages - produced)
        values = [
            submission(f"u{produced + at}@a{at % domains}.test", id_=f"m{produced + at}")
            for at in range(count)
        ]
        class_ = "transactional" if produced % 80 else "bulk"
        await stack.produce(values, class_)
        produced += await stack.produce(values, class_)
        await asyncio.sleep(pause)
    return produced


async def until_all(events: Events, messages: int) -> None:
    """Wait as long as it goes on, however slow the machine is."""
    while (done := len(events.finals())) < messages:
        await events.until_final(done + 1, 120)


def account(events: Events, copies: Mapping[str, int], messages: int) -> None:
    """State lost, duplicate and unknown, and that the events account for every copy."""
    finals = events.finals()
    assert len(finals) == messages
    by_rcpt = {event.to: id_ for id_, event in finals.items()}
    unknown = events.unknown()
    lost = [
        rcpt
        for rcpt, id_ in by_rcpt.items()
        if finals[id_].type == "delivered" and not copies.get(rcpt)
    ]
    doubled = {rcpt for rcpt, count in copies.items() if count > 1}
    print(f"\nmessages {messages} lost {len(lost)} duplicate {len(doubled)} unknown {len(unknown)}")
    assert len(by_rcpt) == messages, "every message has exactly one final event"
    assert set(events.types()) == {"delivered"}
    assert lost == []
    assert unknown, "senders died with mail under way"
    assert doubled <= unknown, f"doubled without having been unknown: {sorted(doubled - unknown)}"
