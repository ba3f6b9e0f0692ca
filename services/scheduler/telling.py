"""A scheduler says in mail.control that it lives, which partitions it has, and where it can be asked; and buries what is over there.

Said every five seconds, and at once when its partitions have changed: whoever asks all of them finds out from mail.control who they are,
and from the answers whether a partition is missing. The process that has the first partition takes away the keys of directives that have
been over for an hour (nobody may order under such an id again, so nothing that stands can be buried), and of schedulers that have long
been silent. What cannot be said is said again later: nothing else depends on it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from structlog.typing import FilteringBoundLogger

from services.scheduler.worker import Worker
from shared.kafka.errors import KafkaTrouble
from shared.kafka.lasting import Lasting
from shared.protocol.control import ControlView
from shared.records.codec import encode
from shared.records.control import Answering, answering_key, control_key, directive_key
from shared.runtime.clock import Clock

_S: Final = 1_000_000_000
_EVERY_NS: Final = 5 * _S
_LOOK_S: Final = 0.5
_BURY_EVERY_NS: Final = 60 * _S
#: After its expiry, by the own clock.
_KEPT_NS: Final = 3600 * _S
_SILENT_NS: Final = 600 * _S


@dataclass(slots=True)
class Telling:
    """Speak for one process."""

    producer: Lasting
    topic: str
    clock: Clock
    log: FilteringBoundLogger
    view: ControlView
    workers: Mapping[int, Worker]
    process: str
    pod: str
    url: str
    _said: tuple[int, ...] | None = None
    _said_ns: int = 0
    _buried_ns: int = field(default=0)

    async def run(self) -> None:
        """Speak until cancelled."""
        while True:
            try:
                await self._speak()
            except KafkaTrouble as error:
                self.log.warning("answering_failed", reason=str(error))
            await self.clock.sleep(_LOOK_S)

    async def close(self) -> None:
        """Take the own key away, and stop."""
        try:
            if self._said is not None:
                await self._send(answering_key(self.pod), None)
        except KafkaTrouble as error:
            self.log.warning("answering_failed", reason=str(error))
        await self.producer.close()

    async def _speak(self) -> None:
        now, has = self.clock.mono_ns(), tuple(sorted(self.workers))
        if has != self._said or now - self._said_ns >= _EVERY_NS:
            said = Answering(process=self.process, pod=self.pod, url=self.url, partitions=has)
            await self._send(control_key(said), encode(said))
            self._said, self._said_ns = has, now
        if 0 in self.workers and now - self._buried_ns >= _BURY_EVERY_NS:
            self._buried_ns = now
            for key in list(self._over()):
                await self._send(key, None)

    def _over(self) -> Iterator[bytes]:
        now = self.clock.now_ns()
        for id_, ordered in self.view.directives.items():
            expires = ordered.order.expires_ns
            if expires is not None and expires + _KEPT_NS < now:
                yield directive_key(id_)
        for pod, member in self.view.schedulers.items():
            if self.view.log_ns - member.stamp_ns > _SILENT_NS and pod != self.pod:
                yield answering_key(pod)

    async def _send(self, key: bytes, value: bytes | None) -> None:
        producer = await self.producer.whole()
        await producer.send(self.topic, 0, value, key=key)
