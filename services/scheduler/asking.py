"""What the scheduler answers over HTTP beside /metrics: for `postyard`, which asks every scheduler and adds up.

    /queue  what waits    /explain  why    /count  how many    /orders  what was done    /learnt  what destinations have taught

Read only. A million deliveries are looked at in portions, between which the rounds go on: an answer is of the few seconds that it took. One
question at a time; the next waits. Answers are bounded: what has too many names is counted as others, and of deliveries only so many are
listed. There is no mail address in them.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec
from aiohttp import web

from services.scheduler.policy import learnt
from services.scheduler.policy.explain import Shape
from services.scheduler.policy.parking import Unit
from services.scheduler.policy.selector import fits
from services.scheduler.worker import Worker
from shared.records.answers import (
    BY,
    CountAnswer,
    Done,
    ExplainAnswer,
    Explanation,
    Learnt,
    LearntAnswer,
    OrdersAnswer,
    QueueAnswer,
    Row,
)
from shared.records.selector import Selector
from shared.records.state import DeliveryState
from shared.runtime.settings import Settings

#: Deliveries that are looked at before the rounds go on.
_PORTION: Final = 2_000
_MOST_ROWS: Final = 10_000
_MOST_LISTED: Final = 1_000
_BODY_BYTES: Final = 16 << 10
_ANYTIME: Final = 1 << 62
#: What is known of parked mail: of more than that nobody can say how much fits.
_OF_UNITS: Final = frozenset({"tenant", "class_", "provider"})
_SELECTOR: Final = msgspec.json.Decoder(Selector)
_encode: Final = msgspec.json.Encoder().encode


@dataclass(slots=True)
class Asking:
    """Answer for the workers of this process."""

    settings: Callable[[], Settings]
    workers: Mapping[int, Worker]
    _one: asyncio.Lock = field(default_factory=asyncio.Lock)

    def routes(self) -> list[web.RouteDef]:
        """Give what is served."""
        return [
            web.get("/queue", self._queue),
            web.post("/count", self._count),
            web.post("/explain", self._explain),
            web.get("/orders", self._orders),
            web.get("/learnt", self._learnt),
        ]

    async def _queue(self, request: web.Request) -> web.Response:
        by = tuple(request.query.get("by", "provider").split(","))
        if not set(by) <= set(BY):
            raise web.HTTPBadRequest(text=f"by: expected some of {', '.join(BY)}\n")
        shape, parked, partitions = Shape(_MOST_ROWS), 0, []
        async with self._one:
            for number, worker in list(self.workers.items()):
                partitions.append(number)
                ledger = worker.ledger
                async for entry in self._entries(worker):
                    names = tuple(_name(worker, entry, each) for each in by)
                    shape.add(names, ledger.now_ns - entry.accepted_ns)
                parked += sum(count for _, count in ledger.intake.parking.counts())
        rows = tuple(Row(names=names, ages=tuple(ages)) for names, ages in shape.rows.items())
        return _json(QueueAnswer(partitions=tuple(partitions), by=by, rows=rows, parked=parked))

    async def _count(self, request: web.Request) -> web.Response:
        selector = await _selector(request)
        test = fits(selector, self.settings(), _ANYTIME)
        waiting = out = parked = 0
        partitions = []
        async with self._one:
            for number, worker in list(self.workers.items()):
                partitions.append(number)
                async for entry in self._entries(worker, selector):
                    if test(entry):
                        waiting, out = (
                            waiting + (entry.open is None),
                            out + (entry.open is not None),
                        )
                parked += sum(
                    count
                    for unit, count in worker.ledger.intake.parking.counts()
                    if _may_fit(unit, selector)
                )
        return _json(
            CountAnswer(partitions=tuple(partitions), waiting=waiting, open=out, parked=parked)
        )

    async def _explain(self, request: web.Request) -> web.Response:
        selector, most = await _selector(request), _most(request)
        test = fits(selector, self.settings(), _ANYTIME)
        reasons: Counter[str] = Counter()
        listed: list[Explanation] = []
        partitions = []
        async with self._one:
            for number, worker in list(self.workers.items()):
                partitions.append(number)
                async for entry in self._entries(worker, selector):
                    if not test(entry):
                        continue
                    if len(listed) < most:
                        listed.append(_explained(number, worker, entry))
                        reasons[listed[-1].reason] += 1
                        await asyncio.sleep(0)
                    else:
                        reasons[worker.ledger.reason(entry)] += 1
                if selector.named <= _OF_UNITS:
                    reasons["parked"] += sum(
                        count
                        for unit, count in worker.ledger.intake.parking.counts()
                        if _may_fit(unit, selector)
                    )
        return _json(
            ExplainAnswer(
                partitions=tuple(partitions), deliveries=tuple(listed), reasons=dict(+reasons)
            )
        )

    async def _orders(self, _: web.Request) -> web.Response:
        done = [
            Done(partition=number, id=state.id, hits=state.hits, done=state.done)
            for number, worker in self.workers.items()
            for state in worker.ledger.orders.states()
        ]
        return _json(OrdersAnswer(partitions=tuple(self.workers), orders=tuple(done)))

    async def _learnt(self, request: web.Request) -> web.Response:
        key, found = request.query.get("key", ""), list[Learnt]()
        for number, worker in list(self.workers.items()):
            ledger = worker.ledger
            found += learnt.of(ledger.pairs, self.settings(), number, ledger.now_ns, key)
            await asyncio.sleep(0)
        return _json(LearntAnswer(partitions=tuple(self.workers), learnt=tuple(found[:_MOST_ROWS])))

    async def _entries(
        self, worker: Worker, selector: Selector | None = None
    ) -> AsyncIterator[DeliveryState]:
        """Give the deliveries of a partition that have no final event when their turn comes."""
        entries = worker.ledger.entries
        only = selector.delivery if selector is not None else None
        for at, id_ in enumerate(list(entries) if only is None else [only]):
            if at % _PORTION == _PORTION - 1:
                await asyncio.sleep(0)
            entry = entries.get(id_)
            if entry is not None:
                yield entry


def _name(worker: Worker, entry: DeliveryState, by: str) -> str:
    match by:
        case "provider":
            return entry.provider or "other"
        case "lane":
            return worker.ledger.lane(entry)
        case "reason":
            return worker.ledger.reason(entry)
        case "class":
            return entry.class_
        case _:
            return str(getattr(entry, by))


def _explained(partition: int, worker: Worker, entry: DeliveryState) -> Explanation:
    found = worker.ledger.explain(entry)
    bound = found.bound
    return Explanation(
        delivery=entry.id,
        tenant=entry.tenant,
        class_=entry.class_,
        domain=entry.domain,
        provider=entry.provider,
        pool=entry.pool,
        partition=partition,
        reason=bound.reason,
        scope=bound.scope,
        detail=bound.detail,
        since_ns=bound.since_ns,
        until_ns=bound.until_ns,
        eta_ns=found.eta_ns,
        before=found.before,
        expires_ns=entry.expires_ns,
    )


def _may_fit(unit: Unit, selector: Selector) -> bool:
    """Say whether some of what is parked as one may be what is asked for."""
    said = (
        (selector.tenant, unit.tenant),
        (selector.class_, unit.class_),
        (selector.provider, unit.destination),
    )
    return selector.delivery is None and all(want in (None, have) for want, have in said)


async def _selector(request: web.Request) -> Selector:
    body = await request.content.read(_BODY_BYTES)
    try:
        return _SELECTOR.decode(body or b"{}")
    except msgspec.DecodeError as error:
        raise web.HTTPBadRequest(text=f"{error}\n") from error


def _most(request: web.Request) -> int:
    most = request.query.get("most", "20")
    if not most.isdecimal() or int(most) > _MOST_LISTED:
        raise web.HTTPBadRequest(text=f"most: expected a number up to {_MOST_LISTED}\n")
    return int(most)


def _json(answer: msgspec.Struct) -> web.Response:
    return web.Response(body=_encode(answer) + b"\n", content_type="application/json")
