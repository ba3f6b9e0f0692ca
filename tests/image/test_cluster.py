"""The chart's pods, each with the image as its root, on a real Kafka: mail through all of them, and a proxy that lets go."""

import asyncio
import contextlib
import re
import subprocess
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from tests.support.chart import Manifest, manifests, parsed, template
from tests.support.image import Image, ImageRoom
from tests.support.kubelet import Kubelet
from tests.support.pod import Pod
from tests.support.probe import asked
from tests.support.relays import SENDERS, submissions, values
from tests.support.stack import Events, Stack
from tests.support.yard import Yard

MESSAGES = 600
RELAYS = 4


def kubelet(directory: Path, found: list[Manifest], image: Image) -> Kubelet:
    return Kubelet(directory, found, partial(ImageRoom, image=image))


def runs_as(pid: int) -> tuple[str, int]:
    """Give the program that a process is now, and its user."""
    there = Path(f"/proc/{pid}")
    uid = re.search(r"^Uid:\s+(\d+)", (there / "status").read_text(), re.MULTILINE)
    assert uid is not None
    return (there / "exe").readlink().name, int(uid[1])


def head(pod: Pod) -> int:
    process = pod.containers[0].process
    assert process is not None
    return process.pid


async def test_a_whole_cluster_of_it_delivers_each_message_once_and_drains(
    image: Image, yard: Yard, kafka: str, prefix: str, tmp_path: Path
) -> None:
    receiver = yard.receiver()
    done = template(values=values(kafka, prefix, receiver.target, relays=RELAYS))
    assert done.returncode == 0, done.stderr
    ours = kubelet(yard.directory / "pods", parsed(done.stdout), image)
    with contextlib.ExitStack() as later:
        later.callback(ours.stop)
        await asyncio.to_thread(ours.pod("Job", "postyard-apply", 0).complete)
        others = [ours.pod("Deployment", f"postyard-{s}", "x") for s in ("ingest", "scheduler")]
        senders = [ours.pod("StatefulSet", SENDERS, ordinal) for ordinal in range(2)]
        assert any(one.sidecar for one in senders[0].first), "a resolver beside each"
        for pod in (*others, *senders):
            await asyncio.to_thread(pod.until, "ready")
            assert pod.ask("livenessProbe") == (200, "ok\n")
            assert runs_as(head(pod)) == (f"python{image.python}", image.user.uid)
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


def test_its_proxy_listens_and_lets_go_as_the_charts_hook_asks(
    image: Image, tmp_path: Path
) -> None:
    """`kill -USR1 1` in the hook is for HAProxy's master: it must be process 1, and end by it with all of its own."""
    room = kubelet(tmp_path, manifests("production-strimzi"), image).placed(
        "Deployment", "postyard-proxy-egress-a", "x"
    )
    assert isinstance(room, ImageRoom)
    assert room.mount()
    (container,) = room.spec["containers"]
    process = room.start(container, container["command"], room.log, alone=True)
    try:
        end = time.monotonic() + 30
        while not asked(container["readinessProbe"], room.port, not_here):
            assert process.poll() is None, room.log.read_text()
            assert time.monotonic() < end, room.log.read_text()
            time.sleep(0.1)
        (one,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        assert runs_as(int(one)) == ("haproxy", image.user.uid)
        inside = ["nsenter", "--target", one, "--mount", "--pid", "--root", "--wd", "--"]
        hook = container["lifecycle"]["preStop"]["exec"]["command"]
        # The hook's last sleep is longer than any grace: it ends with process 1.
        subprocess.run([*inside, *image.user.words(), *hook], timeout=60, check=False)
        assert process.wait(10) == 0, room.log.read_text()
    finally:
        process.kill()
        process.wait(10)


def not_here(words: Sequence[str]) -> "subprocess.Popen[bytes]":
    raise AssertionError(f"a probe that runs something: {words}")
