"""How the receiver behaves: towards everybody by its options, towards one recipient by its local part. Pure but for its memory.

Recipients choose their fate by how their local part begins, so that whoever produces mail knows what must become of it:

    unknown.   550 5.1.1 at RCPT                 full.     452 4.2.2 at RCPT, always
    deferN.    451 4.3.0 at RCPT, N times        refuse.   554 5.7.1 after the dot
    drop.      takes the message and closes without an answer, the first time; logged as "dropped"
    slow.      answers the dot after 3 s
"""

import re
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

_DEFER: Final = re.compile(r"defer(\d+)\.")
_SLOW_S: Final = 3.0
_S: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Manners:
    """What the options say."""

    name: str = "mx.example.test"
    #: Seconds before a second try of the same (address, sender, recipient) is let in; 0: no greylisting.
    greylist_s: float = 0.0
    #: Messages in any second, over all connections; above it 421 instead of an answer to MAIL; 0: no limit.
    rate: int = 0
    #: Seconds before each reply, and before the reply to the final dot.
    delay_s: float = 0.0
    dot_delay_s: float = 0.0
    #: Seconds before the reply to one command: EHLO, MAIL, RCPT, DATA …
    delays_s: Mapping[str, float] = field(default_factory=dict)
    #: Said instead of 220, and that is all.
    banner: str = ""
    #: Accept connections and say nothing, ever.
    mute: bool = False
    pipelining: bool = True
    #: Every reply has two lines.
    wordy: bool = False
    #: (first, how many, reply): of all recipients that are tried, counted from 1, those are refused with it.
    script: tuple[tuple[int, int, str], ...] = ()
    #: Who may send, with which password; empty: everybody, and every password is right.
    users: Mapping[str, str] = field(default_factory=dict)

    def before(self, verb: str) -> float:
        """Say how many seconds the reply to ``verb`` takes."""
        return self.delays_s.get(verb, self.delay_s)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What follows the final dot."""

    reply: str
    delay_s: float
    #: The message is taken, and nobody is told.
    dropped: bool = False

    @property
    def taken(self) -> bool:
        """Say whether the receiver has the message now."""
        return self.reply.startswith("2")


@dataclass(slots=True)
class Doorman:
    """Decide by the manners and by what was before."""

    manners: Manners
    _first_ns: dict[tuple[str, str, str], int] = field(default_factory=dict)
    _tries: dict[str, int] = field(default_factory=dict)
    _recent_ns: deque[int] = field(default_factory=deque)
    _rcpts: int = 0

    def too_many(self, now_ns: int) -> bool:
        """Count a message that begins, unless there were too many in the last second."""
        if not self.manners.rate:
            return False
        while self._recent_ns and self._recent_ns[0] <= now_ns - _S:
            self._recent_ns.popleft()
        if len(self._recent_ns) >= self.manners.rate:
            return True
        self._recent_ns.append(now_ns)
        return False

    def at_rcpt(self, peer: str, sender: str, rcpt: str, now_ns: int) -> str | None:
        """Give the refusal of a recipient; None: welcome."""
        self._rcpts += 1
        for first, count, reply in self.manners.script:
            if first <= self._rcpts < first + count:
                return reply
        if rcpt.startswith("unknown."):
            return "550 5.1.1 no such user here"
        if rcpt.startswith("full."):
            return "452 4.2.2 mailbox full"
        if self.manners.greylist_s:
            first_ns = self._first_ns.setdefault((peer, sender, rcpt), now_ns)
            if now_ns - first_ns < self.manners.greylist_s * _S:
                return "451 4.7.1 greylisted, try again later"
        defer = _DEFER.match(rcpt)
        if defer and self._try(rcpt) <= int(defer[1]):
            return "451 4.3.0 try again later"
        return None

    def after_dot(self, rcpt: str) -> Verdict:
        """Say what becomes of a message that has come whole."""
        delay_s = _SLOW_S if rcpt.startswith("slow.") else self.manners.dot_delay_s
        if rcpt.startswith("refuse."):
            return Verdict("554 5.7.1 we do not want this message", delay_s)
        dropped = rcpt.startswith("drop.") and self._try(rcpt) == 1
        return Verdict("250 2.0.0 taken", delay_s, dropped)

    def knows(self, user: str, password: str) -> bool:
        """Say whether somebody may send."""
        return not self.manners.users or self.manners.users.get(user) == password

    def _try(self, rcpt: str) -> int:
        tries = self._tries[rcpt] = self._tries.get(rcpt, 0) + 1
        return tries
