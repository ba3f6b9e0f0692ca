"""A broker that trusts nobody, and a configuration for each service that logs in to it under its own name."""

import argparse
import asyncio
import hashlib
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import trustme
from aiokafka.protocol.admin import CreateAclsRequest
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import (
    CompactArray,
    CompactBytes,
    CompactString,
    Int8,
    Int16,
    Int32,
    Schema,
    TaggedFields,
)
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from services.cli.cluster.broker import LocalKafka
from services.cli.cluster.secured import Secured
from shared.kafka.cluster import Cluster, connect
from shared.records.access import SERVICES
from shared.runtime.loading import load
from shared.runtime.settings import Settings

ADMIN: Final = "admin"
_ITERATIONS: Final = 4096
_SHA512: Final = 2
_KINDS: Final = {"topic": 2, "group": 3, "transactional_id": 5}
_LITERAL, _PREFIXED, _ALLOW = 3, 4, 3
_OPERATIONS: Final = {
    "Read": 3,
    "Write": 4,
    "Create": 5,
    "Delete": 6,
    "Describe": 8,
    "DescribeConfigs": 10,
    "AlterConfigs": 11,
}


def password(service: str) -> str:
    """Give a password that a shell, TOML and JAAS must take as it is."""
    return f"{service} $ecret/+="


@dataclass(frozen=True, slots=True)
class Fortress:
    """The broker, and where the services' files are."""

    broker: LocalKafka
    directory: Path

    def write(self, config: str) -> None:
        """Write each service's configuration; ``config`` has nothing of kafka.tls and kafka.sasl."""
        for service in (*SERVICES, ADMIN):
            user = ADMIN if service == ADMIN else f"postyard-{service}"
            (self.directory / f"{service}.password").write_text(password(service) + "\n")
            security = (
                f'\n[kafka.tls]\nca_file = "ca.pem"\n[kafka.sasl]\nmechanism = "SCRAM-SHA-512"\n'
                f'username = "{user}"\npassword_file = "{service}.password"\n'
            )
            self.config(service).write_text(config + security)

    def config(self, service: str) -> Path:
        return self.directory / f"{service}.toml"

    def settings(self, service: str) -> Settings:
        return load(self.config(service), {})

    def cluster(self, service: str) -> Cluster:
        return connect(self.settings(service).kafka, client_id=f"test-{service}")

    def grant(self, commands: Iterable[str]) -> None:
        """Do what kafka-acls would do with its arguments."""
        asyncio.run(self._grant([right for command in commands for right in asked(command)]))

    async def _grant(self, rights: list[Mapping[str, Any]]) -> None:
        cluster = self.cluster(ADMIN)
        admin: Any = await cluster.admin()
        for right in rights:
            response = await admin._send_request(CreateAclsRequest(**right))
            assert [error for error, *_ in response.creation_responses] == [0], right
        await cluster.close()

    async def change_password(self, service: str, to: str) -> None:
        """Give a service's user another password, at the broker alone."""
        cluster, salt = self.cluster(ADMIN), b"salt of the tests"
        salted = hashlib.pbkdf2_hmac("sha512", to.encode(), salt, _ITERATIONS)
        admin: Any = await cluster.admin()
        response = await admin._send_request(
            _AlterScram([(f"postyard-{service}", _SHA512, _ITERATIONS, salt, salted, {})])
        )
        assert [error for _, error, *_ in response.results] == [0], response
        await cluster.close()


class _AlterScramResponse(Response):  # type: ignore[misc] # aiokafka has no types
    """AlterUserScramCredentials, which aiokafka does not have (https://kafka.apache.org/protocol.html, key 51)."""

    API_KEY, API_VERSION = 51, 0
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "results",
            CompactArray(
                ("user", CompactString("utf-8")),
                ("error_code", Int16),
                ("error_message", CompactString("utf-8")),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class _AlterScramStruct(RequestStruct):  # type: ignore[misc] # 〃
    FLEXIBLE_VERSION = True
    API_KEY, API_VERSION = 51, 0
    RESPONSE_TYPE = _AlterScramResponse
    SCHEMA = Schema(
        (
            "deletions",
            CompactArray(
                ("name", CompactString("utf-8")), ("mechanism", Int8), ("tags", TaggedFields)
            ),
        ),
        (
            "upsertions",
            CompactArray(
                ("name", CompactString("utf-8")),
                ("mechanism", Int8),
                ("iterations", Int32),
                ("salt", CompactBytes),
                ("salted_password", CompactBytes),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class _AlterScram(Request[_AlterScramStruct]):  # type: ignore[misc] # 〃
    API_KEY = 51

    def __init__(self, upsertions: list[tuple[Any, ...]]) -> None:
        self._upsertions = upsertions

    def build(self, request_struct_class: type[_AlterScramStruct]) -> _AlterScramStruct:
        return request_struct_class([], self._upsertions, {})


def fortress(directory: Path) -> Fortress:
    """Make certificates and users; the broker is not started yet."""
    directory.mkdir(parents=True, exist_ok=True)
    authority = trustme.CA()
    authority.cert_pem.write_to_path(directory / "ca.pem")
    issued = authority.issue_cert("127.0.0.1", "localhost")
    key = load_pem_private_key(issued.private_key_pem.bytes(), None)
    # Kafka reads PKCS #8 only.
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    chain = b"".join(blob.bytes() for blob in issued.cert_chain_pems)
    (directory / "broker.pem").write_bytes(pem + chain)
    users = {f"postyard-{service}": password(service) for service in SERVICES}
    secured = Secured(
        directory / "broker.pem",
        directory / "ca.pem",
        users | {ADMIN: password(ADMIN)},
        ADMIN,
    )
    return Fortress(LocalKafka(directory / "kafka", secured=secured), directory)


def asked(command: str) -> Iterable[Mapping[str, Any]]:
    """Read a command of kafka-acls as that tool would, and give the rights that it creates."""
    parser = argparse.ArgumentParser(allow_abbrev=False, exit_on_error=False)
    parser.add_argument("tool")
    parser.add_argument("--bootstrap-server", required=True)
    parser.add_argument("--add", action="store_true", required=True)
    parser.add_argument("--allow-principal", required=True)
    parser.add_argument("--operation", action="append", choices=list(_OPERATIONS), required=True)
    parser.add_argument("--resource-pattern-type", choices=["literal", "prefixed"])
    for kind in _KINDS:
        parser.add_argument(f"--{kind.replace('_', '-')}", action="append", default=[])
    given = parser.parse_args(shlex.split(command))
    return [
        {
            "resource_type": number,
            "resource_name": name,
            "resource_pattern_type_filter": (
                _PREFIXED if given.resource_pattern_type == "prefixed" else _LITERAL
            ),
            "principal": given.allow_principal,
            "host": "*",
            "operation": _OPERATIONS[operation],
            "permission_type": _ALLOW,
        }
        for kind, number in _KINDS.items()
        for name in getattr(given, kind)
        for operation in given.operation
    ]
