"""What can go wrong with Kafka, in our words; aiokafka's errors stop here, in one table."""

import ssl
from collections.abc import Iterable, Mapping
from typing import Any, Final

from aiokafka import errors as theirs


class KafkaTrouble(Exception):
    """Something about Kafka that a caller may have to decide about."""


class KafkaUnavailable(KafkaTrouble):
    """No broker, no leader, no coordinator, or no answer in time: later it may work."""


class Fenced(KafkaTrouble):
    """A newer owner of the same transactional id has started: stop."""


class RoundFailed(KafkaTrouble):
    """A round is not known to be committed, and its transactor is of no more use.

    Nothing of it happened, but where the answer to the commit itself was lost: the next owner fences, which settles it, and then reads.
    """

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


class NotAllowed(KafkaTrouble):
    """Kafka does not know us, or does not let us do this: a credential or an ACL is missing."""


#: What an operator does about it.
ACL: Final = "see `postyard topics acl`"
# What aiokafka raises: IllegalOperation is none of its own KafkaErrors.
THEIRS: Final = (theirs.KafkaError, theirs.IllegalOperation)
# The first row that fits.
_TABLE: Final[tuple[tuple[tuple[type[BaseException], ...], type[KafkaTrouble]], ...]] = (
    (
        # The last: the broker has forgotten the id. Like the others it ends this owner, and the next one starts afresh.
        (theirs.ProducerFenced, theirs.InvalidProducerEpoch, theirs.InvalidProducerIdMapping),
        Fenced,
    ),
    ((theirs.MessageSizeTooLargeError, theirs.RecordListTooLargeError), RecordTooLarge),
    ((theirs.OffsetOutOfRangeError, theirs.NoOffsetForPartitionError), OffsetOutOfRange),
    (
        (
            theirs.TopicAuthorizationFailedError,
            theirs.GroupAuthorizationFailedError,
            theirs.ClusterAuthorizationFailedError,
            theirs.TransactionalIdAuthorizationFailed,
            theirs.SaslAuthenticationFailed,
            theirs.UnsupportedSaslMechanismError,
            theirs.IllegalSaslStateError,
            theirs.AuthenticationFailedError,
            # The certificate of a broker, or ours, is not believed.
            ssl.SSLError,
        ),
        NotAllowed,
    ),
    ((theirs.UnknownTopicOrPartitionError, theirs.InvalidTopicError), TopicProblem),
    (
        (
            theirs.KafkaConnectionError,
            theirs.KafkaTimeoutError,
            theirs.KafkaUnavailableError,
            # Error codes above 79 come as UnknownError: nothing can be told from them but that it did not work.
            theirs.UnknownError,
            # The admin client looks at the wrong field of the answer and raises "no error" for an error.
            theirs.NoError,
            ConnectionError,
            TimeoutError,
        ),
        KafkaUnavailable,
    ),
)


def refuse_unseen(topics: Iterable[Mapping[str, Any]]) -> None:
    """Raise NotAllowed where the broker describes no topic because we may not see it; it looks just like one that is not there."""
    denied = theirs.TopicAuthorizationFailedError.errno
    unseen = sorted(str(topic["topic"]) for topic in topics if topic.get("error_code") == denied)
    if unseen:
        raise NotAllowed(f"{', '.join(unseen)}: Describe is needed; {ACL}")


def translate(error: BaseException) -> BaseException:
    """Give our error for one of aiokafka's; what is not in the table is left as it is (a bug, or the caller's own)."""
    # Tasks inside aiokafka wrap what they did not expect.
    if type(error) is theirs.KafkaError and isinstance(error.__cause__, Exception):
        return translate(error.__cause__)
    for kinds, ours in _TABLE:
        if isinstance(error, kinds):
            return ours(
                f"{type(error).__name__}: {error}" if ours is KafkaUnavailable else str(error)
            )
    if isinstance(error, theirs.KafkaError) and error.retriable:
        return KafkaUnavailable(f"{type(error).__name__}: {error}")
    return error
