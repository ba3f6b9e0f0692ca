"""Answers that live until their time is over, and one question at a time for each key.

Nobody asks what somebody else is asking already: all wait for the same question, and whoever gives up waiting does not end it for the
others. The number of answers is bounded; the one that came first goes first, which for answers of some minutes is near enough to the
one that ends first.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from shared.runtime.clock import Clock

T = TypeVar("T")


@dataclass(slots=True)
class Cache(Generic[T]):
    """Keep what was learned."""

    clock: Clock
    bound: int
    #: key -> until when it holds, when it came, and what it is
    _answers: dict[str, tuple[int, int, T]] = field(default_factory=dict)
    _asking: dict[str, asyncio.Task[T]] = field(default_factory=dict)

    def __repr__(self) -> str:
        """Show how much is known."""
        return f"<Cache [{len(self._answers)} answers, {len(self._asking)} questions]>"

    def __len__(self) -> int:
        """Count the answers that are kept, old ones too."""
        return len(self._answers)

    async def get(
        self,
        key: str,
        ask: Callable[[], Awaitable[tuple[T, int]]],
        *,
        within_ns: int | None = None,
    ) -> T:
        """Give the answer for ``key``, where it says so not older than ``within_ns``; ``ask`` gives one with its life, ns."""
        kept = self._answers.get(key)
        if kept is not None:
            until_ns, since_ns, answer = kept
            now_ns = self.clock.mono_ns()
            if until_ns > now_ns and (within_ns is None or now_ns - since_ns <= within_ns):
                return answer
        task = self._asking.get(key)
        if task is None:
            task = self._asking[key] = asyncio.create_task(self._ask(key, ask))
            task.add_done_callback(lambda _: self._asking.pop(key, None))
        return await asyncio.shield(task)

    async def _ask(self, key: str, ask: Callable[[], Awaitable[tuple[T, int]]]) -> T:
        answer, life_ns = await ask()
        self._answers.pop(key, None)
        while len(self._answers) >= self.bound:
            del self._answers[next(iter(self._answers))]
        now_ns = self.clock.mono_ns()
        self._answers[key] = now_ns + life_ns, now_ns, answer
        return answer
