"""selector: which mail an operator's order is about; all that is named must fit. Pure.

What it names of a delivery never changes, but for the provider (known once the domain is resolved) and the source. ``accepted_before_ns``
is a moment and no age, so that it means the same mail to everybody, whenever it is read.
"""

import msgspec

from shared.records.codec import Natural
from shared.records.times import rfc3339


class Selector(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Name mail; a field that is absent fits all."""

    tenant: str | None = None
    stream: str | None = None
    tag: str | None = None
    class_: str | None = msgspec.field(name="class", default=None)
    provider: str | None = None
    #: The recipient's, as an A-label in lower case.
    domain: str | None = None
    source: str | None = None
    accepted_before_ns: Natural | None = None
    delivery: str | None = None

    def __str__(self) -> str:
        """Write it as it is shown, and as it names a standing order."""
        named = [
            f"{name}={value}"
            for name, value in msgspec.structs.asdict(self).items()
            if value is not None and name != "accepted_before_ns"
        ]
        if self.accepted_before_ns is not None:
            named.append(f"accepted before {rfc3339(self.accepted_before_ns)}")
        return ",".join(named).replace("class_=", "class=")

    def __bool__(self) -> bool:
        """Say whether it names anything."""
        return bool(str(self))

    @property
    def named(self) -> frozenset[str]:
        """Name the fields that are given."""
        return frozenset(
            name for name, value in msgspec.structs.asdict(self).items() if value is not None
        )
