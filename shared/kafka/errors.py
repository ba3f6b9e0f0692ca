"""What can go wrong with Kafka, in our words; aiokafka's errors stop here, in one table."""

from typing import Final

from aiokafka import errors as theirs


class KafkaTrouble(Exception):
    """Something about Kafka that a caller may have to decide about."""


class KafkaUnavailable(KafkaTrouble):
    """No broker, no leader, no coordinator, or no answer in time: later it may work."""


class Fenced(KafkaTrouble):
    """A newer owner of the same transactional id has started: stop."""


class RoundFailed(KafkaTrouble):
    """A round was not committed: nothing of it happened, and its transactor is of no more use."""

    def __init__(self, cause: BaseException, *, too_large: bool = False) -> None:
        """``too_large``: a record was refused for its size, so the same round would fail again."""
        super().__init__(f"{type(cause).__name__}: {cause}")
        self.cause, self.too_large = cause, too_large


class OffsetOutOfRange(KafkaTrouble):
    """A position is not in the log: retention, or somebody, deleted records that were not read."""


class ProducerBroken(KafkaTrouble):
    """A batch failed, and with it the sequence of the idempotent producer: make a new one and send again."""


class RecordTooLarge(KafkaTrouble):
    """The broker, or the client before it, refuses a record of this size."""


class TopicProblem(KafkaTrouble):
    """A topic is not there, or not as it was declared."""


_FENCED: Final = (
    theirs.ProducerFenced,
    theirs.InvalidProducerEpoch,
    theirs.InvalidProducerIdMapping,
)
TOO_LARGE: Final = (theirs.MessageSizeTooLargeError, theirs.RecordListTooLargeError)
_AWAY: Final = (
    theirs.KafkaConnectionError,
    theirs.KafkaTimeoutError,
    theirs.RequestTimedOutError,
    theirs.NodeNotReadyError,
    theirs.LeaderNotAvailableError,
    theirs.NotLeaderForPartitionError,
    theirs.CoordinatorNotAvailableError,
    theirs.CoordinatorLoadInProgressError,
    theirs.NotCoordinatorError,
    theirs.NoBrokersAvailable,
    ConnectionError,
    TimeoutError,
)


def translate(error: BaseException) -> BaseException:
    """Give our error for one of aiokafka's; what is not in the table is left as it is (a bug, or the caller's own)."""
    if isinstance(error, _FENCED):
        return Fenced(str(error))
    if isinstance(error, TOO_LARGE):
        return RecordTooLarge(str(error))
    if isinstance(error, theirs.OffsetOutOfRangeError | theirs.NoOffsetForPartitionError):
        return OffsetOutOfRange(str(error))
    if isinstance(error, theirs.UnknownTopicOrPartitionError):
        return TopicProblem(f"{error}: run `postyard topics apply`")
    # Error codes above 79 come as UnknownError: nothing can be told from them but that it did not work.
    if isinstance(error, (*_AWAY, theirs.UnknownError)):
        return KafkaUnavailable(f"{type(error).__name__}: {error}")
    return error
