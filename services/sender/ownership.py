"""Who owns a slot, from the side of one process that may: pure, one ``SlotOwner`` for each slot that the process can serve.

    Watching --(freed | silence | my pod's first claim)--> Greeting --(clock fits)--> Ending --(dispatch end)--> Claiming --> Waiting
       ^                                                                                                                  |
       +------------ a later claim, or released (drain, unfit, unwanted) ---------- Ready <-------------------------------+

Time comes in as ``Now`` (monotonic and wall); records that the shell must append come out of ``step`` as ``Say``; their acknowledgements
go back through ``on_stamped`` (or ``on_lost``), and what is read of mail.control through ``on_read``, after the ``ControlView`` took it.

A slot that is not wanted (``sharing`` decides about the floating ones) is not claimed; one that is owned is given up like at a drain, and
kept after all where it is wanted again before the release: the epoch goes on.

What a crash does: nothing here is stored. The next process claims anew, so the epoch grows; the scheduler's leases settle the rest.
Why two owners can never both send: an owner acts only within ``fresh`` of *sending* a heartbeat that it has read back with no later
claim before it; a claimant starts ``wait`` = fresh + skew after its claim is acknowledged. By then every heartbeat that the older one
could read back without seeing the claim is stale. A release, or a file lock that proves the older process dead, ends the wait at once.
"""

import enum
from dataclasses import dataclass

from shared.protocol.clockbound import ClockBound, bound
from shared.protocol.control import NO_EPOCH, Claimed, ControlView
from shared.records.control import Claim, Control, Heartbeat, Hello, Released


@dataclass(frozen=True, slots=True)
class Now:
    """The process's two clocks, ns."""

    mono_ns: int
    wall_ns: int


@dataclass(frozen=True, slots=True)
class Constants:
    """The protocol's times, ns (DESIGN 4.5)."""

    fresh_ns: int = 5_000_000_000
    skew_ns: int = 2_000_000_000
    wait_ns: int = 7_000_000_000
    silence_ns: int = 10_000_000_000
    heartbeat_ns: int = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Identity:
    """Who this process is; ``dead_predecessor`` is the process that a file lock in the same pod proves dead."""

    process: str
    pod: str
    dead_predecessor: str | None = None


class State(enum.Enum):
    """Where a slot's owner stands."""

    WATCHING = "watching"
    LISTENING = "listening"
    GREETING = "greeting"
    ENDING = "ending"
    CLAIMING = "claiming"
    WAITING = "waiting"
    READY = "ready"
    RELEASING = "releasing"
    DONE = "done"


@dataclass(frozen=True, slots=True)
class Say:
    """Append ``record`` to mail.control and report its stamp to ``on_stamped`` with ``token``."""

    record: Control
    token: str


@dataclass(frozen=True, slots=True)
class TakeEnd:
    """Ask for the end of the slot's dispatch partition and report it to ``on_end``; reading begins there."""

    slot: int


@dataclass(frozen=True, slots=True)
class HandBack:
    """Drop the slot's queue: each grant that was not begun is handed back, then ``on_idle`` tells when all is acknowledged."""

    slot: int


Action = Say | TakeEnd | HandBack

_POLL_BAD_CLOCK_NS = 2_000_000_000
# While it drains, it says so more often than it beats: the scheduler must stop granting at once.
_DRAIN_BEAT_NS = 200_000_000


class SlotOwner:
    """Own one slot, or wait for it."""

    def __init__(
        self,
        slot: int,
        source: str,
        me: Identity,
        view: ControlView,
        times: Constants,
        now: Now,
    ) -> None:
        """Begin to watch; ``view`` is shared with the shell, which feeds it."""
        self.slot, self.source, self._me, self._view, self._times = (
            slot,
            source,
            me,
            view,
            times,
        )
        self.state = State.WATCHING
        self.epoch = NO_EPOCH
        self.dispatch_from: int | None = None
        #: Monotonic time until which this process may act, and the stamp of the heartbeat that says so.
        self.fresh_until_ns, self.beat_stamp_ns = -1, 0
        self.clock: ClockBound | None = None
        self._claimed_before = False
        self._sound_ns = now.mono_ns
        self._since_ns = now.mono_ns
        #: While it listens: when it had read its own hello back.
        self._heard_ns: int | None = None
        self._sent: dict[str, Now] = {}
        self._answered: dict[str, tuple[int, int, Now]] = {}
        self._beat_ns = 0
        self._fit_ns = now.mono_ns
        self._draining = False
        #: Claim and keep the slot only while this is so.
        self.wanted = True
        self._yielding = False
        #: The slot's epoch when this process began to ask for it.
        self._seen_epoch = NO_EPOCH
        self._idle = True
        self._serial = 0

    def __repr__(self) -> str:
        """Show slot, state and epoch."""
        return f"<SlotOwner {self.slot} {self.source} [{self.state.value}, epoch {self.epoch}]>"

    # -- what the shell tells

    def on_read(self, stamp_ns: int, record: Control, now: Now) -> None:
        """Take one record of mail.control, which ``view`` has taken already."""
        if isinstance(record, Claim) and record.slot == self.slot:
            # A claim breaks the silence: whoever else waits lets it begin.
            self._sound_ns = now.mono_ns
        elif (
            isinstance(record, Heartbeat)
            and record.slot == self.slot
            and record.epoch == self._view.epoch(self.slot)
        ):
            self._sound_ns = now.mono_ns
            if record.process == self._me.process and record.epoch == self.epoch:
                # Read back with no later claim before it (the view's epoch is still mine).
                self.fresh_until_ns = record.mono_ns + self._times.fresh_ns
                self.beat_stamp_ns = stamp_ns
                self._judge_clock(record.wall_ns, stamp_ns, now)

    def on_stamped(self, token: str, offset: int, stamp_ns: int, now: Now) -> None:
        """Take the acknowledgement of a ``Say``."""
        if token in self._sent:
            self._answered[token] = (offset, stamp_ns, now)

    def on_lost(self, token: str, now: Now) -> None:
        """Take that nobody knows what became of a ``Say``: begin anew; a claim that arrived after all is one that nobody keeps."""
        if token in self._sent and self.state in (State.LISTENING, State.GREETING, State.CLAIMING):
            self._back(now)

    def on_end(self, offset: int) -> None:
        """Take the end of the dispatch partition, read before the claim is sent."""
        if self.state is State.ENDING:
            self.dispatch_from = offset

    def on_busy(self, *, idle: bool) -> None:
        """Take whether nothing is left on the wire and every outcome is acknowledged."""
        self._idle = idle

    @property
    def stopping(self) -> bool:
        """Say whether nothing more begins in this epoch: it drains, gives up, or has given up."""
        return self._draining or self.state is not State.READY

    def drain(self) -> None:
        """Stop starting; release when idle; never claim again."""
        self._draining = True

    # -- what it answers

    def acting(self, mono_ns: int) -> bool:
        """Say whether this process may act for the slot now: owner (to its release), fresh, and its clock fits."""
        return (
            self.state in (State.READY, State.RELEASING)
            and self._view.epoch(self.slot) == self.epoch
            and mono_ns < self.fresh_until_ns
            and self._fits()
        )

    def may_start(self, mono_ns: int) -> bool:
        """Say whether a new attempt may begin: as ``acting``, and not while it stops."""
        return not self.stopping and self.acting(mono_ns)

    @property
    def claimed(self) -> bool:
        """Say whether this process has claimed the slot, and has not given it up."""
        return self.state in (State.CLAIMING, State.WAITING, State.READY, State.RELEASING)

    @property
    def epoch_ended(self) -> bool:
        """Say whether the epoch that this process last had is over."""
        return self.state is not State.READY and self.state is not State.RELEASING

    def _fits(self) -> bool:
        return self.clock is None or self.clock.within(self._times.skew_ns)

    def _judge_clock(self, sent_ns: int, stamp_ns: int, now: Now) -> None:
        self.clock = bound(sent_ns, stamp_ns, now.wall_ns)
        if self._fits():
            self._fit_ns = now.mono_ns

    def step(self, now: Now, *, at_end: bool) -> list[Action]:  # noqa: PLR0911 - one for each state
        """Move on as far as possible; ``at_end``: mail.control has been read to its end."""
        match self.state:
            case State.WATCHING:
                return self._watch(now, at_end=at_end)
            case State.LISTENING:
                return self._listen(now, at_end=at_end)
            case State.GREETING:
                return self._greet(now)
            case State.ENDING:
                return self._claim(now)
            case State.CLAIMING:
                return self._await_claim()
            case State.WAITING:
                return self._wait(now)
            case State.READY | State.RELEASING:
                return self._own(now)
            case State.DONE:
                return []

    # -- one method a state

    def _watch(self, now: Now, *, at_end: bool) -> list[Action]:
        if self._draining:
            self.state = State.DONE
            return []
        if now.mono_ns < self._since_ns or not at_end or not self.wanted:
            return []
        last = self._view.last_claim(self.slot)
        freed = last is None or self._view.is_released(self.slot, last.epoch)
        mine = last is not None and last.pod == self._me.pod and not self._claimed_before
        quiet = now.mono_ns - self._sound_ns >= self._times.silence_ns
        if not (freed or mine or quiet):
            return []
        # Silence may be Kafka's, for everybody, or this reader's: after a round trip of one's own, listen a little longer.
        self.state, self._heard_ns = State.GREETING if freed or mine else State.LISTENING, None
        self._seen_epoch = self._view.epoch(self.slot)
        return [self._say(Hello(process=self._me.process, wall_ns=now.wall_ns), now)]

    def _listen(self, now: Now, *, at_end: bool) -> list[Action]:
        answer = self._answer()
        if answer is None or self._view.position <= answer[0]:
            return []  # Whoever has not read its own hello has not read what others said before it either.
        if self._heard_ns is None:
            self._heard_ns = now.mono_ns
        if not at_end or now.mono_ns < self._heard_ns + 2 * self._times.heartbeat_ns:
            return []
        if now.mono_ns - self._sound_ns < self._times.silence_ns:
            return self._back(now)
        self.state = State.GREETING
        return [self._say(Hello(process=self._me.process, wall_ns=now.wall_ns), now)]

    def _greet(self, now: Now) -> list[Action]:
        answer = self._answer()
        if answer is None:
            return []
        offset, stamp_ns, back = answer
        if self._view.position <= offset:
            return []  # Read back, it proves that no claim before it was missed.
        self._judge_clock(self._sent_at().wall_ns, stamp_ns, back)
        if not self._fits():
            self._back(now)
            self._since_ns = now.mono_ns + _POLL_BAD_CLOCK_NS
            return []
        self.state, self.dispatch_from = State.ENDING, None
        return [TakeEnd(self.slot)]

    def _claim(self, now: Now) -> list[Action]:
        taken = self._view.epoch(self.slot) != self._seen_epoch
        if self._draining or taken or not self.wanted:
            return self._back(now)
        if self.dispatch_from is None:
            return []
        self.state, self._claimed_before = State.CLAIMING, True
        claim = Claim(
            slot=self.slot,
            source=self.source,
            process=self._me.process,
            pod=self._me.pod,
        )
        return [self._say(claim, now)]

    def _await_claim(self) -> list[Action]:
        answer = self._answer()
        if answer is not None:
            self.epoch, self._since_ns, self.state = (
                answer[0],
                answer[2].mono_ns,
                State.WAITING,
            )
        return []

    def _wait(self, now: Now) -> list[Action]:
        if self._view.position <= self.epoch:
            return []  # It must have read its own claim: then it knows all that came before it.
        if self._view.epoch(self.slot) != self.epoch or self._draining:
            return self._back(now)
        before = self._view.claim_before(self.slot, self.epoch)
        if now.mono_ns - self._since_ns < self._times.wait_ns and not self._need_not_wait(before):
            return []
        self.state, self._beat_ns, self._fit_ns = State.READY, 0, now.mono_ns
        return self._own(now)

    def _need_not_wait(self, before: Claimed | None) -> bool:
        if before is None:
            return True
        # Only an epoch that had been ready can vouch for its end: one that never was may itself have cut a wait short.
        if not self._view.was_ready(self.slot, before.epoch):
            return False
        return (
            self._view.is_released(self.slot, before.epoch)
            or before.process == self._me.dead_predecessor
        )

    def _own(self, now: Now) -> list[Action]:
        if self._view.epoch(self.slot) != self.epoch:
            return self._back(now)
        unfit = not self._fits() and now.mono_ns - self._fit_ns > self._times.fresh_ns
        stopping = self._draining or unfit
        if self.state is State.READY:
            # Decides at the moment of giving up whether that can be taken back.
            self._yielding = not stopping
        leaving = stopping or not self._yielding or not self.wanted
        actions: list[Action] = []
        if not leaving and self.state is State.RELEASING:
            self.state, self._beat_ns = State.READY, 0
        if leaving and self.state is State.READY:
            self.state = State.RELEASING
            actions.append(HandBack(self.slot))
            self._idle = False  # Until the shell has seen the hand-backs acknowledged.
            self._beat_ns = 0
        elif leaving and self._idle:
            release = Released(slot=self.slot, epoch=self.epoch, process=self._me.process)
            actions.append(self._say(release, now))
            return actions + self._back(now)
        pause = _DRAIN_BEAT_NS if leaving else self._times.heartbeat_ns
        if now.mono_ns >= self._beat_ns + pause or not self._beat_ns:
            self._beat_ns = now.mono_ns
            actions.append(self._say(self._heartbeat(now, leaving=leaving), now))
        return actions

    def _heartbeat(self, now: Now, *, leaving: bool) -> Heartbeat:
        return Heartbeat(
            slot=self.slot,
            epoch=self.epoch,
            process=self._me.process,
            ready=not leaving and self._fits(),
            mono_ns=now.mono_ns,
            wall_ns=now.wall_ns,
        )

    def _back(self, now: Now) -> list[Action]:
        self.state = State.DONE if self._draining else State.WATCHING
        self._sound_ns = self._since_ns = now.mono_ns
        self.fresh_until_ns = -1
        return []

    # -- records on their way

    def _say(self, record: Control, now: Now) -> Say:
        self._serial += 1
        token = f"{self.slot}/{self._serial}"
        if not isinstance(record, Heartbeat | Released):
            self._sent, self._answered = {token: now}, {}
        return Say(record, token)

    def _answer(self) -> tuple[int, int, Now] | None:
        return next(iter(self._answered.values()), None)

    def _sent_at(self) -> Now:
        return next(iter(self._sent.values()))
