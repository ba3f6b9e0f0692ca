"""One partition's records, given to its ledger one by one: deliveries, outcomes, and what a scan comes by again.

What cannot be read or taken comes back as a record for mail.rejected, to be written in the round that passes it, and so does, from the
next worker, what a bug of ours cannot digest. Nothing is awaited here.
"""

from collections.abc import Callable
from typing import Final

from structlog.typing import FilteringBoundLogger

from services.scheduler.bodies import Place
from services.scheduler.inputs import Inputs
from services.scheduler.policy.ledger import Ledger
from services.scheduler.refusing import Undigested, rejected_value, unfit
from shared.kafka.kept import Kept
from shared.kafka.reader import Received
from shared.kafka.suspicion import Suspicion
from shared.records.codec import Newer, NewerRecord, Unreadable
from shared.records.delivery import DELIVERY, Delivery, Handover, Late
from shared.records.outcome import OUTCOME
from shared.records.topics import Topics

_MS: Final = 1_000_000
_BUG: Final = "a bug: this record could not be digested"


class Feeding:
    """Feed one ledger."""

    def __init__(
        self,
        ledger: Ledger,
        topics: Topics,
        inputs: Inputs,
        kept: Kept[Place],
        suspicion: Suspicion,
        log: FilteringBoundLogger,
    ) -> None:
        """``kept`` takes the values of new mail, for its first grant; ``suspicion`` knows the records that no ledger can digest."""
        self._ledger, self._topics, self._inputs = ledger, topics, inputs
        self._kept, self._suspicion, self._log = kept, suspicion, log

    def take(self, record: Received) -> bytes | None:
        """Feed a record of the input; gives one for mail.rejected where it is not taken. Raises Undigested, NewerRecord."""
        return self._digest(record, self._feed)

    def take_again(self, record: Received) -> bytes | None:
        """Feed a record that a scan came by; as ``take``."""
        return self._digest(record, self._feed_again)

    def _digest(self, record: Received, feed: Callable[[Received], bytes | None]) -> bytes | None:
        """Feed one record; one that a bug of ours cannot digest is rejected by the next worker, and stops nobody behind it."""
        try:
            return feed(record)
        except NewerRecord:
            raise
        except Exception as error:
            raise Undigested(record) from error

    def _feed(self, record: Received) -> bytes | None:
        """Give one record to the ledger; what cannot be read comes back as a record for mail.rejected."""
        value, class_ = record.value or b"", self._inputs.passed(record)
        if class_ is not None:
            return self._feed_delivery(record, value, class_)
        self._ledger.on_log_time(record.timestamp * _MS)
        return self._feed_outcome(record, value)

    def _feed_again(self, record: Received) -> bytes | None:
        """Give the ledger what it takes of a record that a scan came by; all others were read as input."""
        value, class_ = record.value or b"", self._topics.class_of(record.topic)
        if self._inputs.before(record):
            match DELIVERY.decode(value):
                case Delivery() as found if self._ledger.intake.takes_back(
                    class_, record.offset, found
                ):
                    return self._take(record, value, class_, found)
                case _:
                    pass
        return None

    def _feed_delivery(self, record: Received, value: bytes, class_: str) -> bytes | None:
        match DELIVERY.decode(value):
            case Delivery() as delivery:
                if self._ledger.intake.passes_over(class_, record.offset, delivery):
                    return None
                return self._take(record, value, class_, delivery)
            case _ if self._condemned(record):
                return self._reject(record, "internal", _BUG)
            case Late() as late:
                self._ledger.on_forwarded(late)
            case Handover() as handover:
                self._ledger.on_handed_over(handover)
            case Unreadable() as unread:
                return self._unread(record, unread)
        return None

    def _take(
        self, record: Received, value: bytes, class_: str, delivery: Delivery
    ) -> bytes | None:
        """Give a delivery to the ledger, or say why not: on mail.events too, for it was accepted."""
        wrong = unfit(class_, delivery, self._ledger.entries.get(delivery.id))
        if self._condemned(record) or wrong is not None:
            reason = "internal" if wrong is None else "invalid"
            field, detail = wrong or ("", _BUG)
            self._ledger.on_refused(class_, record.offset, delivery, reason, detail)
            return self._reject(record, reason, detail, field)
        self._kept.put((record.topic, record.offset), value)
        self._ledger.on_delivery(class_, record.offset, delivery)
        return None

    def _condemned(self, record: Received) -> bool:
        return (record.topic, record.offset) in self._suspicion.bad

    def _feed_outcome(self, record: Received, value: bytes) -> bytes | None:
        if self._condemned(record):
            return self._reject(record, "internal", _BUG)
        match OUTCOME.decode(value):
            case Unreadable() as unread:
                return self._unread(record, unread)
            case outcome:
                self._ledger.on_outcome(record.timestamp * _MS, outcome)
        return None

    def _unread(self, record: Received, unread: Unreadable) -> bytes:
        if isinstance(unread, Newer):
            raise NewerRecord(
                f"{record.topic}/{record.partition} at {record.offset}: {unread.reason}"
            )
        return self._reject(record, "unreadable", unread.reason)

    def _reject(self, record: Received, reason: str, detail: str, field: str = "") -> bytes:
        self._log.warning(
            "record_rejected",
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            reason=reason,
            field=field,
        )
        return rejected_value(record, self._ledger.now_ns, reason, detail, field)
