"""The rights that are printed: for each service what it does, as commands that kafka-acls takes, and as KafkaUsers."""

import itertools
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from services.cli.__main__ import postyard
from services.cli.acl import Right, commands, rights
from shared.records.access import SERVICES, access
from shared.records.topics import Topics, declared
from tests.support.secured import asked

TOPICS = Topics()


def test_the_declared_topics_are_those_that_are_declared() -> None:
    every = {
        spec.name for spec in declared(TOPICS, partitions=1, slots=1, replication=1, min_insync=1)
    }
    assert access("cli", TOPICS).declares == every
    for service in SERVICES:
        assert access(service, TOPICS).used <= every, service


def test_a_senders_credential_is_worth_what_is_under_way() -> None:
    sender = access("sender", TOPICS)
    assert sender.reads == {"mail.dispatch", "mail.bodies", "mail.control"}
    assert sender.writes == {"mail.outcomes", "mail.control"}
    assert not sender.trims | sender.declares
    assert sender.group is None


def test_only_the_scheduler_deletes_and_only_the_cli_declares() -> None:
    assert [s for s in SERVICES if access(s, TOPICS).trims] == ["scheduler"]
    assert [s for s in SERVICES if access(s, TOPICS).declares] == ["cli"]


@pytest.mark.parametrize("service", SERVICES)
def test_the_commands_ask_for_just_the_rights(service: str) -> None:
    granted = rights(access(service, Topics("x.")))
    printed = list(commands("someone", granted, tool="kafka-acls.sh", server="kafka:9092"))
    asked_for = [right for command in printed for right in asked(command)]
    assert {right["principal"] for right in asked_for} == {"User:someone"}
    assert len(asked_for) == sum(len(right.operations) for right in granted)
    assert {right["resource_name"] for right in asked_for} == {right.name for right in granted}
    assert all(right["resource_name"].startswith("x.") for right in asked_for)


def test_only_transactional_ids_are_prefixes() -> None:
    for service in SERVICES:
        for right in rights(access(service, TOPICS)):
            assert right.prefixed == (right.kind == "transactionalId")
            assert right.name, "an empty prefix is everything"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "postyard.toml"
    path.write_text('[kafka]\nbootstrap = "kafka:9092"\n')
    return path


def test_one_service_is_printed_under_the_name_that_it_has(config: Path) -> None:
    words = ["topics", "acl", "--config", str(config), "--for", "sender"]
    words += ["--principal", "sender=CN=sender, O=Acme"]
    done = CliRunner().invoke(postyard, words)
    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()
    assert lines[0].startswith("# sender")
    assert all("User:CN=sender, O=Acme" in shlex.split(line) for line in lines[1:])


def test_strimzis_users_are_one_document_a_service(config: Path) -> None:
    done = CliRunner().invoke(
        postyard, ["topics", "acl", "--config", str(config), "--as", "strimzi"]
    )
    documents = done.output.split("---\n")[1:]
    assert [d.split("name: ")[1].split("\n")[0] for d in documents] == [
        f"postyard-{service}" for service in SERVICES
    ]
    assert "operations: [Describe, Write]" in documents[0]


def test_a_service_that_does_not_exist_is_wrong_usage(config: Path) -> None:
    done = CliRunner().invoke(
        postyard, ["topics", "acl", "--config", str(config), "--principal", "sendr=x"]
    )
    assert done.exit_code == 2
    assert "expected SERVICE=NAME" in done.output


def test_rights_are_listed_in_an_order_that_does_not_change() -> None:
    for service, _ in itertools.product(SERVICES, range(3)):
        found: list[Right] = rights(access(service, TOPICS))
        assert found == rights(access(service, TOPICS))
