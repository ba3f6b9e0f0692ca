"""The local broker as a real process: starts, survives kill -9 with what it acknowledged, and never meets another's."""

import os
import signal
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import MessageSizeTooLargeError
from click.testing import CliRunner

from services.cli.cluster.broker import LocalKafka
from services.cli.cluster.commands import cluster
from services.cli.cluster.error import LocalKafkaError

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalKafka]:
    """One broker for the tests of this module, which may kill it if they start it again."""
    with LocalKafka(tmp_path_factory.mktemp("with space, ü") / "kafka") as broker:
        yield broker
    broker.remove()


async def create(bootstrap: str, topic: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(topic, 1, 1)])
    finally:
        await admin.close()


async def send(bootstrap: str, topic: str, value: bytes) -> None:
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap,
        acks="all",
        compression_type="lz4",
        max_request_size=200 * MIB,
    )
    await producer.start()
    try:
        await producer.send_and_wait(topic, value)
    finally:
        await producer.stop()


async def first(bootstrap: str, topic: str) -> bytes:
    consumer = AIOKafkaConsumer(
        topic, bootstrap_servers=bootstrap, group_id=None, auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        value: bytes = (await consumer.getone()).value
        return value
    finally:
        await consumer.stop()


async def test_a_killed_broker_comes_back_with_the_same_port_and_data(shared: LocalKafka) -> None:
    before = shared.bootstrap
    await create(before, "kept")
    await send(before, "kept", b"acknowledged")

    assert shared.kill()
    assert not shared.running
    assert not shared.answers
    shared.start()

    assert shared.bootstrap == before
    assert await first(shared.bootstrap, "kept") == b"acknowledged"


async def test_a_record_of_35_mib_passes_and_one_of_100_mib_is_told_that_it_is_too_large(
    shared: LocalKafka,
) -> None:
    await create(shared.bootstrap, "large")
    # Random bytes, since the limit is on what compression leaves.
    await send(shared.bootstrap, "large", os.urandom(35 * MIB))
    with pytest.raises(MessageSizeTooLargeError):
        await send(shared.bootstrap, "large", os.urandom(100 * MIB))
    assert len(await first(shared.bootstrap, "large")) == 35 * MIB


def test_starting_a_broker_that_runs_changes_nothing(shared: LocalKafka) -> None:
    other_hand = LocalKafka(shared.directory)
    pid = shared.pid
    other_hand.start()
    assert other_hand.pid == pid
    assert other_hand.bootstrap == shared.bootstrap


def test_a_broker_that_runs_refuses_another_port(shared: LocalKafka) -> None:
    with pytest.raises(LocalKafkaError, match=f"runs in .* on {shared.bootstrap}"):
        LocalKafka(shared.directory, port=1).start()


def test_two_starts_at_once_make_one_broker_that_anyone_can_stop(tmp_path: Path) -> None:
    hands = [LocalKafka(tmp_path / "kafka"), LocalKafka(tmp_path / "kafka")]
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(LocalKafka.start, hands))
    assert hands[0].pid == hands[1].pid is not None
    assert LocalKafka(tmp_path / "kafka").stop()
    assert not any(hand.running for hand in hands)
    assert [hand.stop() for hand in hands] == [False, False]


def test_a_taken_port_is_named_before_java_stumbles_over_it(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(LocalKafkaError, match=f"127.0.0.1:{port} is taken"):
            LocalKafka(tmp_path / "kafka", port=port).start()


def test_a_broker_that_ends_at_its_start_shows_the_end_of_its_log(tmp_path: Path) -> None:
    directory = tmp_path / "kafka"
    (directory / "data").mkdir(parents=True)  # a data folder that nobody formatted
    broker = LocalKafka(directory)
    with pytest.raises(LocalKafkaError, match=r"(?s)ended at its start.*meta\.properties"):
        broker.start()
    assert not broker.running


def test_an_old_process_id_in_the_folder_gets_nobody_killed(tmp_path: Path) -> None:
    (tmp_path / "kafka.pid").write_text(str(os.getpid()))
    broker = LocalKafka(tmp_path)
    assert not broker.running
    assert not broker.stop()
    assert not broker.kill()


def test_a_broker_that_does_not_leave_is_made_to(tmp_path: Path) -> None:
    broker = LocalKafka(tmp_path / "kafka")
    broker.start()
    pid = broker.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    assert broker.stop(seconds=0.2)
    assert not broker.running


def test_the_commands_start_show_and_stop_a_broker_that_outlives_them(tmp_path: Path) -> None:
    where = ["--dir", str(tmp_path / "kafka")]
    run = CliRunner().invoke
    assert run(cluster, ["status", *where]).exit_code == 1
    up = run(cluster, ["up", *where])
    assert up.exit_code == 0, up.output
    try:
        assert up.output.strip() == LocalKafka(tmp_path / "kafka").bootstrap
        status = run(cluster, ["status", *where])
        assert status.exit_code == 0
        assert "runs" in status.output
    finally:
        assert run(cluster, ["down", *where]).output == "stopped\n"
    assert run(cluster, ["down", *where]).output == "it was not running\n"
