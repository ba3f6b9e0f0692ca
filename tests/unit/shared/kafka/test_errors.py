"""Every error of aiokafka has one meaning here, and none is guessed at."""

import pytest
from aiokafka import errors as theirs

from shared.kafka.errors import (
    Fenced,
    KafkaTrouble,
    KafkaUnavailable,
    OffsetOutOfRange,
    RecordTooLarge,
    RoundFailed,
    TopicProblem,
    translate,
)


@pytest.mark.parametrize(
    ("error", "ours"),
    [
        (theirs.ProducerFenced(), Fenced),
        (theirs.InvalidProducerEpoch(), Fenced),
        (theirs.MessageSizeTooLargeError(), RecordTooLarge),
        (theirs.RecordListTooLargeError(), RecordTooLarge),
        (theirs.OffsetOutOfRangeError(), OffsetOutOfRange),
        (theirs.UnknownTopicOrPartitionError(), TopicProblem),
        (theirs.KafkaTimeoutError(), KafkaUnavailable),
        (theirs.NotLeaderForPartitionError(), KafkaUnavailable),
        (theirs.NotEnoughReplicasError(), KafkaUnavailable),
        (theirs.CoordinatorLoadInProgressError(), KafkaUnavailable),
        (theirs.NoError(), KafkaUnavailable),
        (ConnectionRefusedError(), KafkaUnavailable),
        (TimeoutError(), KafkaUnavailable),
    ],
)
def test_a_known_error_becomes_ours(error: Exception, ours: type[KafkaTrouble]) -> None:
    assert type(translate(error)) is ours


@pytest.mark.parametrize("code", [80, 90, 110, 120])
def test_a_code_that_aiokafka_does_not_know_only_says_that_it_did_not_work(code: int) -> None:
    assert type(translate(theirs.for_code(code)())) is KafkaUnavailable


@pytest.mark.parametrize(
    "error", [theirs.InvalidTxnState(), theirs.CorruptRecordException(), KeyError("x")]
)
def test_what_is_not_in_the_table_stays_what_it_is(error: Exception) -> None:
    assert translate(error) is error


def test_a_wrapped_error_is_judged_by_what_it_wraps() -> None:
    wrapped = theirs.KafkaError("Unexpected error during batch delivery")
    wrapped.__cause__ = theirs.InvalidProducerEpoch()
    assert type(translate(wrapped)) is Fenced


def test_a_failed_round_says_why() -> None:
    failed = RoundFailed(RecordTooLarge("9 MB"), too_large=True)
    assert str(failed) == "RecordTooLarge: 9 MB"
    assert failed.too_large
