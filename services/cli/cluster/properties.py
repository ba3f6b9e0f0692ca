"""Write and read `server.properties`: one node that is broker and controller at once.

The folder's file is also its memory: the two ports are chosen once and found here at every later start, so that
clients find a restarted broker where it was. Paths are relative, since the JVM runs in the folder: a Java properties
file would need every odd character escaped, and `log.dirs` splits at commas.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from services.cli.cluster.secured import LISTENER, Secured

MIB: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Ports:
    """Where the node listens on 127.0.0.1."""

    broker: int
    controller: int


def server_properties(ports: Ports, *, data: str, secured: Secured | None = None) -> str:
    """Give the whole configuration of the node."""
    listener = "PLAINTEXT" if secured is None else LISTENER
    rows: dict[str, str | int] = {
        "process.roles": "broker,controller",
        "node.id": 1,
        "controller.quorum.bootstrap.servers": f"127.0.0.1:{ports.controller}",
        "controller.listener.names": "CONTROLLER",
        "listeners": f"{listener}://127.0.0.1:{ports.broker},CONTROLLER://127.0.0.1:{ports.controller}",
        "log.dirs": data,
        # Topics are declared and applied; a misspelt name must not come into being.
        "auto.create.topics.enable": "false",
        # One node: Kafka's own topics have one copy, in as few partitions as do.
        "default.replication.factor": 1,
        "min.insync.replicas": 1,
        "offsets.topic.num.partitions": 1,
        "offsets.topic.replication.factor": 1,
        "transaction.state.log.num.partitions": 1,
        "transaction.state.log.replication.factor": 1,
        "transaction.state.log.min.isr": 1,
        "share.coordinator.state.topic.num.partitions": 1,
        "share.coordinator.state.topic.replication.factor": 1,
        "share.coordinator.state.topic.min.isr": 1,
        # How far mail.submissions is read must be known for as long as its records are kept: 14 days.
        "offsets.retention.minutes": 14 * 24 * 60,
        # Who joins first need not wait for others.
        "group.initial.rebalance.delay.ms": 0,
        # A killed broker may come back only when its controller has given up the old one: 9 s by default.
        "broker.heartbeat.interval.ms": 500,
        "broker.session.timeout.ms": 4000,
        # A message of 25 MiB with its encodings, for topics that do not say otherwise.
        "message.max.bytes": 36 * MIB,
        "replica.fetch.max.bytes": 36 * MIB,
        # A record of 100 MB shall be told "too large"; above this the connection is cut without a word.
        "socket.request.max.bytes": 160 * MIB,
        # The cleaner's map is taken at the start; the default of 128 MiB is half of this heap.
        "log.cleaner.dedupe.buffer.size": 8 * MIB,
        "log.segment.delete.delay.ms": 1000,
        "num.network.threads": 2,
        "num.io.threads": 4,
        "background.threads": 2,
    }
    if secured is not None:
        rows |= secured.rows()
    return "".join(f"{key}={value}\n" for key, value in rows.items())


def read_ports(path: Path) -> Ports | None:
    """Give the ports that an earlier start has written, or None."""
    try:
        rows = dict(line.split("=", 1) for line in path.read_text().splitlines())
        broker, controller = (part.rpartition(":")[2] for part in rows["listeners"].split(","))
        return Ports(int(broker), int(controller))
    except (FileNotFoundError, KeyError, ValueError):
        return None
