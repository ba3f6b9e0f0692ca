"""A broker that says "not yet" is asked again soon and in silence; one that goes on saying so lacks replicas."""

from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import NotEnoughReplicasError, NotLeaderForPartitionError

from shared.kafka import backoff

PAUSE_S = 0.1
HERE = TopicPartition("mail.events", 0)


class Batch:
    """What aiokafka keeps of one."""

    def __init__(self, tried: int) -> None:
        self.retry_count = tried
        self.offset: int | None = None

    def done(self, offset: int, *_: object) -> None:
        self.offset = offset


def answered(code: int, tried: int = 0) -> tuple[Any, Batch]:
    """Let a broker answer a request with one batch, which was ``tried`` before."""
    client = SimpleNamespace(force_metadata_update=lambda: None)
    sender = SimpleNamespace(_retry_backoff=PAUSE_S, client=client, _txn_manager=object())
    batch = Batch(tried)
    handler = backoff._Produce(sender, {HERE: batch})
    handler.handle_response(
        SimpleNamespace(API_VERSION=7, topics=[(HERE.topic, [(HERE.partition, code, 17, -1, 0)])])
    )
    return handler, batch


@pytest.mark.parametrize("tried", [0, 25])
def test_not_yet_is_asked_again_soon_and_in_silence(
    tried: int, caplog: pytest.LogCaptureFixture
) -> None:
    handler, batch = answered(NotEnoughReplicasError.errno, tried)
    assert (handler._to_reenqueue, batch.offset) == ([batch], None)
    assert handler._default_backoff < PAUSE_S / 10
    assert not caplog.records


def test_what_lasts_is_said_and_asked_less_often(caplog: pytest.LogCaptureFixture) -> None:
    handler, batch = answered(NotEnoughReplicasError.errno, 26)
    assert len(caplog.records) == 1
    assert (handler._to_reenqueue, handler._default_backoff) == ([batch], PAUSE_S)


def test_other_troubles_are_said_at_once(caplog: pytest.LogCaptureFixture) -> None:
    handler, batch = answered(NotLeaderForPartitionError.errno)
    assert len(caplog.records) == 1
    assert handler._to_reenqueue == [batch]


def test_what_was_taken_is_done(caplog: pytest.LogCaptureFixture) -> None:
    handler, batch = answered(0)
    assert (handler._to_reenqueue, batch.offset) == ([], 17)
