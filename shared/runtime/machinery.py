"""Reads how the processes work: Kafka, times, names, networks, bounds, logs.

A section is a dataclass, of ``shared.runtime.workings`` for most: a field's key is its name without the unit, and its default is the
field's own. What differs for each pod comes from the environment, which wins.
"""

import dataclasses
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

from shared.runtime import urls, values
from shared.runtime.settings import MOST_SLOTS, Backoff
from shared.runtime.table import Table
from shared.runtime.workings import (
    Dns,
    Following,
    Http,
    Ingest,
    Kafka,
    KafkaSasl,
    KafkaTls,
    Log,
    Net,
    Scheduler,
    Sender,
    Timing,
)

S = TypeVar("S", Backoff, Dns, Following, Http, Ingest, Kafka, Log, Net, Scheduler, Sender, Timing)
Read = Callable[[Any], Any]

_COUNT: Final = values.number(1, 1024)
_COPIES: Final = values.number(1, 9)
#: What a StatefulSet calls its pods: its own name, a hyphen, and the ordinal.
_NUMBERED: Final = re.compile(r".*-([0-9]{1,4})")

_KAFKA: Final[Mapping[str, Read]] = {
    "bootstrap": values.bootstrap,
    "prefix": values.prefix,
    "partitions": _COUNT,
    "slots": values.number(1, MOST_SLOTS),
    "replication": _COPIES,
    "min_insync": _COPIES,
}
_PARTITION: Final = values.number(0, 1023)
_TIMING: Final[Mapping[str, Read]] = {
    field.name: values.some_time for field in dataclasses.fields(Timing)
}
_BACKOFF: Final[Mapping[str, Read]] = {
    "cut": values.part,
    "floor": values.rate,
    "probes": values.number(1, 100),
} | {
    field.name: values.some_time
    for field in dataclasses.fields(Backoff)
    if field.name.endswith("_ns")
}
_DNS: Final[Mapping[str, Read]] = {
    "nameservers": values.addresses,
    "port": values.port,
    "timeout_ns": values.some_time,
}
_NET: Final[Mapping[str, Read]] = {"allow": values.networks, "deny": values.networks}
_HTTP: Final[Mapping[str, Read]] = {"host": values.listen, "port": values.any_port}
_INGEST: Final[Mapping[str, Read]] = {
    "inline_max": values.size,
    "max_message": values.size,
    "max_lifetime_ns": values.some_time,
    "max_recipients": values.number(1, 100_000),
}
_SCHEDULER: Final[Mapping[str, Read]] = {
    "max_waiting": values.number(10, 10_000_000),
    "body_cache_bytes": values.size,
    "straggler_span": values.number(10, 1 << 40),
    "bulk_share": values.half,
    "release_ns": values.duration,
}
_SENDER: Final[Mapping[str, Read]] = {
    "signers": values.number(1, 64),
    "body_cache_bytes": values.size,
    "idle_ns": values.some_time,
    "connect_timeout_ns": values.some_time,
    "banner_timeout_ns": values.some_time,
    "ehlo_timeout_ns": values.some_time,
    "starttls_timeout_ns": values.some_time,
    "auth_timeout_ns": values.some_time,
    "mail_timeout_ns": values.some_time,
    "rcpt_timeout_ns": values.some_time,
    "data_timeout_ns": values.some_time,
    "block_timeout_ns": values.some_time,
    "dot_timeout_ns": values.some_time,
    "grace_ns": values.some_time,
    "echo": urls.echo,
    "echo_every_ns": values.some_time,
    "ordinal": values.ordinal,
}
_LOG: Final[Mapping[str, Read]] = {
    "level": values.one_of("debug", "info", "warning", "error"),
    "recipients": values.flag,
}


_CONFIGURATION: Final[Mapping[str, Read]] = {"follow": values.one_of("files", "control")}


def key_of(field: str) -> str:
    """Give the key of a field: its name without the unit."""
    return field.removesuffix("_ns").removesuffix("_bytes")


def _section(top: Table, name: str, base: S, readers: Mapping[str, Read]) -> S:
    table = top.table(name)
    found = _fields(table, base, readers)
    table.done()
    return found


def _fields(table: Table, base: S, readers: Mapping[str, Read]) -> S:
    found = {
        field: table.get(key_of(field), read, getattr(base, field))
        for field, read in readers.items()
    }
    return dataclasses.replace(base, **found)


def kafka(top: Table, env: Mapping[str, str], base: Path) -> Kafka:
    """Read where Kafka is, how it knows us, and how its topics are cut; paths are relative to ``base``."""
    table = top.table("kafka")
    found = _fields(table, Kafka(), _KAFKA)
    tls = _kafka_tls(table.table("tls"), base) if "tls" in table.raw else None
    sasl = _kafka_sasl(table.table("sasl"), env, base) if "sasl" in table.raw else None
    if sasl is not None and sasl.mechanism == "PLAIN" and tls is None:
        top.problems.say(
            "kafka.sasl.mechanism",
            "PLAIN sends the password as it is: add [kafka.tls], or use SCRAM-SHA-512",
        )
    table.done()
    bootstrap = _environment(
        top, env, "POSTYARD_KAFKA_BOOTSTRAP", values.bootstrap, found.bootstrap
    )
    return dataclasses.replace(found, bootstrap=bootstrap, tls=tls, sasl=sasl)


def _kafka_tls(table: Table, base: Path) -> KafkaTls:
    files = {
        name: base / table.get(name, values.text, "") if name in table.raw else None
        for name in ("ca_file", "cert_file", "key_file")
    }
    for one, other in (("cert_file", "key_file"), ("key_file", "cert_file")):
        if one in table.raw and other not in table.raw:
            table.say(other, f"is required where there is a {one}")
    table.asked += files
    table.done()
    return KafkaTls(**files)


def _kafka_sasl(table: Table, env: Mapping[str, str], base: Path) -> KafkaSasl:
    mechanism = table.get("mechanism", values.mechanism, KafkaSasl().mechanism)
    named = table.get("username", values.text, "")
    # The file is the same for all services, and each has a name of its own.
    username = _environment(table, env, "POSTYARD_KAFKA_USERNAME", values.text, named)
    if not username and "username" not in table.raw:
        table.say("username", "is required, here or as POSTYARD_KAFKA_USERNAME")
    password = table.need("password_file", values.text, "")
    table.done()
    return KafkaSasl(mechanism, username, base / password)


def http(top: Table, env: Mapping[str, str]) -> Http:
    """Read where the probes and metrics answer."""
    found = _section(top, "http", Http(), _HTTP)
    port = _environment(
        top,
        env,
        "POSTYARD_HTTP_PORT",
        lambda value: values.any_port(int(value) if value.isdecimal() else value),
        found.port,
    )
    return dataclasses.replace(found, port=port)


def _environment(top: Table, env: Mapping[str, str], name: str, read: Read, default: Any) -> Any:
    """Read what the environment says; an empty variable says nothing."""
    if not env.get(name):
        return default
    try:
        return read(env[name])
    except ValueError as error:
        top.problems.say(name, str(error))
        return default


def timing(top: Table) -> Timing:
    """Read the protocol's times."""
    return _section(top, "timing", Timing(), _TIMING)


def backoff(top: Table) -> Backoff:
    """Read how sources answer to what destinations say of them."""
    return _section(top, "backoff", Backoff(), _BACKOFF)


def dns(top: Table) -> Dns:
    """Read who is asked for names."""
    return _section(top, "dns", Dns(), _DNS)


def net(top: Table) -> Net:
    """Read which networks are allowed although they are private."""
    return _section(top, "net", Net(), _NET)


def ingest(top: Table) -> Ingest:
    """Read the bounds of what is accepted."""
    return _section(top, "ingest", Ingest(), _INGEST)


def scheduler(top: Table) -> Scheduler:
    """Read the bounds of the scheduler."""
    return _section(top, "scheduler", Scheduler(), _SCHEDULER)


def sender(top: Table, env: Mapping[str, str]) -> Sender:
    """Read how a sender works, and which of the senders this is."""
    found = _section(top, "sender", Sender(), _SENDER)
    numbered = _NUMBERED.fullmatch(env.get("HOSTNAME", ""))
    default = int(numbered[1]) if numbered and found.ordinal is None else found.ordinal
    ordinal = _environment(
        top,
        env,
        "POSTYARD_ORDINAL",
        _ordinal,
        default,
    )
    return dataclasses.replace(found, ordinal=ordinal)


def _ordinal(value: str) -> int | None:
    """Read a number, or ``none``: a pod of a pool without direct sources is not the sender of any, whatever its name ends with."""
    return None if value == "none" else values.ordinal(int(value) if value.isdecimal() else value)


def log(top: Table) -> Log:
    """Read what is logged."""
    return _section(top, "log", Log(), _LOG)


def configuration(top: Table) -> Following:
    """Read where changes of the configuration come from."""
    return _section(top, "configuration", Following(), _CONFIGURATION)


def lanes(top: Table) -> dict[str, int]:
    """Read which partitions decide about which lanes."""
    table = top.table("lanes")
    return {lane: table.get(lane, _PARTITION, 0) for lane in table.raw}
