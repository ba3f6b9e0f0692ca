"""Log what destinations made of sources; the reply's text may name somebody, so it is in the event alone."""

from collections.abc import Iterable
from typing import Final

from structlog.typing import FilteringBoundLogger

from shared.records.event import Event

_KINDS: Final = ("slowed", "suspended", "resumed")


def tell_reputation(log: FilteringBoundLogger, partition: int, events: Iterable[Event]) -> None:
    """Log the events of a committed round that are about a source or a sending domain."""
    for event in events:
        if event.type not in _KINDS:
            continue
        fields = {
            "partition": partition,
            "destination": event.provider or event.site,
            "source": event.source,
            "domain": event.domain,
            "category": event.category,
            "until": event.until,
        }
        if event.reply is not None:
            fields |= {"code": event.reply.code, "enhanced": event.reply.enhanced}
        match event.type:
            case "slowed":
                log.info("source_slowed", **fields)
            case "suspended":
                log.warning("source_refused", fix=event.fix, **fields)
            case _:
                log.info("source_resumed", **fields)
