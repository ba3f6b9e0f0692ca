"""Who changed the configuration, what of it and when, on mail.events: said once, by the first partition. Pure.

What was said last is remembered in mail.state, in the transaction of the event: a restart says nothing again, and a change that came while
nobody ran is said by whoever runs next.
"""

from services.scheduler.policy.announce import configured_event
from shared.records.event import Configured, Event

_PARTITION = 0


class Audit:
    """Of one partition."""

    def __init__(self, partition: int, configured: Configured | None) -> None:
        """``configured``: what the process goes by; None: nobody asked."""
        self._now = configured if partition == _PARTITION else None
        #: The fingerprint of what was said last.
        self.said = ""

    def take(self, now_ns: int) -> list[Event]:
        """Give what is to be said."""
        if self._now is None or self._now.fingerprint == self.said:
            return []
        self.said = self._now.fingerprint
        return [configured_event(self._now, now_ns)]
