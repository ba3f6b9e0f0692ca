"""A peer that reads a large message slowly is waited for as long as it goes on, and keeps nobody else from going.

What the time-out of a block says is that nothing was taken for so long, and not that the message took long.
"""

import asyncio
import os
from pathlib import Path

import pytest

from tests.support.config import QUICK_TIMING, submission
from tests.support.slowreader import SlowReader
from tests.support.stack import Events
from tests.support.yard import Yard

PARTITIONS, SIZE, BLOCK_S, SLOW_S = 2, 24 << 20, 4, 20
LIMITS = '[limits.prompt]\nconnections = 4\nrate = "10/s"'


@pytest.mark.long
@pytest.mark.timeout(300)
async def test_a_large_message_that_is_read_slowly_arrives_whole_and_others_go_on_meanwhile(
    yard: Yard,
) -> None:
    prompt = yard.receiver(name="prompt")
    async with SlowReader(SLOW_S, BLOCK_S / 4) as slow:
        stack = yard.stack(
            {"*.slow.test": (slow.target, "slow"), "*.prompt.test": (prompt.target, "prompt")},
            sources=("127.0.0.11",),
            limits=LIMITS,
            timing=QUICK_TIMING.replace('attempt_max = "15s"', 'attempt_max = "120s"'),
            more=f'[sender]\nblock_timeout = "{BLOCK_S}s"',
        )
        # The peer lives on this loop.
        await asyncio.to_thread(stack.start_all)
        sender = stack.services[-1].process.pid
        async with Events(stack, PARTITIONS) as events:
            before = most = _resident_bytes(sender)
            lines = "\r\n".join(["x" * 76] * (SIZE // 78))
            await stack.produce([submission("big@a.slow.test", text=lines)])
            async with asyncio.timeout(90):
                await slow.reading.wait()
            await stack.produce(submission(f"u{at}@a.prompt.test") for at in range(100))
            meanwhile = 0
            async with asyncio.timeout(120):
                while not slow.sizes:
                    await events.read()
                    if not slow.hurrying.is_set():
                        meanwhile = len(prompt.copies())
                    most = max(most, _resident_bytes(sender))
            await events.until_final(101, 60)
            assert set(events.types()) == {"delivered"}
            assert {final.attempt for final in events.finals().values()} == {
                f"{id_}:1" for id_ in events.finals()
            }
    held = (most - before) >> 20
    print(f"\n{meanwhile} others in {SLOW_S} s, {held} MiB held for a message of {SIZE >> 20}")
    assert slow.begun == len(slow.sizes) == 1
    assert slow.sizes[0] >= len(lines)
    assert meanwhile >= 50
    # The record as it came, its message, and pieces of it on their way.
    assert most - before < 6 * SIZE
    assert set(prompt.copies().values()) == {1}


def _resident_bytes(pid: int) -> int:
    pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")
