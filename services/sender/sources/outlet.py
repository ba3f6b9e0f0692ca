"""One source's way out: its paths in order of preference, and what is known of each.

    a connection    takes the first path without trouble; one that turns out to be broken is doubted, and the next is tried
    beside it       a task for each path looks at it now and then, at once when it is doubted, and has its address observed by an echo

A source has trouble when all its paths have; then ``dial`` raises SourceUnavailable without trying anything. It comes back by itself, with
the first look that finds a path sound. One that was broken has its address observed again first, since who repaired it may have changed
it; an echo that is silent then is judged as ever (``verdict``).
"""

import asyncio
from dataclasses import dataclass, field
from typing import Final

from structlog.typing import FilteringBoundLogger

from services.sender.sources.echo import Observer, Unobserved
from services.sender.sources.paths import Bound, Declined, Open, Opened, Path, SourceUnavailable
from services.sender.sources.proxies import Proxied
from services.sender.sources.verdict import Verdict
from shared.runtime.clock import Clock
from shared.runtime.settings import Source
from shared.runtime.workings import Sender

_S: Final = 1_000_000_000
#: How often a path is looked at: to bind costs nothing, a proxy has many sources that look.
_BOUND_NS: Final = 5 * _S
_SOUND_NS: Final = 30 * _S
_TROUBLED_NS: Final = 5 * _S
#: Of the time for connecting, what a proxy has to let us in: two that hang leave time for the third, or for the destination.
_PART: Final = 3


@dataclass(slots=True)
class Leg:
    """One path, and what is known of it."""

    path: Path
    verdict: Verdict | None
    looked: bool = False
    broken: str | None = None
    #: What a connection met since the last look.
    doubt: str | None = None
    doubted: asyncio.Event = field(default_factory=asyncio.Event)
    #: Whether the log has it as usable; None: it has nothing yet.
    told: bool | None = None

    def trouble(self, now_ns: int) -> str | None:
        """Say why nothing may leave by it."""
        if not self.looked:
            return f"{self.path} was not looked at yet"
        found = self.broken or self.doubt
        if found is None and self.verdict is not None:
            found = self.verdict.trouble(now_ns)
        return found


class Outlet:
    """Connect from one source."""

    def __init__(
        self,
        source: Source,
        how: Sender,
        observer: Observer | None,
        clock: Clock,
        log: FilteringBoundLogger,
    ) -> None:
        """``observer`` sees every path's address now and then; None: nobody does."""
        self._source, self._clock, self._log, self._observer = source, clock, log, observer
        asked = observer is not None and source.kind != "smarthost"
        self._legs = [
            Leg(path, Verdict(source.address, how.echo_every_ns) if asked else None)
            for path in paths_of(source, how.connect_timeout_ns // _PART)
        ]

    def __repr__(self) -> str:
        """Show what is known."""
        return f"<Outlet {self._source.name} [{self.trouble or 'usable'}]>"

    @property
    def known(self) -> bool:
        """Say whether the source is known to be usable, or not to be."""
        return self.trouble is None or all(leg.looked for leg in self._legs)

    @property
    def trouble(self) -> str | None:
        """Say why nothing may leave from this source now; None: something may."""
        now = self._clock.mono_ns()
        troubles = [leg.trouble(now) for leg in self._legs]
        if any(trouble is None for trouble in troubles):
            return None
        return "; ".join(trouble for trouble in troubles if trouble is not None)

    async def dial(self, address: str, port: int) -> Opened:
        """Connect to an IP by the first path that can; raises SourceUnavailable, OSError."""
        declined: Declined | None = None
        for leg in self._legs:
            if leg.trouble(self._clock.mono_ns()) is not None:
                continue
            try:
                return await leg.path.open(address, port)
            except SourceUnavailable as error:
                leg.doubt = str(error)
                leg.doubted.set()
            except Declined as error:
                declined = error
        raise declined or SourceUnavailable(self._source.name, self.trouble or "try again")

    # -- looking

    async def run(self) -> None:
        """Keep looking at every path until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for leg in self._legs:
                tasks.create_task(self._keep(leg))

    async def _keep(self, leg: Leg) -> None:
        while True:
            leg.doubted.clear()
            await self._look(leg)
            self._tell(leg)
            try:
                async with asyncio.timeout(self._pause_ns(leg) / _S):
                    await leg.doubted.wait()
            except TimeoutError:
                continue

    async def _look(self, leg: Leg) -> None:
        doubt = leg.doubt
        broken = await leg.path.look()
        verdict, now = leg.verdict, self._clock.mono_ns()
        again = leg.broken is not None or doubt is not None
        if broken is None and verdict is not None and (again or now >= verdict.due_ns):
            broken = await self._observe(leg.path, verdict)
        leg.broken, leg.looked = broken, True
        if leg.doubt is doubt:  # Not one that came while it looked.
            leg.doubt = None

    async def _observe(self, path: Path, verdict: Verdict) -> str | None:
        """Have the address observed; gives what is wrong with the path itself."""
        if self._observer is None:
            return None
        try:
            seen = await self._observer.observe(path, self._source.family)
        except SourceUnavailable as error:
            return str(error)
        except Unobserved as error:
            verdict.silent(str(error), self._clock.mono_ns())
            self._log.warning(
                "echo_silent", source=self._source.name, path=str(path), reason=str(error)
            )
        else:
            verdict.observed(seen, self._clock.mono_ns())
        return None

    def _pause_ns(self, leg: Leg) -> int:
        now = self._clock.mono_ns()
        sound = _BOUND_NS if isinstance(leg.path, Bound) else _SOUND_NS
        pause = sound if leg.trouble(now) is None else _TROUBLED_NS
        if leg.verdict is not None and leg.broken is None:
            pause = min(pause, max(leg.verdict.due_ns - now, 0))
        return pause

    def _tell(self, leg: Leg) -> None:
        """Log what changed for one path of several; of an only one it is the source that changes."""
        trouble = leg.trouble(self._clock.mono_ns())
        usable = trouble is None
        if len(self._legs) > 1 and usable != leg.told and not (usable and leg.told is None):
            self._log.warning(
                "path_usable" if usable else "path_suspended",
                source=self._source.name,
                path=str(leg.path),
                reason=trouble,
            )
        leg.told = usable


def is_given(source: Source, ordinal: int | None) -> bool:
    """Say whether the sender with this number may have the source: the network gives a direct one to just one of them."""
    return source.kind != "direct" or source.ordinal == ordinal


def paths_of(source: Source, enter_ns: int) -> list[Path]:
    """Give the ways out of a source, best first; a proxy must let it in within ``enter_ns``."""
    match source.kind:
        case "bind":
            return [Bound(source.address)]
        case "proxy":
            return [
                Proxied(proxy, source.address, source.password_file, enter_ns)
                for proxy in source.via
            ]
        case "direct" | "smarthost":
            return [Open(source.address)]
