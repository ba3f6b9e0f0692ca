"""The scheduler's ledger on a virtual clock, with senders and providers that are models: one process, no I/O, the same for the same seed.

    arrivals, outcomes, virtual time -> the ledger's round -> grants -> Senders -> Receiver -> outcomes

What is simulated is everything around the policy; the policy is ``services.scheduler.policy`` as the scheduler runs it. A round takes
place when something arrived or is due, and not sooner than ``round_ns`` after the one before: that stands for the transaction. All slots
are owned for the whole time, and all mail fits into memory, so there are no leases that end and nothing is parked.
"""

import random
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Final

from services.scheduler.policy.ledger import Ledger
from services.scheduler.simulation import traffic as traffics
from services.scheduler.simulation.agenda import FOREVER, Agenda
from services.scheduler.simulation.forecasts import Forecasts
from services.scheduler.simulation.measures import Measures
from services.scheduler.simulation.models import MODELS
from services.scheduler.simulation.receiving import Receiver, Window
from services.scheduler.simulation.senders import Said, Senders, World
from services.scheduler.simulation.traffic import Traffic
from shared.protocol.control import ControlView
from shared.records.control import Claim, Heartbeat
from shared.records.grant import Grant
from shared.records.lanemap import propose
from shared.records.outcome import Outcome
from shared.runtime.settings import Settings

_MS: Final = 1_000_000
_S: Final = 1_000 * _MS
#: As the scheduler's rounds (services.scheduler.worker).
_MAX_GRANTS: Final = 1000
_ROUND_BYTES: Final = 16 << 20
#: From a commit to the sender's hand.
_DISPATCH_NS: Final = 20 * _MS
#: The least time between two rounds.
ROUND_NS: Final = 250 * _MS
_PROCESS: Final = "simulation"


@dataclass(frozen=True, slots=True)
class Result:
    """What came of it."""

    settings: Settings
    traffic: Traffic
    measures: Measures
    receivers: dict[str, Receiver]
    forecasts: Forecasts

    @property
    def keys(self) -> dict[str, str]:
        """Give the limit key of every destination of the traffic."""
        names = {name for stream in self.traffic.streams for name in stream.destinations}
        return {name: traffics.limit_key(name, self.settings) for name in names}


class Engine:
    """Run one simulation."""

    def __init__(
        self,
        settings: Settings,
        traffic: Traffic,
        seed: int,
        *,
        round_ns: int = ROUND_NS,
        without: Collection[str] = (),
    ) -> None:
        """The same ``seed`` gives the same day; nothing is sent to ``without``."""
        self.settings, self.traffic = _alone(settings, traffic), traffic
        self._round_ns = round_ns
        self.measures = Measures(traffic.start_ns)
        self.forecasts = Forecasts(random.Random(f"{seed}/forecasts"))  # noqa: S311 - the same for the same seed
        if without:
            # A day that another is compared with: nobody reads what is said of it.
            self.forecasts.next_ns = FOREVER
        self.receivers: dict[str, Receiver] = {}
        self._seed = seed
        self._view = ControlView()
        self._own(traffic.start_ns)
        self._ledger = Ledger(0, self.settings, self._view, self._rng("ledger"))
        self._ledger.restored()
        self._agenda = Agenda(traffic.start_ns)
        self._arrivals = traffics.arrivals(traffic, self.settings, seed, without)
        self._next = next(self._arrivals, None)
        self._offset = 0
        self._said: list[tuple[int, Said, Window | None]] = []
        timing = self.settings.timing
        world = World(
            agenda=self._agenda,
            say=self._say,
            began=self._began,
            idle_ns=self.settings.sender.idle_ns,
            longest_ns=timing.lease_ns + 2 * timing.skew_ns,
        )
        self._senders = Senders(world, self._receiver, traffic.start_ns)
        for name in traffic.models:
            self._receiver(traffics.limit_key(name, self.settings))

    def _rng(self, name: str) -> random.Random:
        return random.Random(f"{self._seed}/{name}")  # noqa: S311 - the same for the same seed

    def _receiver(self, key: str) -> Receiver:
        found = self.receivers.get(key)
        if found is None:
            models = {
                traffics.limit_key(name, self.settings): model
                for name, model in self.traffic.models.items()
            }
            model = models.get(key, MODELS["plain"])
            found = Receiver(key, model, self.traffic.start_ns, self._rng(f"receiver {key}"))
            self.receivers[key] = found
        return found

    # -- who owns what

    def _own(self, now_ns: int) -> None:
        """Claim every slot, and publish a lane map in which one partition decides about everything."""
        smarthosts = [s.name for s in self.settings.sources.values() if s.kind == "smarthost"]
        self._view.feed(0, now_ns, propose(1, 1, self.settings.providers, smarthosts))
        for source in self.settings.sources.values():
            claim = Claim(slot=source.slot, source=source.name, process=_PROCESS, pod=_PROCESS)
            self._view.feed(self._view.position, now_ns, claim)
        self._beat_ns = 0
        self._beat(now_ns)

    def _beat(self, now_ns: int) -> None:
        if now_ns < self._beat_ns:
            return
        self._beat_ns = now_ns + self.settings.timing.heartbeat_ns
        for source in self.settings.sources.values():
            beat = Heartbeat(
                slot=source.slot,
                epoch=self._view.epoch(source.slot),
                process=_PROCESS,
                ready=True,
                mono_ns=now_ns,
                wall_ns=now_ns,
            )
            self._view.feed(self._view.position, now_ns, beat)

    # -- what the senders call

    def _say(self, now_ns: int, said: Said, window: Window | None) -> None:
        self._said.append((now_ns, said, window))

    def _began(self, now_ns: int, _: Receiver, grant: Grant) -> None:
        self.measures.began(now_ns, grant)

    # -- time

    def run(self) -> Result:
        """Let the time of the traffic pass."""
        agenda, end = self._agenda, self.traffic.end_ns
        last = self.traffic.start_ns - self._round_ns
        while True:
            due = max(last + self._round_ns, self._due_ns())
            if agenda.next_ns() <= due:
                if agenda.next_ns() > end:
                    break
                agenda.step()
                continue
            if due > end:
                break
            last = due
            self._round(due)
        self.measures.pass_to(end)
        return Result(self.settings, self.traffic, self.measures, self.receivers, self.forecasts)

    def _due_ns(self) -> int:
        """Say when a round has something to do."""
        if self._said:
            return 0
        arrival = self._next[0] if self._next is not None else FOREVER
        asked = self.forecasts.next_ns if self._ledger.entries else FOREVER
        return min(arrival, self._ledger.next_ns(), asked)

    def _round(self, now_ns: int) -> None:
        ledger, measures = self._ledger, self.measures
        measures.rounds += 1
        measures.pass_to(now_ns)
        self._beat(now_ns)
        ledger.begin(now_ns)
        said, self._said = self._said, []
        for stamp_ns, record, window in said:
            if isinstance(record, Outcome) and _refuses(record):
                entry = ledger.entries.get(record.id)
                if entry is not None:
                    self.forecasts.refused(ledger.limit_key(entry))
            ledger.on_outcome(stamp_ns, record)
            if window is not None and window.heard_ns > now_ns:
                window.heard_ns = now_ns
        ledger.on_log_time(now_ns)
        self._take_in(now_ns)
        ledger.judge()
        self.forecasts.ask(ledger, now_ns)
        ledger.plan(_MAX_GRANTS, _ROUND_BYTES)
        decided = ledger.take()
        # Shares of limits come and go through mail.control, with one partition as well.
        for said_ in (ledger.want(), decided.shares):
            if said_ is not None:
                self._view.feed(self._view.position, now_ns, said_)
        if decided.granted:
            for each in decided.granted:
                measures.granted(each)
                self.forecasts.went(each.grant.id, each.grant.t0_ns)
            jobs = [(each.grant, now_ns) for each in decided.granted]
            self._agenda.at(now_ns + _DISPATCH_NS, self._senders.offer, jobs)
        measures.heard(now_ns, decided.events)

    def _take_in(self, now_ns: int) -> None:
        while self._next is not None and self._next[0] <= now_ns:
            delivery = self._next[1]
            self.measures.arrived(delivery.provider or delivery.site or "", delivery)
            self._ledger.on_delivery(delivery.class_, self._offset, delivery)
            self._offset += 1
            self._next = next(self._arrivals, None)


def _refuses(outcome: Outcome) -> bool:
    """Say whether a destination took something else than a delivery badly: what was foretold of a probe is void."""
    return outcome.warns or outcome.result == "pair_failed" or outcome.scope == "domain"


def _alone(settings: Settings, traffic: Traffic) -> Settings:
    """Give the settings with one partition that has room for all."""
    return replace(
        settings,
        kafka=replace(settings.kafka, partitions=1),
        lanes={},
        scheduler=replace(settings.scheduler, max_waiting=4 * traffic.messages + 1000),
    )
