"""What is over is buried in mail.control, and nothing that may stand."""

import asyncio
from typing import Any, cast

from services.scheduler.telling import Telling
from shared.kafka.lasting import Lasting
from shared.protocol.control import ControlView
from shared.records.control import Answering, Directive, answering_key, directive_key
from shared.runtime.clock import SystemClock

S = 1_000_000_000
NOW = 1_700_000_000 * S


class Stopped(SystemClock):
    def now_ns(self) -> int:
        return NOW


class Log:
    """A cluster whose producer keeps what it is given."""

    broken = False

    def __init__(self) -> None:
        self.values: list[bytes | None] = []

    async def producer(self, *, linger_ms: int) -> "Log":
        return self

    async def send(self, topic: str, partition: int, value: bytes | None, key: bytes) -> None:
        self.values.append(value)


def telling(view: ControlView, *partitions: int) -> Telling:
    nothing = cast("Any", None)
    workers = cast("Any", dict.fromkeys(partitions))
    return Telling(nothing, "c", Stopped(), nothing, view, workers, "p", "mine", "http://x:1")


def said(view: ControlView, stamp: int, record: Any) -> None:
    view.feed(view.position, stamp, record)


def directive(id_: str, expires: int | None) -> Directive:
    return Directive(id=id_, action="pause", reason="r", author="a", expires_ns=expires)


def test_a_directive_is_buried_an_hour_after_its_end_and_one_without_an_end_never() -> None:
    view = ControlView()
    for id_, expires in (
        ("old", NOW - 3601 * S),
        ("just", NOW - 3599 * S),
        ("stands", NOW + S),
        ("ever", None),
    ):
        said(view, 0, directive(id_, expires))
    assert list(telling(view, 0)._over()) == [directive_key("old")]


def test_a_scheduler_that_has_long_been_silent_is_buried_and_oneself_never() -> None:
    view = ControlView()
    for pod in ("dead", "mine"):
        said(view, 0, Answering(process="p", pod=pod, url="http://x:1"))
    said(view, 601 * S, Answering(process="p", pod="alive", url="http://x:1"))
    assert list(telling(view, 0)._over()) == [answering_key("dead")]
    assert [each.pod for each in view.answering(30 * S)] == ["alive"]


def test_what_is_buried_is_gone_from_the_view() -> None:
    view = ControlView()
    said(view, 0, directive("old", NOW - 3601 * S))
    before = view.directive_changes
    view.bury(1, directive_key("old"))
    assert view.directives == {}
    assert view.directive_changes > before


def test_only_who_has_the_first_partition_buries_and_all_say_where_they_are() -> None:
    view = ControlView()
    said(view, 0, directive("old", NOW - 3601 * S))
    for partitions, buried in (((1, 2), 0), ((0, 1), 1)):
        log = Log()
        one = telling(view, *partitions)
        one.producer = Lasting(cast("Any", log))
        asyncio.run(one._speak())
        assert log.values.count(None) == buried
        assert len(log.values) - buried == 1
