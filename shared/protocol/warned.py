"""What a sender does once a destination has said no to a source: it begins nothing that was granted before the scheduler knew. Pure.

A warning is named by the sender's wall clock, and grants say which one they know. Were one never heard (its outcome came too late to
count), the leases of all that was granted before end this by themselves.
"""

from dataclasses import dataclass

from shared.records.grant import Grant


@dataclass(slots=True)
class Warned:
    """The destination said no, and not about one delivery: what was granted before the scheduler heard of it must not begin."""

    at_ns: int = 0
    over_mono_ns: int = 0

    def take(self, wall_ns: int, mono_ns: int, longest_ns: int) -> int:
        """Take a warning, for ``longest_ns`` at most; gives its name, which is later than that of every one before."""
        self.at_ns = max(self.at_ns + 1, wall_ns)
        self.over_mono_ns = mono_ns + longest_ns
        return self.at_ns

    def lets(self, grant: Grant, mono_ns: int) -> bool:
        """Say whether ``grant`` may begin as far as warnings go."""
        return grant.heard_ns >= self.at_ns or mono_ns >= self.over_mono_ns
