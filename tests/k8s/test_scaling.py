"""Senders that are scaled, evicted and drained while mail flows: nothing is lost, nothing sent twice, no source used by two at once."""

import asyncio
import itertools
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.k8s.api import Refused
from tests.k8s.attempts import Attempts
from tests.k8s.node import NODES
from tests.k8s.release import QUICK, Release
from tests.support.config import QUICK_TIMING, submission
from tests.support.receiver import Receiver
from tests.support.relays import PARTITIONS, SENDERS, submissions, values
from tests.support.stack import Events, Stack
from tests.support.yard import Yard

MESSAGES, RELAYS = 5_000, 4
CONNECTIONS = "[limits.default]\nconnections = 4\nmessages_per_connection = 1000\n"


async def taken(receiver: Receiver, messages: int, seconds: float = 120) -> int:
    """Wait until the receiver has taken so many."""
    async with asyncio.timeout(seconds):
        while (now := len(receiver.copies())) < messages:
            await asyncio.sleep(0.5)
    return now


@pytest.mark.timeout(600)
async def test_a_pool_of_floating_sources_goes_from_two_to_four_to_one_while_mail_flows(
    release: Release, yard: Yard, kafka: str, prefix: str, tmp_path: Path
) -> None:
    receiver = yard.receiver("--dot-delay", "0.2")
    release.helm(
        "install", values=values(kafka, prefix, receiver.target, more=CONNECTIONS, **QUICK)
    )
    release.scale(SENDERS, 2)
    release.until_ready(SENDERS, 2)
    for pod in release.pods("sender").values():
        pod.until("slots 2:", 180)
    stack = Stack(tmp_path, kafka, prefix, "")
    await stack.produce(submissions(range(MESSAGES)))
    at_two = await taken(receiver, 400)

    release.scale(SENDERS, 4)
    release.until_ready(SENDERS, 4)
    pods = release.pods("sender")
    assert len(pods) == 4
    for pod in pods.values():
        pod.until("slots 1:", 180)
    at_four = await taken(receiver, len(receiver.copies()) + 400)

    release.scale(SENDERS, 1)
    release.until_ready(SENDERS, 1)
    at_one = len(receiver.copies())
    leaving = {name: pod for name, pod in pods.items() if name != f"{SENDERS}-0"}
    (staying,) = release.pods("sender").values()
    staying.until(f"slots {RELAYS}:", 180)
    assert at_one < MESSAGES, "it has to happen while mail flows"
    async with Events(stack, PARTITIONS) as events:
        await events.until_final(MESSAGES, 240)
    assert events.types() == {"delivered": MESSAGES}
    assert len(receiver.copies()) == MESSAGES
    assert set(receiver.copies().values()) == {1}
    for pod in leaving.values():
        assert pod.codes == [0], "told to stop, and gone by itself"

    attempts = await Attempts.read(stack)
    ids = {event.to: id_ for id_, event in events.finals().items()}
    handed_over = 0
    for slot, reigns in attempts.reigns(receiver, ids):
        handed_over += len(reigns) - 1
        for (_, _, last), (_, first, _) in itertools.pairwise(reigns):
            assert last < first, f"slot {slot} was used by two at once: {reigns}"
    # Two when the four come, and the three that they do not keep.
    assert handed_over >= 2 + 3
    drained = attempts.drained({pod.uid for pod in leaving.values()})
    assert drained, "there must have been something to hand back"
    for back in drained:
        assert attempts.pod(attempts.delivered[back.id].epoch) == staying.uid, back
    times = ", ".join(f"{name} {pod.drained_s:.1f} s" for name, pod in sorted(leaving.items()))
    print(f"\n{MESSAGES} messages; taken at two, four, one senders: {at_two}, {at_four}, {at_one}")
    print(f"handed back by those that left, and delivered by the one that stayed: {len(drained)}")
    print(f"drained: {times}")


@pytest.mark.timeout(400)
async def test_an_eviction_and_a_drained_node_cost_no_mail(
    release: Release, yard: Yard, kafka: str, prefix: str, tmp_path: Path
) -> None:
    messages = 900
    receiver = yard.receiver("--dot-delay", "0.1")
    release.helm(
        "install", values=values(kafka, prefix, receiver.target, more=CONNECTIONS, **QUICK)
    )
    release.scale(SENDERS, 2)
    release.until_ready(SENDERS, 2)
    stack = Stack(tmp_path, kafka, prefix, "")
    await stack.produce(submissions(range(messages)))
    await taken(receiver, 50)
    first = release.lives()

    # One at a time: as long as the first is not ready again, the second is not let go.
    def evict(pod: str) -> None:
        path = f"/api/v1/namespaces/{release.namespace}/pods/{pod}/eviction"
        what = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod}}
        release.nodes.plane.api.create(path, what)

    evict(f"{SENDERS}-0")
    with pytest.raises(Refused, match=r" 429 .*disruption budget"):
        evict(f"{SENDERS}-1")
    release.until(lambda: release.lives().get(f"{SENDERS}-0", first[f"{SENDERS}-0"]) != first[f"{SENDERS}-0"])  # fmt: skip
    release.until_ready(SENDERS, 2)
    assert release.lives()[f"{SENDERS}-1"] == first[f"{SENDERS}-1"]

    node = release.objects("pods")[f"{SENDERS}-1"]["spec"]["nodeName"]
    try:
        release.kubectl("drain", node, "--delete-emptydir-data", "--timeout=180s")
        release.until_ready(SENDERS, 2)
        where = {one["spec"]["nodeName"] for one in release.objects("pods").values()}
        assert node not in where
    finally:
        release.kubectl("uncordon", node)
    async with Events(stack, PARTITIONS) as events:
        await events.until_final(messages, 120)
    assert events.types() == {"delivered": messages}
    assert set(receiver.copies().values()) == {1}
    assert len(receiver.copies()) == messages


def fixed(kafka: str, prefix: str, target: str) -> str:
    """Two addresses that the network gives, each to a pool of one pod; a pool of sources has both."""
    mail = [QUICK_TIMING, CONNECTIONS, '[net]\nallow = ["127.0.0.0/8"]']
    mail += [
        f'[sources.ip-{at}]\nslot = {at}\nkind = "direct"\nordinal = {at}\naddress = "192.0.2.{at + 1}"\n'
        f'ehlo = "m{at}.example.com"\nwarmup = "none"'
        for at in range(2)
    ]
    mail += [
        "[pools.main]\nsources = { ip-0 = 1, ip-1 = 1 }",
        '[tenants.acme]\ndomains = ["acme.example"]\npools = { transactional = "main", bulk = "main" }\nunsigned = true',
        '[providers.local]\nmx = [".local.invalid"]',
        f'[routes]\n"*.test" = {{ to = "{target}", provider = "local" }}',
    ]
    kafka_: Any = {"bootstrap": kafka, "prefix": prefix, "partitions": PARTITIONS, "slots": 2}
    node = "kubernetes.io/hostname"
    nat: Any = {"egress": "direct", "gateway": {"kind": "nat"}}
    whole: Any = QUICK | {
        "kafka": kafka_ | {"replication": 1, "minInsync": 1},
        "config": {"files": {"mail.toml": "\n".join(mail)}},
        "senderPools": {
            "a": nat | {"nodeSelector": {node: NODES[0]}},
            "b": nat | {"nodeSelector": {node: NODES[1]}, "ordinalStart": 1},
        },
    }
    return json.dumps(whole)


@pytest.mark.timeout(400)
async def test_what_a_fixed_slot_would_have_sent_its_pools_others_send(
    release: Release, yard: Yard, kafka: str, prefix: str, tmp_path: Path
) -> None:
    messages, pool_b = 600, "postyard-sender-b"
    receiver = yard.receiver("--dot-delay", "0.1")
    chart = fixed(kafka, prefix, receiver.target)
    release.helm("install", values=chart)
    for pod in release.pods("sender").values():
        pod.until("slots 1:", 180)
    stack = Stack(tmp_path, kafka, prefix, "")
    await stack.produce([submission(f"u{at}@a.test") for at in range(messages)])
    await taken(receiver, 50)
    (leaving,) = (pod for name, pod in release.pods("sender").items() if name.startswith(pool_b))
    release.scale(pool_b, 0)
    release.until_ready(pool_b, 0)
    async with Events(stack, PARTITIONS) as events:
        await events.until_final(messages, 120)
        assert events.types() == {"delivered": messages}
        by = Counter(event.source for event in events.finals().values())
        attempts = await Attempts.read(stack)
        drained = attempts.drained({leaving.uid})
        assert by["ip-0"] > messages / 2 > by["ip-1"] > 0
        assert drained, "there must have been something to hand back"
        assert {attempts.delivered[back.id].slot for back in drained} == {0}
        print(
            f"\nfixed: {len(drained)} handed back, sent by the other; {dict(by)}; {leaving.drained_s:.1f} s"
        )

        # Its number is the inventory's: an upgrade brings it back.
        release.helm("upgrade", values=chart)
        (back,) = (pod for name, pod in release.pods("sender").items() if name.startswith(pool_b))
        back.until("slots 1: ip-1", 180)
        await stack.produce([submission(f"v{at}@a.test") for at in range(200)])
        await events.until_final(messages + 200, 90)
    late = {e.source for e in events.finals().values() if e.to.startswith("v")}
    assert late == {"ip-0", "ip-1"}
    assert set(receiver.copies().values()) == {1}
    assert len(receiver.copies()) == messages + 200
