"""Whether a delivery is one that an order is about. Pure.

A selector becomes the list of what must be equal, so that looking at a million deliveries costs what it names and no more. Mail is *of* a
source where no other may send it: it is pinned to that source, or its pool has only that one.
"""

from collections.abc import Callable
from typing import Final

from shared.records.selector import Selector
from shared.records.state import DeliveryState
from shared.runtime.settings import Settings

Fits = Callable[[DeliveryState], bool]
#: What is compared with the delivery's field of the same name.
_EQUAL: Final = ("tenant", "stream", "class_", "provider", "domain")


def fits(selector: Selector, settings: Settings, before_ns: int) -> Fits:
    """Give the test for ``selector``; nothing that was accepted at ``before_ns`` or later fits."""
    if selector.accepted_before_ns is not None:
        before_ns = min(before_ns, selector.accepted_before_ns)
    equal = [
        (name, getattr(selector, name)) for name in _EQUAL if getattr(selector, name) is not None
    ]
    delivery, tag, source = selector.delivery, selector.tag, selector.source

    def test(entry: DeliveryState) -> bool:
        if entry.accepted_ns >= before_ns or (delivery is not None and entry.id != delivery):
            return False
        for name, value in equal:
            if getattr(entry, name) != value:
                return False
        if tag is not None and tag not in entry.tags:
            return False
        return source is None or only_from(entry, source, settings)

    return test


def only_from(entry: DeliveryState, source: str, settings: Settings) -> bool:
    """Say whether no other source may send ``entry``."""
    pool = settings.pools.get(entry.pool)
    if entry.pinned is not None:
        pinned = settings.source_of(entry.pinned)
        return pinned is not None and pinned.name == source
    return pool is not None and set(pool.sources) == {source}
