"""Lanes and deliveries on their way to another partition. Pure.

    the map gives a lane away  ->  no more grants, a hand-over record with its limiters, a copy of each delivery with no open grant
    a grant of it settles      ->  its delivery ends here, or follows
    an outcome comes late      ->  it follows its delivery
    anything comes for a lane of another  ->  it goes there

All of it is in the transaction of its round: a delivery's state here ends with the copy that goes, and a crash finds it in one place.
The hand-over record need not wait for the copies: a delivery is granted only where its state is. They go in portions, since each
carries its message; what waits for its turn is ``astray``. Nothing goes anywhere by a map that is older than one that was met.
"""

from services.scheduler.policy.decisions import Decisions, Forwarded, HandedOver, Passed
from services.scheduler.policy.deliveries import Deliveries
from services.scheduler.policy.departed import Departed
from services.scheduler.policy.lanes import Lanes
from services.scheduler.policy.pairs import Pairs
from shared.records.delivery import Handover, Late
from shared.records.outcome import Outcome
from shared.records.state import DeliveryState
from shared.runtime.settings import Settings

# What is passed on for ever would be a bug: two that think the other has it.
_MOST_HOPS = 100
# Limiters in one record: a site's name may be kilobytes long, and a line must stay below a megabyte.
_LIMITERS = 100
# Of so many destinations it is remembered whose they are.
_REMEMBERED = 65_536


class Moving:
    """Move what the map gives to others."""

    def __init__(
        self, settings: Settings, lanes: Lanes, deliveries: Deliveries, pairs: Pairs
    ) -> None:
        """Work on the ledger's own rooms."""
        self.departed = Departed()
        self._settings, self._lanes = settings, lanes
        self._deliveries, self._pairs = deliveries, pairs
        self._astray: dict[str, None] = {}
        #: (provider, site, slot group) -> whether it is decided about here by the map of version ``_by``.
        self._stays: dict[tuple[str | None, str | None, int], bool] = {}
        #: Pool -> its slot group; None: it depends on the recipient, or the pool's smart host decides.
        self._groups: dict[str, int | None] = {}
        self._by = -1
        self._handed_over: list[HandedOver] = []
        self._forwarded: list[Forwarded] = []
        self._passed: list[Passed] = []

    def take(self, decided: Decisions) -> None:
        """Put what was decided since the last call into ``decided``."""
        decided.handed_over, self._handed_over = self._handed_over, []
        decided.forwarded, self._forwarded = self._forwarded, []
        decided.passed, self._passed = self._passed, []
        decided.lanes, decided.moved = self._lanes.take(), self.departed.take()

    # -- deliveries

    def lane(self, entry: DeliveryState) -> str:
        """Name the lane of a delivery: its destination's, for the slot group that it goes from."""
        lane_map, smarthost = self._lanes.map, self._settings.smarthost(entry.pool)
        group = lane_map.group(entry.pool, entry.to)
        return lane_map.lane(entry.provider, entry.site, entry.domain, smarthost, group)

    def belongs(self, entry: DeliveryState) -> bool:
        """Say whether ``entry`` is decided about here."""
        if entry.site is None and self._settings.smarthost(entry.pool) is None:
            # Anybody may ask whose it is. A sender that found another site hands it back: mostly that is decided about here too.
            return True
        return self._given(entry)

    def stays(self, entry: DeliveryState) -> bool:
        """Say whether ``entry`` is decided about here; else it waits here until it goes."""
        if self._by == self._lanes.map.version:
            group = self._groups.get(entry.pool)
            if group is not None and self._stays.get((entry.provider, entry.site, group)):
                return True  # As it nearly always is.
        if self.belongs(entry):
            return True
        self._astray[entry.id] = None
        return False

    def _given(self, entry: DeliveryState) -> bool:
        lane_map = self._lanes.map
        if lane_map.version != self._by or len(self._stays) >= _REMEMBERED:
            self._by = lane_map.version
            self._stays.clear()
            self._groups.clear()
        if entry.pool not in self._groups:
            relayed = self._settings.smarthost(entry.pool) is not None
            self._groups[entry.pool] = None if relayed else lane_map.only_group(entry.pool)
        group = self._groups[entry.pool]
        if group is None or entry.site is None:
            return self._lanes.given(self.lane(entry))
        # Of ten thousand sites and a thousand pools only the sites differ, and the slot groups that the pools lie in.
        which = entry.provider, entry.site, group
        given = self._stays.get(which)
        if given is None:
            given = self._stays[which] = self._lanes.given(self.lane(entry))
        return given

    def remove(self, entry: DeliveryState) -> None:
        """Forget a delivery that ended, or that stays after all."""
        self._astray.pop(entry.id, None)

    def waits(self, entry: DeliveryState) -> bool:
        """Say whether ``entry`` waits for its way to another partition."""
        return entry.id in self._astray

    def strays(self) -> list[str]:
        """List those that wait for their way."""
        return list(self._astray)

    @property
    def pending(self) -> bool:
        """Say whether something could go now."""
        return bool(self._astray) and self._lanes.current

    # -- what goes

    def go(self, most: int, max_bytes: int, now_ns: int) -> list[DeliveryState]:
        """Hand over lanes, and send deliveries, at most ``most`` and ``max_bytes``; gives those, which the caller forgets."""
        if not self._lanes.current:
            return []
        for lane in self._lanes.leaving():
            self._hand_over(lane, now_ns)
        gone: list[DeliveryState] = []
        for id_ in self._astray:
            if len(gone) >= most or max_bytes <= 0:
                break
            entry = self._deliveries.entries[id_]
            max_bytes -= entry.size_bytes
            partition = self._lanes.map.partition(self.lane(entry))
            self._forwarded.append(Forwarded(entry, partition, self._lanes.map.version))
            self.departed.add(entry, partition)
            gone.append(entry)
        return gone

    def _hand_over(self, lane: str, now_ns: int) -> None:
        pairs, totals = self._pairs.of_lane(lane, self._lanes.map, now_ns)
        domains = self._pairs.domains.of_lane(lane, self._lanes.map)
        partition, version = self._lanes.hand_over(lane), self._lanes.map.version
        most = max(len(pairs), len(totals), len(domains), 1)
        for at in range(0, most, _LIMITERS):
            record = Handover(
                lane=lane,
                map=version,
                pairs=pairs[at : at + _LIMITERS],
                totals=totals[at : at + _LIMITERS],
                domains=domains[at : at + _LIMITERS],
                more=at + _LIMITERS < most,
            )
            self._handed_over.append(HandedOver(partition, record))

    def follow(self, outcome: Outcome, hop: int = 0) -> None:
        """Send an outcome after its delivery, if that moved and the outcome can settle it."""
        moved = self.departed.where(outcome.id)
        if moved is None or outcome.result not in ("delivered", "bounced") or hop >= _MOST_HOPS:
            return
        late = Late(outcome=outcome, hop=hop + 1)
        self._passed.append(Passed(moved.class_, moved.partition, late))

    # -- what comes

    def receive(self, record: Handover) -> None:
        """Take a lane, and what its limiters have spent."""
        self._pairs.merge(record.pairs, record.totals)
        self._pairs.domains.merge(record.domains)
        if not record.more:
            self._lanes.receive(record)
