"""Logs: one JSON line per event on standard output; never a body, and no mail address unless the operator asks for them.

An event is a constant word with fields (docs/logs.md lists them). Tracebacks come without the frames' variables: bodies and passwords are
among those. What libraries log comes out in the same form, as the event ``library``: a message the first time, and while it is repeated
only how often. (While Kafka is away its client says the same some hundred times a second.)
"""

import logging
import sys
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

import orjson
import structlog
from structlog.tracebacks import ExceptionDictTransformer
from structlog.typing import FilteringBoundLogger, Processor

from shared.runtime.clock import Clock, SystemClock

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
#: So long a library's message is only counted after it was let through.
_QUIET_NS: Final = 10_000_000_000
#: Messages that are counted at a time: a library that writes a number into each makes many.
_KINDS: Final = 1_000


def configure(
    service: str,
    pod: str,
    level: str,
    *,
    recipients: bool = False,
    stream: BinaryIO | None = None,
    clock: Clock | None = None,
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
    forward = _Forward(logger, clock or SystemClock())
    # Libraries speak at warning and above: aiokafka's information is about every coordinator it finds.
    logging.basicConfig(level=logging.WARNING, handlers=[forward], force=True)
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


@dataclass(slots=True)
class _Repeated:
    """How often a library said the same again since it was let through."""

    since_ns: int
    level: int
    times: int = 0


class _Forward(logging.Handler):
    """Bring what libraries log into our form; ``Handler`` lets one thread in at a time."""

    def __init__(self, logger: FilteringBoundLogger, clock: Clock) -> None:
        super().__init__()
        self._logger, self._clock = logger, clock
        #: (logger, the message before its arguments are put in) -> what was held back, the oldest first.
        self._said: dict[tuple[str, str], _Repeated] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Log the library's message as a field, or count it."""
        now = self._clock.mono_ns()
        self._sum_up(now - _QUIET_NS, _KINDS)
        which = record.name, str(record.msg)
        if which in self._said:
            self._said[which].times += 1
            return
        self._said[which] = _Repeated(now, record.levelno)
        self._say(record.levelno)(
            "library",
            logger=record.name,
            message=record.getMessage(),
            exc_info=record.exc_info,
        )

    def close(self) -> None:
        """Say what was counted and not said yet: the process ends."""
        self._sum_up(self._clock.mono_ns(), 0)
        super().close()

    def _sum_up(self, until_ns: int, most: int) -> None:
        """Say how often the messages let through until then came again, and those of the oldest that are too many."""
        while self._said:
            which, repeated = next(iter(self._said.items()))
            if repeated.since_ns > until_ns and len(self._said) <= most:
                return
            del self._said[which]
            if repeated.times:
                name, message = which
                self._say(repeated.level)(
                    "library_repeated", logger=name, message=message, times=repeated.times
                )

    def _say(self, level: int) -> Callable[..., Any]:
        return self._logger.error if level >= logging.ERROR else self._logger.warning
