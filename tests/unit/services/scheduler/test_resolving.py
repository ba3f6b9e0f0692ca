"""Look-ups beside the rounds: every question has an answer."""

import asyncio

import structlog
import structlog.testing

from services.scheduler.policy.decisions import Found, NoAnswer
from services.scheduler.resolving import Resolving
from shared.net.destinations import DOUBTED_NS, Answer, Destination, Host


class Names:
    within_ns: int | None = None

    async def resolve(self, domain: str, *, within_ns: int | None = None) -> Answer:
        self.within_ns = within_ns
        if domain == "clumsy.test":
            raise ZeroDivisionError("a bug of ours")
        return Destination((Host(0, "mx.a.test"),), "mx.a.test", None)


async def test_what_a_sender_contradicts_is_not_answered_out_of_an_old_cache() -> None:
    names = Names()
    resolving = Resolving(names, structlog.get_logger())
    box = resolving.subscribe()
    for doubted, within_ns in ((False, None), (True, DOUBTED_NS)):
        resolving.ask(box, "a.test", doubted=doubted)
        async with asyncio.timeout(10):
            while not resolving.answers(box):
                await asyncio.sleep(0)
        assert names.within_ns == within_ns
    await resolving.close()


async def test_a_bug_in_one_look_up_is_told_and_keeps_no_mail_waiting() -> None:
    resolving = Resolving(Names(), structlog.get_logger())
    box = resolving.subscribe()
    with structlog.testing.capture_logs() as logs:
        resolving.ask(box, "clumsy.test")
        resolving.ask(box, "a.test")
        async with asyncio.timeout(10):
            while len(box) < 2:
                await asyncio.sleep(0)
    answers = dict(resolving.answers(box))
    assert answers["a.test"] == Found("mx.a.test", None)
    assert isinstance(answers["clumsy.test"], NoAnswer)
    assert [(line["event"], line["domain"]) for line in logs] == [("resolve_failed", "clumsy.test")]
    await resolving.close()
