import aiohttp
import pytest
from aiohttp import web
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.parser import text_string_to_metric_families

from shared.runtime.health import CannotListen, Health
from shared.runtime.metrics import Metrics, family


async def fetch(port: int, path: str) -> tuple[int, str]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{port}{path}") as answer,
    ):
        return answer.status, await answer.text()


async def test_readiness_tells_its_reasons_and_liveness_does_not_care() -> None:
    reasons = ["no lane map", "no membership"]
    health = Health("127.0.0.1", 0, Metrics(), lambda: reasons)
    port = await health.start()
    try:
        assert await fetch(port, "/readyz") == (503, "no lane map\nno membership\n")
        assert await fetch(port, "/healthz") == (200, "ok\n")
        reasons.clear()
        assert await fetch(port, "/readyz") == (200, "ready\n")
    finally:
        await health.stop()


async def test_one_that_is_ready_says_what_it_does() -> None:
    health = Health("127.0.0.1", 0, Metrics(), list, what=lambda: ["slots 2: ip-1, ip-2"])
    port = await health.start()
    try:
        assert await fetch(port, "/readyz") == (200, "ready\nslots 2: ip-1, ip-2\n")
    finally:
        await health.stop()


async def test_a_scrape_asks_for_what_is_counted_by_looking() -> None:
    metrics, waiting = Metrics(), [3]
    metrics.counter("sent", "Mail sent", ["source"]).labels("ip-1").inc(2)
    metrics.histogram("took_seconds", "How long").observe(0.02)

    def look() -> list[GaugeMetricFamily]:
        found = family("waiting", "Mail that waits", ["class"])
        found.add_metric(["bulk"], waiting[0])
        return [found]

    metrics.collect(look)
    health = Health("127.0.0.1", 0, metrics, list)
    port = await health.start()
    try:
        waiting[0] = 5
        _, page = await fetch(port, "/metrics")
    finally:
        await health.stop()
    samples = {
        (sample.name, *sample.labels.values()): sample.value
        for found in text_string_to_metric_families(page)
        for sample in found.samples
    }
    assert samples["postyard_sent_total", "ip-1"] == 2
    assert samples["postyard_waiting", "bulk"] == 5
    assert samples["postyard_took_seconds_count",] == 1
    assert samples["process_cpu_seconds_total",] > 0


def test_two_services_in_one_process_share_no_registry() -> None:
    one, other = Metrics(), Metrics()
    one.gauge("slots", "Slots").set(1)
    other.gauge("slots", "Slots").set(2)
    assert b"postyard_slots 1.0" in one.page()
    assert b"postyard_slots 2.0" in other.page()


async def test_a_service_may_have_routes_of_its_own() -> None:
    async def hello(_: web.Request) -> web.Response:
        return web.Response(text="hello")

    health = Health("127.0.0.1", 0, Metrics(), list, [web.get("/hello", hello)])
    port = await health.start()
    try:
        assert await fetch(port, "/hello") == (200, "hello")
    finally:
        await health.stop()


async def test_a_port_that_is_taken_is_said_with_its_setting() -> None:
    first = Health("127.0.0.1", 0, Metrics(), list)
    port = await first.start()
    try:
        with pytest.raises(CannotListen, match=f"http.port {port}"):
            await Health("127.0.0.1", port, Metrics(), list).start()
    finally:
        await first.stop()
