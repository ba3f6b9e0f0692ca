"""What a scheduler answers over HTTP: every delivery once, bounded, and without an address."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from services.scheduler.asking import Asking
from services.scheduler.policy.ledger import Ledger
from services.scheduler.policy.parking import Unit
from shared.records.answers import (
    CountAnswer,
    ExplainAnswer,
    LearntAnswer,
    OrdersAnswer,
    QueueAnswer,
)
from shared.records.selector import Selector
from tests.unit.services.scheduler.policy.test_ledger import World
from tests.unit.services.scheduler.policy.test_orders import closed, order


@dataclass
class Deciding:
    """What of a worker is asked."""

    ledger: Ledger


@pytest.fixture
def worlds() -> list[World]:
    worlds = [closed(), closed()]
    for at in range(12):
        worlds[at % 2].deliver(f"d{at}", tenant=("acme", "globex")[at % 3 == 0], tags=("sale",))
    for world in worlds:
        world.turn(1)
    return worlds


@pytest.fixture
async def client(worlds: list[World]) -> AsyncIterator[TestClient[web.Request, web.Application]]:
    workers = {number: Deciding(world.ledger) for number, world in enumerate(worlds)}
    asking = Asking(lambda: worlds[0].config, workers)  # type: ignore[arg-type]
    app = web.Application()
    app.add_routes(asking.routes())
    async with TestClient(TestServer(app)) as client:
        yield client


Client = TestClient[web.Request, web.Application]


async def posted(client: Client, path: str, selector: Selector) -> bytes:
    answer = await client.post(path, data=msgspec.json.encode(selector))
    assert answer.status == 200
    return await answer.read()


async def test_a_queue_counts_each_delivery_once_by_what_is_asked(client: Client) -> None:
    for by, rows in (
        ("provider", {("big",): 12}),
        ("tenant,reason", {("acme", "no_source"): 8, ("globex", "no_source"): 4}),
        ("lane,class", {("provider:big", "bulk"): 12}),
        ("domain,pool,stream", {("x.example", "main", ""): 12}),
    ):
        answer = await client.get("/queue", params={"by": by})
        found = msgspec.json.decode(await answer.read(), type=QueueAnswer)
        assert found.partitions == (0, 1)
        assert {row.names: sum(row.ages) for row in found.rows} == rows


@pytest.mark.parametrize("path", ["/queue?by=to", "/queue?by=", "/explain?most=5000"])
async def test_what_is_not_offered_is_refused(client: Client, path: str) -> None:
    answer = await (client.post if "explain" in path else client.get)(path)
    assert answer.status == 400
    assert "expected" in await answer.text()


async def test_a_selector_that_cannot_be_read_is_refused(client: Client) -> None:
    for body in (b"{", b'{"tenant": 1}', b"[]"):
        assert (await client.post("/count", data=body)).status == 400


async def test_a_count_is_what_an_order_then_hits(client: Client, worlds: list[World]) -> None:
    selector = Selector(tenant="globex", tag="sale")
    found = msgspec.json.decode(await posted(client, "/count", selector), type=CountAnswer)
    assert (found.waiting, found.open, found.parked) == (4, 0, 0)
    for world in worlds:
        order(world, "cancel", tenant="globex", tag="sale")
        world.turn(1)
    answer = await client.get("/orders")
    done = msgspec.json.decode(await answer.read(), type=OrdersAnswer)
    assert sum(each.hits for each in done.orders) == found.waiting
    assert all(each.done for each in done.orders)


async def test_an_explanation_is_bounded_and_names_no_recipient(client: Client) -> None:
    body = await posted(client, "/explain?most=3", Selector(tag="sale"))
    found = msgspec.json.decode(body, type=ExplainAnswer)
    assert len(found.deliveries) == 3
    assert found.reasons == {"no_source": 12}
    assert b"@" not in body
    one = msgspec.json.decode(
        await posted(client, "/explain", Selector(delivery="d3")), type=ExplainAnswer
    )
    assert [each.delivery for each in one.deliveries] == ["d3"]


async def test_what_destinations_have_taught_is_told_of_all_or_of_one(client: Client) -> None:
    for query in ({}, {"key": "big"}):
        answer = await client.get("/learnt", params=query)
        found = msgspec.json.decode(await answer.read(), type=LearntAnswer)
        assert (found.partitions, found.learnt) == ((0, 1), ())


async def test_what_is_parked_is_explained_where_it_is_known_to_be_meant(
    client: Client, worlds: list[World]
) -> None:
    parking = worlds[0].ledger.intake.parking
    for offset in range(7):
        parking.pass_over(Unit("bulk", "main", "big", "acme"), offset)
    parking.pass_over(Unit("bulk", "main", "mx.small.example", "acme"), 7)
    for selector, parked in (
        (Selector(tenant="acme", class_="bulk"), 8),
        (Selector(provider="big"), 7),
        (Selector(tenant="globex"), 0),
        (Selector(tenant="acme", tag="sale"), 0),
        (Selector(delivery="d3"), 0),
    ):
        body = await posted(client, "/explain", selector)
        found = msgspec.json.decode(body, type=ExplainAnswer)
        assert found.reasons.get("parked", 0) == parked
