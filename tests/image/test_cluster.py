"""The chart's pods, each with the image as its root, on a real Kafka: mail through all of them, and a proxy that lets go."""

import asyncio
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.support.chart import manifests, parsed, template
from tests.support.image import Image, ImageRoom
from tests.support.kubelet import Kubelet
from tests.support.pod import Pod
from tests.support.relays import SENDERS, submissions, values
from tests.support.stack import Events, Stack
from tests.support.yard import Yard

MESSAGES = 600
RELAYS = 4


@contextmanager
def pods(directory: Path, found: list[Any], image: Image) -> Iterator[Kubelet]:
    kubelet = Kubelet(directory, found, partial(ImageRoom, image=image))
    try:
        yield kubelet
    finally:
        kubelet.stop()


def runs_as(pod: Pod) -> tuple[str, int]:
    """Give the program that its first container's process is now, and its user."""
    process = pod.containers[0].process
    assert process is not None
    there = Path(f"/proc/{process.pid}")
    return (there / "exe").readlink().name, (there / "cwd").stat(follow_symlinks=False).st_uid


async def test_a_whole_cluster_of_it_delivers_each_message_once_and_drains(
    image: Image, yard: Yard, kafka: str, prefix: str, tmp_path: Path
) -> None:
    receiver = yard.receiver()
    done = template(values=values(kafka, prefix, receiver.target, relays=RELAYS))
    assert done.returncode == 0, done.stderr
    with pods(yard.directory / "pods", parsed(done.stdout), image) as kubelet:
        await asyncio.to_thread(kubelet.pod("Job", "postyard-apply", 0).complete)
        others = [kubelet.pod("Deployment", f"postyard-{s}", "x") for s in ("ingest", "scheduler")]
        senders = [kubelet.pod("StatefulSet", SENDERS, ordinal) for ordinal in range(2)]
        assert any(one.sidecar for one in senders[0].first), "a resolver beside each"
        for pod in (*others, *senders):
            await asyncio.to_thread(pod.until, "ready")
            assert pod.ask("livenessProbe") == (200, "ok\n")
            assert runs_as(pod) == (f"python{image.python}", image.user.uid)
        for pod in senders:
            await asyncio.to_thread(pod.until, "slots 2:")

        stack = Stack(tmp_path / "stack", kafka, prefix, "")
        lines = submissions(range(MESSAGES), relays=RELAYS)
        await stack.produce(lines[: MESSAGES // 2])
        # SIGTERM in the middle: what it has is sent or handed back, and the other one goes on with its slots.
        await asyncio.to_thread(senders[1].delete)
        await stack.produce(lines[MESSAGES // 2 :])
        async with Events(stack, 2) as events:
            await events.until_final(MESSAGES, 90)
            assert events.types() == {"delivered": MESSAGES}
        for pod in (senders[0], *others):
            took = await asyncio.to_thread(pod.delete)
            print(f"{pod.name} drained in {took:.1f} s")
        every = [one for pod in (*others, *senders) for one in (*pod.first, *pod.containers)]
        assert {one.code for one in every} == {0}, "the resolvers, too"
        assert {pod.restarts for pod in (*others, *senders)} == {0}
    assert set(receiver.copies().values()) == {1}, "each once"
    assert len(receiver.copies()) == MESSAGES


def test_its_proxy_listens_and_ends_by_the_signal_that_the_chart_gives(
    image: Image, tmp_path: Path
) -> None:
    with pods(tmp_path, manifests("production-strimzi"), image) as kubelet:
        pod = kubelet.pod("Deployment", "postyard-proxy-egress-a", "x")
        end = time.monotonic() + 30
        while not pod.containers[0].ready:
            assert not pod.restarts, pod.tail()
            assert time.monotonic() < end, pod.tail()
            time.sleep(0.1)
        assert runs_as(pod) == ("haproxy", image.user.uid)
        process = pod.containers[0].process
        assert process is not None
        process.send_signal(signal.SIGUSR1)
        assert process.wait(30) == 0, pod.tail()
