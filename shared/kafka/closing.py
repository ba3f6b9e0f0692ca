"""Closes aiokafka's clients for good: politely for a while, then by force.

``stop()`` of a producer waits for every batch, with Kafka away for ever; ``stop()`` of a consumer breaks off half-way when one of its own
tasks is cancelled before its first step. Left half open, such a client goes on by itself: it would connect again and send what its owner
has long sent anew. Here it ends whatever happens, also where who waits for that is cancelled; each call takes at most ``POLITE_S`` and two
seconds more.
"""

import asyncio
import itertools
from collections.abc import Awaitable, Coroutine, Iterable
from typing import Any, Final, TypeVar

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

T = TypeVar("T")
POLITE_S: Final = 5.0
_FORCE_S: Final = 1.0


async def close_producer(producer: AIOKafkaProducer, *, polite_s: float = POLITE_S) -> bool:
    """Send what is left and close; False: not all of it could be sent."""
    return await _to_its_end(_close_producer(producer, polite_s))


async def _close_producer(producer: AIOKafkaProducer, polite_s: float) -> bool:
    if polite_s > 0 and await _finished(producer.stop(), polite_s):
        hush(producer)
        return True
    # Now stop() of whoever holds it has nothing left to wait for, and nobody is warned of an open client.
    producer._closed = True  # noqa: SLF001
    sender = producer._sender.sender_task  # noqa: SLF001
    frame = sender.get_coro().cr_frame if sender is not None else None
    # The sender keeps its tasks in a local variable; cancelled, it would wait for them, and one that looks for a coordinator never ends.
    await _force(
        producer.client.close(), [sender, *(frame.f_locals.get("tasks", ()) if frame else ())]
    )
    hush(producer)
    return False


def hush(producer: AIOKafkaProducer) -> None:
    """Take note of what aiokafka's own futures say, now or later, for which nobody waits any more; else each is logged as never retrieved.

    A batch's future is among them: what ``send_batch`` gives is a shield around it, and whoever is cancelled at that cuts the two apart.
    """
    accumulator = producer._message_accumulator  # noqa: SLF001
    batches = [*itertools.chain(*accumulator._batches.values()), *accumulator._pending_batches]  # noqa: SLF001
    waiters = [waiter for batch in batches for waiter in (batch._drain_waiter, batch.future)]  # noqa: SLF001
    manager = producer._txn_manager  # noqa: SLF001
    waiters += [offsets for _, _, offsets in manager._pending_txn_offsets]  # noqa: SLF001
    waiters.append(manager.wait_for_transaction_end())
    for waiter in waiters:
        if waiter is not None:
            waiter.add_done_callback(heard)


def heard(future: "asyncio.Future[Any]") -> None:
    """Look at what a future that is done ended with."""
    if not future.cancelled():
        future.exception()


async def close_consumer(consumer: AIOKafkaConsumer, *, polite_s: float = POLITE_S) -> None:
    """Leave the group, where there is one, and close."""
    await _to_its_end(_close_consumer(consumer, polite_s))


async def _close_consumer(consumer: AIOKafkaConsumer, polite_s: float) -> None:
    if polite_s > 0 and await _finished(consumer.stop(), polite_s):
        return
    consumer._closed = True  # noqa: SLF001
    names = (
        "_coordination_task",
        "_heartbeat_task",
        "_commit_refresh_task",
        "_reset_committed_task",
    )
    tasks = [getattr(consumer._coordinator, name, None) for name in names]  # noqa: SLF001
    if consumer._fetcher is not None:  # noqa: SLF001
        tasks += [consumer._fetcher._fetch_task, *consumer._fetcher._pending_tasks]  # noqa: SLF001
    await _force(consumer._client.close(), tasks)  # noqa: SLF001


async def _to_its_end(closing: Coroutine[Any, Any, T]) -> T:
    """Go on although who waits is cancelled; that is heard of when it is over."""
    task = asyncio.create_task(closing)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise


async def _finished(closing: Coroutine[Any, Any, object], seconds: float) -> bool:
    # A task of its own: a CancelledError of a task inside aiokafka is not a cancellation of ours.
    task = asyncio.create_task(closing)
    try:
        await asyncio.wait({task}, timeout=seconds)
    finally:
        task.cancel()
    await asyncio.wait({task}, timeout=_FORCE_S)
    return task.done() and not task.cancelled() and task.exception() is None


async def _force(
    closing: Awaitable[object], tasks: Iterable["asyncio.Task[object] | None"]
) -> None:
    running = {task for task in tasks if task is not None and not task.done()}
    for task in running:
        task.cancel()
    done, _ = await asyncio.wait({asyncio.ensure_future(closing), *running}, timeout=_FORCE_S)
    for task in done:
        # Whatever they ended with, nobody wants to know it any more.
        heard(task)
