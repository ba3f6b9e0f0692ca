"""The chart's pods on a real Kafka: sources that belong to an ordinal when its pod goes and comes, and what the autoscaler is told."""

import asyncio
import json
import math
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.chart import NAMESPACE, of_kind, parsed, template
from tests.support.config import QUICK_TIMING, submission
from tests.support.kubelet import Kubelet
from tests.support.pod import Pod
from tests.support.receiver import Receiver
from tests.support.stack import Events, Stack, free_port
from tests.support.yard import Yard

FIXED, RELAY = "postyard-sender-fixed", "postyard-sender-relay"
#: One deliveries' worth for each pod that KEDA should make.
PER_POD = 10


def values(kafka: str, prefix: str, receiver: Receiver) -> str:
    """Two direct sources by ordinal, a smart host for whoever comes, and an address that no machine here has."""
    host, _, port = receiver.target.rpartition(":")
    pools = {"main": ["ip-0", "ip-1"], "alone": ["ip-1"], "relay": ["relay"], "far": ["far"]}
    mail = [
        QUICK_TIMING,
        f'[net]\nallow = ["127.0.0.0/8"]\n[routes]\n"*.test" = {{ to = "{receiver.target}", provider = "local" }}',
    ]
    mail += ['[providers.local]\nmx = [".local.invalid"]']
    given = 'ehlo = "m.example.com"\nwarmup = "none"'
    mail += [
        f'[sources.ip-{at}]\nslot = {at}\nkind = "direct"\nordinal = {at}\naddress = "198.51.100.{at}"\n{given}'
        for at in range(2)
    ]
    mail.append(
        f'[sources.relay]\nslot = 2\nkind = "smarthost"\nhost = "{host}"\nport = {port}\ntls = "opportunistic"\nwarmup = "none"'
    )
    mail.append(
        '[sources.far]\nslot = 3\nkind = "bind"\naddress = "192.0.2.77"\nehlo = "far.example.com"\nwarmup = "none"'
    )
    mail += [
        f"[pools.{name}]\nsources = {{ {', '.join(f'{one} = 1' for one in sources)} }}"
        for name, sources in pools.items()
    ]
    mail += [
        f'[tenants.{name}]\ndomains = ["acme.example"]\npools = {{ transactional = "{name}", bulk = "{name}" }}\nunsigned = true'
        for name in pools
    ]
    mail.append('[limits."smarthost:relay"]\nrate = "6/min"')
    whole: dict[str, Any] = {
        "kafka": {
            "bootstrap": kafka,
            "prefix": prefix,
            "partitions": 2,
            "slots": 4,
            "replication": 1,
            "minInsync": 1,
        },
        "config": {"files": {"mail.toml": "\n".join(mail)}},
        "dns": {"mode": "nameservers", "nameservers": ["127.0.0.1"]},
        "senderPools": {
            "fixed": {
                "egress": "direct",
                "addresses": ["198.51.100.0", "198.51.100.1"],
                "gateway": {"kind": "cilium", "nodeSelector": {"egress": "mail"}},
            },
            "relay": {
                "egress": "smarthost",
                "autoscaling": {
                    "enabled": True,
                    "minReplicas": 1,
                    "maxReplicas": 8,
                    "prometheus": "http://prometheus:9090",
                    "pools": ["relay"],
                    "grantablePerPod": PER_POD,
                },
            },
        },
    }
    return json.dumps(whole)  # fmt: skip


@pytest.fixture
def release(yard: Yard, kafka: str, prefix: str) -> Iterator[tuple[Kubelet, Receiver]]:
    receiver = yard.receiver()
    done = template(values=values(kafka, prefix, receiver))
    assert done.returncode == 0, done.stderr
    kubelet = Kubelet(yard.directory / "pods", parsed(done.stdout))
    try:
        kubelet.pod("Job", "postyard-apply", 0).complete()
        yield kubelet, receiver
    finally:
        kubelet.stop()


def lines(tenant: str, first: int, count: int) -> list[bytes]:
    made = (submission(f"{tenant}{at}@a.test", id_=f"{tenant}{at}") for at in range(first, first + count))  # fmt: skip
    return [line.replace(b'"tenant": "acme"', b'"tenant": "%b"' % tenant.encode(), 1) for line in made]  # fmt: skip


async def until(holds: Callable[[], bool], what: Callable[[], object], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not await asyncio.to_thread(holds):
        assert time.monotonic() < end, what()
        await asyncio.sleep(0.2)


def measured(pod: Pod, name: str) -> float | None:
    """Give one series of its metrics by its whole name; None: it has none."""
    found = [line for line in pod.get("/metrics")[1].splitlines() if line.startswith(name + " ")]
    return float(found[0].rpartition(" ")[2]) if found else None


@pytest.mark.timeout(280)
async def test_the_slot_of_an_ordinal_that_went_is_vacant_and_its_pools_others_deliver(
    release: tuple[Kubelet, Receiver], kafka: str, prefix: str, tmp_path: Path
) -> None:
    kubelet, receiver = release
    scheduler, ingest = (kubelet.pod("Deployment", f"postyard-{s}", "x") for s in ("scheduler", "ingest"))  # fmt: skip
    fixed = [kubelet.pod("StatefulSet", FIXED, ordinal) for ordinal in range(2)]
    for pod in (scheduler, ingest, *fixed):
        await asyncio.to_thread(pod.until, "")
    # Their ordinals are 0 and 1 as well, and they are no sender of a direct source for it.
    relays = [kubelet.pod("StatefulSet", RELAY, ordinal) for ordinal in range(2)]
    for pod in relays:
        await asyncio.to_thread(pod.until, "slots ")
    for at, pod in enumerate(fixed):
        assert f"ip-{at}" in pod.ask("readinessProbe")[1]
    said = [pod.ask("readinessProbe")[1] for pod in relays]
    assert "ip-" not in "".join(said)
    idle = [pod for pod, its in zip(relays, said, strict=True) if "slots 0" in its]
    assert idle, f"one smart host, four senders: {said}"
    for pod in idle:
        await until(lambda pod=pod: '"idle"' in pod.tail(), pod.tail)  # type: ignore[misc]

    def pools(pool: str, state: str) -> float | None:
        return measured(scheduler, f'postyard_pool_sources{{pool="{pool}",state="{state}"}}')

    stack = Stack(tmp_path / "stack", kafka, prefix, "")
    await stack.produce(lines("main", 0, 60))
    async with Events(stack, 2) as events:
        await events.until_final(60, 60)
        assert {event.source for event in events.finals().values()} == {"ip-0", "ip-1"}
        assert await asyncio.to_thread(pools, "alone", "ready") == 1

        await asyncio.to_thread(fixed[1].delete)
        await until(lambda: pools("alone", "ready") == 0, scheduler.tail)
        assert await asyncio.to_thread(pools, "main", "ready") == 1
        assert await asyncio.to_thread(pools, "main", "vacant") == 1
        assert measured(scheduler, 'postyard_slot_vacant{source="ip-1"}') == 1
        await stack.produce([*lines("main", 60, 40), *lines("alone", 0, 10)])
        await events.until_final(100, 60)
        late = [event for event in events.finals().values() if event.submission not in {f"main{at}" for at in range(60)}]  # fmt: skip
        assert {(event.type, event.source) for event in late} == {("delivered", "ip-0")}
        waiting = 'postyard_deliveries{class="bulk",provider="local",reason="no_source"}'
        await until(lambda: measured(scheduler, waiting) == 10, scheduler.tail)

        back = kubelet.pod("StatefulSet", FIXED, 1)
        await asyncio.to_thread(back.until, "ip-1")
        await events.until_final(110, 60)
        assert events.types() == {"delivered": 110}
    assert len(receiver.copies()) == 110
    assert set(receiver.copies().values()) == {1}, "each once"


@contextmanager
def prometheus(directory: Path, target: int) -> Iterator[Callable[[str], float | None]]:
    """Run a Prometheus that scrapes one port, and give what asks it; None: it knows no such series."""
    directory.mkdir()
    port = free_port()
    config = {
        "global": {"scrape_interval": "1s"},
        "scrape_configs": [
            {"job_name": "postyard", "static_configs": [{"targets": [f"127.0.0.1:{target}"], "labels": {"namespace": NAMESPACE}}]}
        ],
    }  # fmt: skip
    (directory / "prometheus.yml").write_text(json.dumps(config))
    words = ["prometheus", f"--config.file={directory}/prometheus.yml"]
    words += [f"--storage.tsdb.path={directory}/data", f"--web.listen-address=127.0.0.1:{port}"]
    with (directory / "log").open("wb") as out:
        process = subprocess.Popen(words, stdout=out, stderr=subprocess.STDOUT)

    def ask(query: str) -> float | None:
        url = f"http://127.0.0.1:{port}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                found = json.load(answer)["data"]["result"]
        except OSError:
            return None
        return float(found[0]["value"][1]) if found else None

    try:
        yield ask
    finally:
        process.terminate()
        process.wait(30)


@pytest.mark.skipif(shutil.which("prometheus") is None, reason="prometheus is not here")
@pytest.mark.timeout(280)
async def test_mail_that_waits_for_a_limit_asks_for_no_pods_and_mail_that_lacks_a_sender_does(
    release: tuple[Kubelet, Receiver], kafka: str, prefix: str, tmp_path: Path
) -> None:
    kubelet, _ = release
    scaled = of_kind("ScaledObject", kubelet.found)[RELAY]["spec"]
    (trigger,) = scaled["triggers"]
    query, per_pod = trigger["metadata"]["query"], int(trigger["metadata"]["threshold"])
    assert (trigger["metricType"], per_pod) == ("AverageValue", PER_POD)

    def wanted(value: float | None) -> int:
        """Do with the answer what the autoscaler does, which KEDA gives it to."""
        assert value is not None
        pods = max(math.ceil(value / per_pod), scaled["minReplicaCount"])
        return int(min(pods, scaled["maxReplicaCount"]))

    scheduler, ingest = (kubelet.pod("Deployment", f"postyard-{s}", "x") for s in ("scheduler", "ingest"))  # fmt: skip
    sender = kubelet.pod("StatefulSet", RELAY, 0)
    for pod in (scheduler, ingest, sender):
        await asyncio.to_thread(pod.until, "")
    stack = Stack(tmp_path / "stack", kafka, prefix, "")
    with prometheus(tmp_path / "prometheus", scheduler.room.port("metrics")) as ask:
        await until(lambda: ask(query) == 0, (tmp_path / "prometheus" / "log").read_text)
        # Mail of another pool that lacks its sender is not this one's affair.
        await stack.produce([*lines("relay", 0, 100), *lines("alone", 0, 100)])
        limited = 'sum(postyard_deliveries{reason="rate"})'
        await until(lambda: (ask(limited) or 0) > 90, scheduler.tail)
        assert wanted(ask(query)) == 1
        assert ask("sum(postyard_grantable)") == 100

        await asyncio.to_thread(sender.delete)
        await until(lambda: (ask(query) or 0) > 90, scheduler.tail)
        assert wanted(ask(query)) == 8
