"""Values of records that may be wanted again: those used last, bounded by their bytes."""

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Where = TypeVar("Where", bound=Hashable)


@dataclass(slots=True)
class Kept(Generic[Where]):
    """At most ``most_bytes`` of values, and the last one in any case."""

    most_bytes: int
    #: How many bytes it holds.
    size: int = 0
    _values: OrderedDict[Where, bytes] = field(default_factory=OrderedDict)

    def __contains__(self, where: Where) -> bool:
        """Say whether the value is held."""
        return where in self._values

    def get(self, where: Where) -> bytes | None:
        """Give a value, and let it be the last to go."""
        value = self._values.get(where)
        if value is not None:
            self._values.move_to_end(where)
        return value

    def put(self, where: Where, value: bytes) -> None:
        """Hold a value, and let those go that were not used for longest."""
        self.drop(where)
        self._values[where] = value
        self.size += len(value)
        while self.size > self.most_bytes and len(self._values) > 1:
            _, dropped = self._values.popitem(last=False)
            self.size -= len(dropped)

    def drop(self, where: Where) -> None:
        """Let a value go, if it is held."""
        dropped = self._values.pop(where, None)
        if dropped is not None:
            self.size -= len(dropped)
