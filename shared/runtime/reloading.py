"""The configuration while a service runs: changed files are read, checked as a whole, and taken over; what cannot be is refused.

    look (every few seconds, or SIGHUP) -> stable for two looks -> load -> refuse | take over what is hot, name what needs a restart

Where ``configuration.follow`` is ``control``, what an operator published to mail.control counts instead of the own files, for all but
what a process needs to reach Kafka and to be reached; it is read before the service begins.

Last good kept: a file that cannot be used changes nothing, is said in the log and in ``config_refused`` until it is mended. A mounted
ConfigMap is swapped as a whole, an edited file may be read half written: so nothing is read that has changed since the look before.
"""

import asyncio
import dataclasses
import hashlib
import signal
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from structlog.typing import FilteringBoundLogger

from shared.records.configuration import Configuration
from shared.records.control import Control
from shared.records.event import Configured
from shared.runtime import files
from shared.runtime.loading import SettingsError, folder, load, load_texts
from shared.runtime.metrics import Metrics
from shared.runtime.settings import Settings

LOOK_S: Final = 2.0
#: Of what changed, so many settings are named on mail.events.
_NAMED: Final = 1000
#: What a process has from its own files alone: how it reaches Kafka, where it is reached, what it says.
_OWN: Final = ("kafka", "http", "log", "configuration")

#: What a hot section has from the start alone: the topic of bodies keeps them for that long, which is looked at when a process starts.
_AT_START: Final[Mapping[str, tuple[str, ...]]] = {"ingest": ("max_lifetime_ns",)}

Renew = Callable[[Settings], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Written:
    """What the files held at one look: their fingerprint, and the settings or what is wrong with them."""

    fingerprint: str
    settings: Settings | None
    problems: tuple[str, ...] = ()
    #: Of what was published: who, and why.
    author: str = ""
    reason: str = ""


def read(path: Path, env: Mapping[str, str]) -> Written:
    """Read and check what lies at ``path`` now."""
    mark = fingerprint(path)
    try:
        return Written(mark, load(path, env))
    except SettingsError as error:
        return Written(mark, None, tuple(error.problems))


def read_published(record: Configuration, env: Mapping[str, str], base: Path) -> Written:
    """Check what was published; relative paths start from ``base``."""
    try:
        settings = load_texts(record.files, env, base)
    except SettingsError as error:
        return Written(record.fingerprint, None, tuple(error.problems), record.author)
    return Written(record.fingerprint, settings, author=record.author, reason=record.reason)


def fingerprint(path: Path) -> str:
    """Give a hash of the names and contents of the files at ``path``; what cannot be read counts as empty."""
    found: dict[str, bytes] = {}
    for file in files.listed(path):
        try:
            found[file.name] = file.read_bytes()
        except OSError:
            found[file.name] = b""
    return fingerprint_of(found)


def fingerprint_of(contents: Mapping[str, bytes]) -> str:
    """Give a hash of files by name and content."""
    digest = hashlib.sha256()
    for name, content in sorted(contents.items()):
        digest.update(b"%d %b %d " % (len(name), name.encode(), len(content)) + content)
    return digest.hexdigest()[:16]


def differences(old: Any, new: Any, path: str = "") -> Iterator[str]:
    """Name every setting that differs, as an operator writes its path; never its value."""
    if old == new:
        return
    if dataclasses.is_dataclass(old) and type(old) is type(new):
        names = [each.name for each in dataclasses.fields(old)]
        pairs = [(name, getattr(old, name), getattr(new, name)) for name in names]
    elif isinstance(old, Mapping) and isinstance(new, Mapping):
        pairs = [(name, old.get(name), new.get(name)) for name in sorted({*old, *new})]
    else:
        yield path
        return
    for name, before, after in pairs:
        shown = files.shown(name.removesuffix("_ns"))
        yield from differences(before, after, f"{path}.{shown}" if path else shown)


def forbidden(old: Settings, new: Settings) -> list[str]:
    """Say what no change may do: a slot that was one address's is never another's, or the new one would inherit its history."""
    return [
        f"sources.{files.shown(source.name)}.slot: slot {source.slot} has been {before.name}'s, and a slot is never given to "
        "another address: take a number that was never used"
        for source in new.sources.values()
        if (before := old.source_of(source.slot)) is not None
        and (before.address, before.host) != (source.address, source.host)
    ]


def _hot(section: str, old: Settings, new: Settings) -> Any:
    """Give a section as it may be taken over."""
    before, found = getattr(old, section), getattr(new, section)
    kept = {name: getattr(before, name) for name in _AT_START.get(section, ())}
    return dataclasses.replace(found, **kept) if kept else found


@dataclass(slots=True)
class Reloading:
    """Keep one process's settings up to date."""

    path: Path
    env: Mapping[str, str]
    settings: Settings
    log: FilteringBoundLogger
    metrics: Metrics
    #: Of the files that ``settings`` were read from.
    taken: str
    look_s: float = LOOK_S
    #: Where the settings are from.
    configured: Configured = field(init=False)
    _seen: str = ""
    _published: Configuration | None = None
    _hurry: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        """Go by the own files at first."""
        self.configured = Configured(fingerprint=self.taken)

    async def run(self, hot: Collection[str], renew: Renew) -> None:
        """Look until cancelled; ``hot`` names the sections that ``renew`` can take over."""
        refused = self.metrics.gauge(
            "config_refused",
            "1 while the configuration on disk is refused and the last good one holds",
        )
        reloads = self.metrics.counter(
            "config_reloads", "Changed configurations that were taken over"
        )
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._hurry.set)
        while True:
            await self._pause()
            written = await self._look()
            if written is None:
                continue
            self.taken = written.fingerprint
            problems = written.problems
            if written.settings is not None:
                problems = tuple(forbidden(self.settings, written.settings))
            refused.set(bool(problems))
            if written.settings is None or problems:
                self.log.error("config_refused", problems=list(problems), fingerprint=self.taken)
            elif await self._take_over(written, written.settings, hot, renew):
                reloads.inc()

    def begin(self, published: Configuration | None) -> None:
        """Go by what was published, from the start; raises SettingsError."""
        if published is None:
            self.log.warning("config_not_published")
            return
        written = read_published(published, self.env, folder(self.path))
        if written.settings is None:
            raise SettingsError([f"mail.control: {problem}" for problem in written.problems])
        own = {name: getattr(self.settings, name) for name in _OWN}
        self.settings = dataclasses.replace(written.settings, **own)
        self.taken = written.fingerprint
        self.configured = Configured(
            fingerprint=self.taken, author=published.author, reason=published.reason
        )

    def hear(self, stamp_ns: int, record: Control) -> None:
        """Take what is published while the service runs (a listener of the control feed)."""
        del stamp_ns
        if isinstance(record, Configuration) and self._follows_control:
            self._published = record
            self._hurry.set()

    @property
    def _follows_control(self) -> bool:
        return self.settings.configuration.follow == "control"

    async def _look(self) -> Written | None:
        """Give what is new and stands still; None: nothing."""
        if self._follows_control:
            published, self._published = self._published, None
            if published is None or published.fingerprint == self.taken:
                return None
            return await asyncio.to_thread(read_published, published, self.env, folder(self.path))
        now = await asyncio.to_thread(fingerprint, self.path)
        stable, self._seen = now == self._seen, now
        if now == self.taken or not stable:
            return None
        return await asyncio.to_thread(read, self.path, self.env)

    async def _take_over(
        self, written: Written, new: Settings, hot: Collection[str], renew: Renew
    ) -> bool:
        """Take the hot sections over, and name what needs a restart; False: nothing that holds has changed."""
        old = self.settings
        if self._follows_control:
            new = dataclasses.replace(new, **{name: getattr(old, name) for name in _OWN})
        sections = {name: _hot(name, old, new) for name in hot}
        self.settings = dataclasses.replace(old, **sections)
        changed = list(differences(old, self.settings))
        waiting = list(differences(self.settings, new))
        if changed:
            self.configured = Configured(
                fingerprint=self.taken,
                author=written.author,
                reason=written.reason,
                changed=tuple(changed[:_NAMED]),
            )
            await renew(self.settings)
            self.log.info(
                "config_reloaded",
                changed=changed,
                fingerprint=self.taken,
                author=written.author,
                reason=written.reason,
            )
        if waiting:
            self.log.warning("config_needs_restart", settings=waiting, fingerprint=self.taken)
        return bool(changed)

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(self.look_s):
                await self._hurry.wait()
        except TimeoutError:
            pass
        self._hurry.clear()
