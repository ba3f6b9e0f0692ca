"""Logs: one JSON line per event on standard output, never a body, no recipients unless the operator asks for them."""

import logging
import sys
from collections.abc import MutableMapping
from typing import Any, Final

import orjson
import structlog
from structlog.typing import FilteringBoundLogger

_LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}


def configure(service: str, pod: str, level: str) -> FilteringBoundLogger:
    """Set logging up for this process and give its logger; libraries' own messages come out in the same form."""
    timestamper = structlog.processors.TimeStamper(fmt="iso", utc=True)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            timestamper,
            structlog.processors.dict_tracebacks,
            structlog.processors.JSONRenderer(serializer=_dumps),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=structlog.BytesLoggerFactory(sys.stdout.buffer),
        cache_logger_on_first_use=True,
    )
    logger: FilteringBoundLogger = structlog.get_logger().bind(service=service, pod=pod)
    handler = _Forward(logger)
    # Libraries speak at warning and above: aiokafka's information is about every coordinator it finds.
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    return logger


def _dumps(event: MutableMapping[str, Any], **_: Any) -> bytes:
    return orjson.dumps(event, default=repr)


class _Forward(logging.Handler):
    """Bring what libraries log into our form."""

    def __init__(self, logger: FilteringBoundLogger) -> None:
        super().__init__()
        self._logger = logger

    def emit(self, record: logging.LogRecord) -> None:
        """Log the library's message as a field."""
        say = self._logger.error if record.levelno >= logging.ERROR else self._logger.warning
        say("library", logger=record.name, message=record.getMessage())
