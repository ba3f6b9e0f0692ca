"""The chart's pods as processes, from their own specs, on a real Kafka: the job, the probes, a changed configuration, scaling."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.chart import parsed, template
from tests.support.kubelet import Kubelet
from tests.support.receiver import Receiver
from tests.support.relays import SENDERS, submissions, values
from tests.support.stack import Events, Stack
from tests.support.yard import Yard

RELAYS = 4
MESSAGES = 400
#: No name is asked for; tests/k8s runs the resolver, too.
NO_RESOLVER = {"mode": "nameservers", "nameservers": ["127.0.0.1"]}


@pytest.fixture
def release(yard: Yard, kafka: str, prefix: str) -> Iterator[tuple[Kubelet, Receiver]]:
    receiver = yard.receiver()
    done = template(values=values(kafka, prefix, receiver.target, dns=NO_RESOLVER))
    assert done.returncode == 0, done.stderr
    kubelet = Kubelet(yard.directory / "pods", parsed(done.stdout))
    try:
        yield kubelet, receiver
    finally:
        kubelet.stop()


@pytest.mark.timeout(280)
async def test_a_pool_of_floating_sources_is_scaled_while_mail_flows(
    release: tuple[Kubelet, Receiver], kafka: str, prefix: str, tmp_path: Path
) -> None:
    kubelet, receiver = release
    kubelet.pod("Job", "postyard-apply", 0).complete()
    others = [kubelet.pod("Deployment", f"postyard-{s}", "x") for s in ("ingest", "scheduler")]
    senders = [kubelet.pod("StatefulSet", SENDERS, ordinal) for ordinal in range(2)]
    for pod in (*others, *senders):
        await asyncio.to_thread(pod.until, "ready")
        assert pod.ask("livenessProbe") == (200, "ok\n")
    for pod in senders:
        await asyncio.to_thread(pod.until, "slots 2:")

    stack = Stack(tmp_path / "stack", kafka, prefix, "")
    lines = submissions(range(MESSAGES))
    third = MESSAGES // 3
    await stack.produce(lines[:third])
    senders += [kubelet.pod("StatefulSet", SENDERS, ordinal) for ordinal in (2, 3)]
    for pod in senders:
        await asyncio.to_thread(pod.until, "slots 1:")
    idle = kubelet.pod("StatefulSet", SENDERS, 4)
    await asyncio.to_thread(idle.until, "slots 0")

    await stack.produce(lines[third : 2 * third])
    # The highest ordinals first, as a StatefulSet does.
    for pod in (idle, *reversed(senders[1:])):
        took = await asyncio.to_thread(pod.delete)
        print(f"{pod.name} drained in {took:.1f} s")
    await stack.produce(lines[2 * third :])
    await asyncio.to_thread(senders[0].until, f"slots {RELAYS}:")
    async with Events(stack, 2) as events:
        await events.until_final(MESSAGES, 90)
        assert events.types() == {"delivered": MESSAGES}
    assert set(receiver.copies().values()) == {1}, "each once"
    assert len(receiver.copies()) == MESSAGES

    limit = '[limits.default]\nrate = "100/min"\n'
    changed = values(kafka, prefix, receiver.target, more=limit, dns=NO_RESOLVER)
    kubelet.change(parsed(template(values=changed).stdout))
    end = time.monotonic() + 30
    for pod in (*others, senders[0]):
        # Ingest has no use for limits, and goes on as it is.
        while "ingest" not in pod.name and pod.metric("postyard_config_reloads_total") < 1:
            assert time.monotonic() < end, pod.log.read_text()[-2000:]
            await asyncio.sleep(0.2)
        assert pod.metric("postyard_config_refused") == 0
        assert not pod.over
        assert pod.restarts == 0
