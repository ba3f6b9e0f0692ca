"""Kafka with TLS, logins and an authorizer: each service does its work with what `postyard topics acl` prints, and can do nothing else."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.kafka.cluster import Cluster
from shared.kafka.errors import KafkaTrouble, NotAllowed, ProducerBroken
from shared.records.access import SERVICES, access, group
from shared.records.codec import Unreadable
from shared.records.event import EVENT
from shared.records.topics import Topics
from tests.support.config import config, submission
from tests.support.nursery import Launch
from tests.support.receiver import start_receiver
from tests.support.secured import ADMIN, Fortress, fortress
from tests.support.stack import Stack

MESSAGES = 20
TOPICS = Topics()
EVERY = sorted(access("cli", TOPICS).declares)


@pytest.fixture(scope="module")
def fort(tmp_path_factory: pytest.TempPathFactory, launch: Launch) -> Iterator[Fortress]:
    """A secured broker with the printed rights, and the topics, made with the cli's credential. It is dear, so there are few tests."""
    directory = tmp_path_factory.mktemp("fort")
    ours = fortress(directory)
    receiver = start_receiver(directory, "receiver", launch=launch)
    with ours.broker:
        try:
            ours.write(
                config(
                    directory,
                    ours.broker.bootstrap,
                    "",
                    routes={"*.test": (receiver.target, "local")},
                )
            )
            printed = stack(ours, ADMIN).cli("topics", "acl").stdout.splitlines()
            ours.grant(line for line in printed if not line.startswith("#"))
            stack(ours, "cli").cli("topics", "apply")
            stack(ours, "cli").cli("config", "apply", str(ours.config("cli")))
            yield ours
        finally:
            receiver.stop()


def stack(fort: Fortress, service: str) -> Stack:
    """Give what runs programs under one service's configuration."""

    class As(Stack):
        @property
        def config_path(self) -> Path:
            return fort.config(service)

    return As(fort.directory, fort.broker.bootstrap, "", "")


@pytest.mark.timeout(240)
async def test_mail_goes_all_the_way_with_the_least_rights(fort: Fortress) -> None:
    running = [stack(fort, service) for service in ("ingest", "scheduler", "sender")]
    platform = fort.cluster("platform")
    delivered: set[str | None] = set()
    try:
        for one, service in zip(running, ("ingest", "scheduler", "sender"), strict=True):
            one.start(service, wait=False)
        for one in running:
            one.wait_ready(*one.services)
        producer = await platform.producer()
        for number in range(MESSAGES):
            # One that is stored apart, and so read by the sender in mail.bodies.
            text = "long line of text\r\n" * 20_000 if number == 0 else "hello"
            value = submission(f"u{number}@a.test", id_=str(number), text=text)
            await producer.send(TOPICS.submissions("bulk"), number % 2, value)
        await producer.stop()
        reader = await platform.reader({(TOPICS.events, 0): "start", (TOPICS.events, 1): "start"})
        async with asyncio.timeout(90):
            while len(delivered) < MESSAGES:
                for record in await reader.poll(wait_ms=200):
                    event = EVENT.decode(record.value)
                    assert not isinstance(event, Unreadable)
                    if event.final:
                        assert event.type == "delivered", event
                        delivered.add(event.submission)
        await reader.stop()
    finally:
        await platform.close()
        for one in running:
            one.stop()
    logs = [service.log.read_text() for one in running for service in one.services]
    assert not [log for log in logs if "not_allowed" in log or "uthorization" in log]


async def test_a_stolen_credential_is_worth_its_own_topics_and_no_other(fort: Fortress) -> None:
    for service in SERVICES:
        cluster = fort.cluster(service)
        try:
            may = {
                "read": {topic for topic in EVERY if await may_read(cluster, topic)},
                "write": {topic for topic in EVERY if await may_write(cluster, topic)},
                "trim": {topic for topic in EVERY if await may_trim(cluster, topic)},
            }
        finally:
            await cluster.close()
        own = access(service, TOPICS)
        assert may == {
            "read": set(own.reads),
            "write": set(own.writes),
            "trim": set(own.trims),
        }, service
    await a_stolen_senders_credential_fences_nobody(fort)
    await asyncio.to_thread(a_service_that_lacks_a_right_says_which_and_ends, fort)
    await asyncio.to_thread(a_wrong_password_is_no_outage, fort)
    await a_changed_password_is_taken_by_a_process_that_runs(fort)


async def a_stolen_senders_credential_fences_nobody(fort: Fortress) -> None:
    cluster = fort.cluster("sender")
    try:
        with pytest.raises(NotAllowed):
            await cluster.transactor(f"{group('scheduler')}-0")
        with pytest.raises(NotAllowed):
            await cluster.committed(group("scheduler"), [(TOPICS.dispatch, 0)])
    finally:
        await cluster.close()


def a_service_that_lacks_a_right_says_which_and_ends(fort: Fortress) -> None:
    thief = stack(fort, "sender")
    service = thief.start("scheduler", "thief", wait=False)
    assert service.process.wait(60) == 77
    said = service.log.read_text()
    assert "kafka_not_allowed" in said
    assert "mail.state" in said
    done = thief.cli("topics", "apply", check=False)
    assert done.returncode == 77
    assert "topics acl" in done.stderr


def a_wrong_password_is_no_outage(fort: Fortress) -> None:
    wrong = fort.directory / "cli.password"
    right = wrong.read_text()
    wrong.write_text("another")
    try:
        done = stack(fort, "cli").cli("topics", "check", check=False)
    finally:
        wrong.write_text(right)
    assert done.returncode == 77, done.stderr
    assert "uthentication" in done.stderr


async def a_changed_password_is_taken_by_a_process_that_runs(fort: Fortress) -> None:
    file, cluster = fort.directory / "ingest.password", fort.cluster("ingest")
    try:
        producer = await cluster.producer(linger_ms=0)
        await fort.change_password("ingest", "another one")
        # The Secret has not reached the pod: who is logged in goes on, and nobody else comes in.
        await producer.send(TOPICS.rejected, 0, b"x", key=b"x")
        with pytest.raises(KafkaTrouble):
            await cluster.producer(linger_ms=0)
        file.write_text("another one\n")
        other = await cluster.producer(linger_ms=0)
        await other.send(TOPICS.rejected, 0, b"x", key=b"x")
        for each in (producer, other):
            await each.stop()
    finally:
        await cluster.close()


async def may_read(cluster: Cluster, topic: str) -> bool:
    try:
        reader = await cluster.reader({(topic, 0): 0})
    except NotAllowed:
        return False
    try:
        # Where nothing is there the answer is empty, and no error.
        await reader.poll(wait_ms=1500)
    except NotAllowed:
        return False
    except KafkaTrouble:
        return True
    finally:
        await reader.stop()
    return True


async def may_write(cluster: Cluster, topic: str) -> bool:
    try:
        producer = await cluster.producer(linger_ms=0)
    except NotAllowed:
        # A producer's id is given to whoever may write anywhere.
        return False
    try:
        async with asyncio.timeout(5):
            await producer.send(topic, 0, b"x", key=b"x")
    except (NotAllowed, TimeoutError):
        return False
    except ProducerBroken as error:
        if "TopicAuthorizationFailed" not in str(error):
            raise
        return False
    finally:
        await producer.stop()
    return True


async def may_trim(cluster: Cluster, topic: str) -> bool:
    try:
        await cluster.delete_before({(topic, 0): 0})
    except NotAllowed:
        return False
    return True
