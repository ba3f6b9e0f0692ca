"""One provider in a run: what it has seen of each source and domain, and what it answers. It knows nothing of our policy.

A **warning** is the first refusal of a quota; where its row has a waiting time, whatever comes before that is over is refused too. Of
those refusals the ones that were granted before the scheduler had read the warning are **under way**: nobody could call them back. Those
that were granted afterwards are **violations**: somebody knew, and did not wait.
"""

import random
from collections import deque
from dataclasses import dataclass, field
from typing import Final

from services.scheduler.simulation import answers
from services.scheduler.simulation.agenda import FOREVER
from services.scheduler.simulation.answers import Answer
from services.scheduler.simulation.models import Model, Quota

#: What nobody answers ends so much later (sender.connect_timeout).
_TIMEOUT_NS: Final = 30_000_000_000
_DAY_NS: Final = 86_400_000_000_000
#: A quota that worsens is lowered by a quarter, once in this time.
_WORSENS_NS: Final = 600_000_000_000
_WORSE_PERMILLE: Final = 750
#: Refusals without a waiting time are one warning while they come closer together than this.
_ANEW_NS: Final = 60_000_000_000


def left_permille(quota: Quota, since_ns: int) -> int:
    """Say how much a source has of a quota, of a thousand, so long after the one time that it passed it."""
    return min(1000, max(quota.floor_permille, _WORSE_PERMILLE) + 1000 * since_ns // _DAY_NS)


@dataclass(slots=True)
class Window:
    """What one source, or one domain, has used of a quota."""

    quota: Quota
    times: deque[int] = field(default_factory=deque)
    stop_ns: int = 0
    refused_ns: int = 0
    #: The first warning; 0: there was none.
    warned_ns: int = 0
    #: When the scheduler read of the present stop; FOREVER: not yet.
    heard_ns: int = FOREVER
    #: What is left of the quota, of a thousand, and since when.
    level: int = 1000
    level_ns: int = 0

    def most(self, now_ns: int) -> int:
        """Say how much it has at ``now_ns``."""
        level = min(1000, self.level + 1000 * (now_ns - self.level_ns) // _DAY_NS)
        return self.quota.count * level // 1000

    def worsen(self, now_ns: int) -> None:
        """Think less of it."""
        if self.level_ns and now_ns - self.level_ns < _WORSENS_NS:
            return
        level = min(1000, self.level + 1000 * (now_ns - self.level_ns) // _DAY_NS)
        self.level, self.level_ns = (
            max(self.quota.floor_permille, level * _WORSE_PERMILLE // 1000),
            now_ns,
        )


@dataclass(slots=True)
class Told:
    """What a provider counted."""

    attempts: int = 0
    accepted: int = 0
    #: Refusals by quotas, and how often they began anew.
    limited: int = 0
    warnings: int = 0
    under_way: int = 0
    violations: int = 0
    #: Connections that were too many, or that nobody answered.
    refused: int = 0
    unanswered: int = 0


class Receiver:
    """Answer as ``model`` says."""

    def __init__(self, name: str, model: Model, start_ns: int, rng: random.Random) -> None:
        """``start_ns`` is when the simulation begins."""
        self.name, self.model, self.told = name, model, Told()
        self._start_ns, self._rng = start_ns, rng
        self._open: dict[int, int] = {}
        self._windows: dict[tuple[int, int | str], Window] = {}
        self._quotas = tuple(enumerate(model.quotas))
        self._down = model.down
        self._unknown = model.unknown_permille / 1000
        self._full = self._unknown + model.full_permille / 1000
        self._seen: dict[tuple[int, str, str], int] = {}

    def first_warnings(self, slot: int) -> dict[int, int]:
        """Give, for each quota of a source that warned it, by its number, when that was."""
        return {
            number: window.warned_ns
            for (number, who), window in self._windows.items()
            if who == slot and window.warned_ns
        }

    # -- connections

    def _silent(self, now_ns: int) -> bool:
        at = now_ns - self._start_ns
        return any(since <= at < until for since, until in self._down)

    def connect_takes_ns(self, now_ns: int) -> int:
        """Give the time until a connection that begins now is ready, or has failed."""
        if self._down and self._silent(now_ns):
            return _TIMEOUT_NS
        return int(self.model.connect_ns * (0.5 + self._rng.random()))

    def connect(self, slot: int, now_ns: int) -> Answer | None:
        """Greet a connection from ``slot``; an answer where it is refused."""
        if self._down and self._silent(now_ns):
            self.told.unanswered += 1
            return answers.SILENCE
        count = self._open.get(slot, 0)
        if count >= self.model.connections:
            self.told.refused += 1
            return self.model.crowded
        self._open[slot] = count + 1
        return None

    def disconnect(self, slot: int) -> None:
        """Forget a connection that was greeted."""
        self._open[slot] -= 1

    # -- messages

    def answer_takes_ns(self) -> int:
        """Give the time of one message."""
        return int(self.model.answer_ns * (0.5 + self._rng.random()))

    def answer(
        self, slot: int, sender: str, to: str, decided_ns: int, now_ns: int
    ) -> tuple[Answer, Window | None]:
        """Answer one attempt, which was granted at ``decided_ns``; the window is the one that refused it."""
        self.told.attempts += 1
        if self._down and self._silent(now_ns):
            return answers.GONE, None
        for number, quota in self._quotas:
            refused = self._use(
                number, quota, slot if quota.scope == "source" else sender, decided_ns, now_ns
            )
            if refused is not None:
                return quota.refusal, refused
        if self.model.greylist_ns:
            first = self._seen.setdefault((slot, sender, to), now_ns)
            if now_ns - first < self.model.greylist_ns:
                return answers.GREYLISTED, None
        draw = self._rng.random()
        if draw < self._unknown:
            return answers.NO_SUCH_USER, None
        if draw < self._full:
            return answers.MAILBOX_FULL, None
        self.told.accepted += 1
        return answers.ACCEPTED, None

    def _use(
        self, number: int, quota: Quota, who: int | str, decided_ns: int, now_ns: int
    ) -> Window | None:
        """Count an attempt; the window where that refuses it."""
        window = self._windows.get((number, who))
        if window is None:
            window = self._windows[number, who] = Window(quota)
        if now_ns < window.stop_ns:
            self.told.limited += 1
            if decided_ns > window.heard_ns:
                self.told.violations += 1
            else:
                self.told.under_way += 1
            return window
        times, since = window.times, now_ns - quota.period_ns
        while times and times[0] <= since:
            times.popleft()
        if len(times) < window.most(now_ns):
            times.append(now_ns)
            return None
        self.told.limited += 1
        if quota.stop_ns or now_ns - window.refused_ns >= _ANEW_NS:
            self.told.warnings += 1
        window.refused_ns, window.warned_ns = now_ns, window.warned_ns or now_ns
        window.stop_ns, window.heard_ns = now_ns + quota.stop_ns, FOREVER
        if quota.floor_permille < 1000:  # noqa: PLR2004 - a thousand of a thousand
            window.worsen(now_ns)
        return window
