"""Logs: one JSON line per event on standard output; never a body, and no mail address unless the operator asks for them.

An event is a constant word with fields (docs/logs.md lists them). Tracebacks come without the frames' variables: bodies and passwords are
among those. What libraries log comes out in the same form, as the event ``library``.
"""

import logging
import sys
from collections.abc import MutableMapping
from typing import Any, BinaryIO, Final

import orjson
import structlog
from structlog.tracebacks import ExceptionDictTransformer
from structlog.typing import FilteringBoundLogger, Processor

_LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
#: Fields that hold somebody's address.
_ADDRESSES: Final = ("recipient", "return_path")
#: A value that JSON does not know is shown by its repr, and no more of it than this.
_REPR_LENGTH: Final = 200


def configure(
    service: str,
    pod: str,
    level: str,
    *,
    recipients: bool = False,
    stream: BinaryIO | None = None,
) -> FilteringBoundLogger:
    """Give the logger of this process, and bring what libraries log to it."""
    processors: list[Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.ExceptionRenderer(ExceptionDictTransformer(show_locals=False)),
        structlog.processors.JSONRenderer(serializer=_dumps),
    ]
    if not recipients:
        processors.insert(0, _without_addresses)
    logger: FilteringBoundLogger = structlog.wrap_logger(
        structlog.BytesLogger(stream or sys.stdout.buffer),
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        context_class=dict,
    ).bind(service=service, pod=pod)
    # Libraries speak at warning and above: aiokafka's information is about every coordinator it finds.
    logging.basicConfig(level=logging.WARNING, handlers=[_Forward(logger)], force=True)
    return logger


def _dumps(event: MutableMapping[str, Any], **_: Any) -> bytes:
    return orjson.dumps(event, default=_shown, option=orjson.OPT_NON_STR_KEYS)


def _shown(value: object) -> str:
    return repr(value)[:_REPR_LENGTH]


def _without_addresses(
    _: Any, __: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    for name in _ADDRESSES:
        event.pop(name, None)
    return event


class _Forward(logging.Handler):
    """Bring what libraries log into our form."""

    def __init__(self, logger: FilteringBoundLogger) -> None:
        super().__init__()
        self._logger = logger

    def emit(self, record: logging.LogRecord) -> None:
        """Log the library's message as a field."""
        say = self._logger.error if record.levelno >= logging.ERROR else self._logger.warning
        say(
            "library",
            logger=record.name,
            message=record.getMessage(),
            exc_info=record.exc_info,
        )
