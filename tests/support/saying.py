"""What services say in their logs, for tests that wait for it."""

import asyncio
import json
import time
from typing import Final

from tests.support.stack import Service, Stack

_SECONDS: Final = 90


def said(service: Service, event: str) -> list[dict[str, object]]:
    """Give the lines of its log that tell of this event."""
    lines = [json.loads(line) for line in service.log.read_text().splitlines() if line[:1] == "{"]
    return [line for line in lines if line["event"] == event]


async def heard(stack: Stack, event: str, times: int = 1) -> None:
    """Wait until each service has said it so often."""
    end = time.monotonic() + _SECONDS
    while not all(len(said(service, event)) >= times for service in stack.services):
        assert time.monotonic() < end, {s.name: len(said(s, event)) for s in stack.services}
        await asyncio.sleep(0.1)
