"""What a scheduler does not take from its inputs, and what it writes to mail.rejected instead: pure."""

from shared.kafka.reader import Received
from shared.records.codec import encode
from shared.records.delivery import Delivery
from shared.records.rejected import KEEP_BYTES, Rejected
from shared.records.state import DeliveryState
from shared.records.times import rfc3339


class Undigested(Exception):
    """A bug of ours, met while one record was looked at: the ledger may have taken half of it."""

    def __init__(self, record: Received) -> None:
        """Name the record."""
        super().__init__(f"{record.topic}/{record.partition} offset {record.offset}")
        self.mark = record.topic, record.offset


def unfit(class_: str, delivery: Delivery, known: DeliveryState | None) -> tuple[str, str] | None:
    """Say what is wrong with a delivery on the topic of ``class_``: the field, and why; ``known`` has the same id already."""
    if delivery.class_ != class_:
        return "class", f"is {delivery.class_!r:.40}, on the topic of {class_}"
    if known is not None and known.class_ != class_:
        # Its record would be sought on the other topic, at an offset of this one.
        return "id", f"is that of a delivery which waits on the topic of {known.class_}"
    return None


def rejected_value(
    record: Received, now_ns: int, reason: str, detail: str, field: str = ""
) -> bytes:
    """Name the record and the reason, and keep the beginning of what it was."""
    value = record.value or b""
    line = Rejected(
        time=rfc3339(now_ns),
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        reason=reason,
        detail=detail,
        field=field,
        size_bytes=len(value),
    )
    return encode(line, value[:KEEP_BYTES])
