"""The name servers are away for a while: mail waits for them and for nothing else, nobody is asked without end, and all of it goes after.

Away means that nothing comes back, which costs more than a refusal: each question takes its whole time.
"""

import asyncio
import os
from collections import Counter

import pytest

from tests.support.config import QUICK_TIMING, submission
from tests.support.nameserver import Nameserver
from tests.support.receiver import Receiver
from tests.support.stack import Events
from tests.support.yard import Yard

PARTITIONS, NEW, EACH, AWAY_S = 2, 10, 12, 30
#: MX hosts are at port 25, so the test has an address to itself.
HOST = "127.77.0.1"
KNOWN = "known.test"
ZONE = (
    {
        domain: {"MX": [f"10 mx.{domain}."]}
        for domain in (KNOWN, *(f"new{at}.test" for at in range(NEW)))
    }
    | {f"mx.{KNOWN}": {"A": [HOST]}}
    | {f"mx.new{at}.test": {"A": [HOST]} for at in range(NEW)}
)


@pytest.mark.long
@pytest.mark.timeout(400)
@pytest.mark.skipif(os.geteuid() != 0, reason="port 25 is for root")
async def test_mail_waits_while_the_name_servers_are_away_and_nobody_asks_without_end(
    yard: Yard,
) -> None:
    receiver = yard.receiver(host=HOST, port=25)
    async with Nameserver(ZONE) as server:
        stack = yard.stack(
            {"*.nowhere.test": (receiver.target, "nowhere")},
            timing=QUICK_TIMING,
            more=f'[dns]\nnameservers = ["127.0.0.1"]\nport = {server.port}\ntimeout = "3s"',
        )
        # Nothing that asks the name server may wait for it.
        await asyncio.to_thread(stack.start_all)
        async with Events(stack, PARTITIONS) as events:
            await stack.produce(submission(f"before{at}@{KNOWN}") for at in range(5))
            await events.until_final(5, 60)
            server.away = True
            server.asked.clear()
            await stack.produce(
                submission(f"u{at}@new{domain}.test") for at in range(EACH) for domain in range(NEW)
            )
            await stack.produce(submission(f"while{at}@{KNOWN}") for at in range(100))
            # What is known goes on.
            await _taken(receiver, events, KNOWN, 105)
            await asyncio.sleep(AWAY_S)
            await events.read()
            waiting = [each for each in events.open() if not each[0].to.endswith(KNOWN)]
            assert len(waiting) == NEW * EACH, "none has ended"
            said = [each for one in waiting for each in one if each.type != "accepted"]
            assert {each.type for each in said} == {"deferred"}
            assert {each.category for each in said} == {"dns"}
            assert all(each.reason.startswith("4.4.3") for each in said)
            assert {each.attempt for each in said} == {None}, "no attempt was used"
            told = await asyncio.to_thread(stack.cli, "explain", "--tenant", "acme", "--most", "1")
            assert f"dns {NEW * EACH}" in told.stdout, told.stdout
            asked = Counter[str]()
            for (name, _), count in server.asked.items():
                asked[name] += count
            # Each failure holds for ten seconds, whoever waits; a question is put twice within its three; ingest asks, and the scheduler.
            most = 2 * 2 * (AWAY_S // 10 + 3)
            print(
                f"\nquestions in {AWAY_S} s, of a domain for which {EACH} wait: {max(asked.values())} of {most}"
            )
            assert max(asked.values()) <= most, asked
            server.away = False
            await events.until_final(NEW * EACH + 105, 90)
            assert set(events.types()) == {"delivered"}
            assert {final.attempt for final in events.finals().values()} == {
                f"{id_}:1" for id_ in events.finals()
            }
    assert set(receiver.copies().values()) == {1}


async def _taken(receiver: Receiver, events: Events, domain: str, count: int) -> None:
    """Read events until the receiver has so many messages for a domain."""
    async with asyncio.timeout(90):
        while sum(rcpt.endswith(domain) for rcpt in receiver.copies()) < count:
            await events.read()
