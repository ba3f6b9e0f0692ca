"""Three real brokers that replicate, as production has them: each record is at two of them at least before it counts as written.

with Brokers(directory) as brokers:
    brokers.nodes[0].kill() ... brokers.nodes[0].start() ... await brokers.in_sync()
"""

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Final, Self

from aiokafka.admin import AIOKafkaAdminClient

from services.cli.cluster.broker import LocalKafka
from services.cli.cluster.properties import Ports
from tests.support.stack import free_port

COPIES: Final = 3
IN_SYNC: Final = 2
_CLUSTER_ID: Final = "AAAAAAAAAAAAAAAAAAAAAA"
#: Of Kafka's own topics; a group and a transaction each have their coordinator somewhere.
_PARTITIONS: Final = 6


class Node(LocalKafka):
    """One of the three, broker and controller at once."""

    def __init__(self, directory: Path, number: int, ports: Sequence[Ports]) -> None:
        super().__init__(directory / f"kafka-{number}", port=ports[number].broker, heap_mib=384)
        self._number, self._all = number, ports

    def _choose_ports(self) -> Ports:
        return self._all[self._number]

    def _quorum(self) -> list[str]:
        return ["-t", _CLUSTER_ID]

    def _settings(self, ports: Ports, data: str) -> str:
        rows = dict(line.split("=", 1) for line in super()._settings(ports, data).splitlines())
        del rows["controller.quorum.bootstrap.servers"]
        voters = (f"{at}@127.0.0.1:{each.controller}" for at, each in enumerate(self._all))
        rows |= {"node.id": str(self._number), "controller.quorum.voters": ",".join(voters)}
        for name in rows:
            if name.endswith("replication.factor"):
                rows[name] = str(COPIES)
            elif name.endswith((".min.isr", "min.insync.replicas")):
                rows[name] = str(IN_SYNC)
            elif name.endswith(("topic.num.partitions", "log.num.partitions")):
                rows[name] = str(_PARTITIONS)
        # Leaders go back to where they were by themselves, as in a cluster that is looked after.
        rows["leader.imbalance.check.interval.seconds"] = "5"
        return "".join(f"{name}={value}\n" for name, value in rows.items())


class Brokers:
    """All three of them; they end with the block."""

    def __init__(self, directory: Path) -> None:
        ports = [Ports(free_port(), free_port()) for _ in range(COPIES)]
        self.nodes = [Node(directory, number, ports) for number in range(COPIES)]
        self.bootstrap = ",".join(f"127.0.0.1:{each.broker}" for each in ports)
        self._running = ExitStack()

    def __enter__(self) -> Self:
        for node in self.nodes:
            # The last one that is asked to leave waits for a quorum that is no more.
            self._running.callback(node.kill)
        # None of them answers before a second one is there to elect a controller with.
        with ThreadPoolExecutor(COPIES) as at_once:
            list(at_once.map(LocalKafka.start, self.nodes))
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()

    async def in_sync(self, seconds: float = 90) -> None:
        """Wait until every partition is at all three."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)
        await admin.start()
        try:
            end = time.monotonic() + seconds
            while behind := [
                (topic["topic"], each["partition"], each["isr"])
                for topic in await admin.describe_topics()
                for each in topic["partitions"]
                if len(each["isr"]) < COPIES
            ]:
                assert time.monotonic() < end, behind
                await asyncio.sleep(0.5)
        finally:
            await admin.close()
