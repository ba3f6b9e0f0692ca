"""The deliveries of one partition by id; those that rest are a short string of bytes each. Pure.

A million wait, a thousand are looked at in a round. So what nobody looks at is **packed**, a fifth of what its attributes would take, and
becomes a ``DeliveryState`` again when it is asked for:

    keep(entry)  ->  awake: open, or changed in this round  --rest(entry)-->  packed  --get(id)-->  lent, while somebody has it
                                     ^------------------------ keep(entry) ------------------------------|

However often it is asked for, as long as somebody has it, it is the same object: changes cannot part. Who changes one must ``keep`` it in
the same breath (``Deliveries.touch`` does): what is not kept, and had by nobody, is forgotten.

The form is private to the process and of no use to anybody else: a byte that says whether the delivery sleeps (``asleep``: a set of a
million ids would be another fifty bytes for each), then an array of the fields in their order, in which names that many share (tenant,
class, pool, provider, site, From domain, stream) are numbers. Their tables are bounded; a name that finds no room is written as it is. A
recipient's domain is left out where the address says it.
"""

from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any, Final
from weakref import WeakValueDictionary

import msgspec

from services.scheduler.policy.entries import domain_of
from shared.records.state import DeliveryState

_SHARED: Final = ("tenant", "class_", "pool", "provider", "site", "header_domain", "stream")
#: Names in one table: some megabytes, if they are long.
_NAMES: Final = 65_536
_ID, *_FIELDS = msgspec.structs.fields(DeliveryState)
_AT: Final = {field.name: at for at, field in enumerate(_FIELDS)}
_TO, _DOMAIN = _AT["to"], _AT["domain"]
_TYPES: Final = {"domain": str | None} | dict.fromkeys(_SHARED, int | str | None)
_Row: Final = msgspec.defstruct(
    "_Row",
    [(field.name, _TYPES.get(field.name, field.type)) for field in _FIELDS],
    array_like=True,
    gc=False,
)
_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(_Row).decode
_AWAKE, _ASLEEP = b"\0", b"\1"


class Entries(Mapping[str, DeliveryState]):
    """Every delivery that has no final event yet, by id."""

    def __init__(self, names: int = _NAMES) -> None:
        """Begin empty; ``names``: of each shared field, so many are kept once."""
        self._names = names
        self._awake: dict[str, DeliveryState] = {}
        #: Those that rest, and of those that are awake their last rest.
        self._packed: dict[str, bytes] = {}
        self._lent: WeakValueDictionary[str, DeliveryState] = WeakValueDictionary()
        self._count = 0
        #: Those that sleep and have not rested yet.
        self._dozing: set[str] = set()
        #: Of each field whose names are shared: where it is, its names, and their numbers.
        self._tables: list[tuple[int, list[str], dict[str, int]]] = [
            (_AT[name], [], {}) for name in _SHARED
        ]

    # -- as a mapping

    def __len__(self) -> int:
        """Count them."""
        return self._count

    def __contains__(self, id_: object) -> bool:
        """Say whether ``id_`` has no final event yet."""
        return id_ in self._awake or id_ in self._packed

    def __iter__(self) -> Iterator[str]:
        """Give the ids: first of those that have rested, in the order of their first rest."""
        return chain(self._packed, (id_ for id_ in self._awake if id_ not in self._packed))

    def living(self, ids: list[str]) -> list[str]:
        """Give those of ``ids`` that have no final event yet."""
        awake, packed = self._awake, self._packed
        return [id_ for id_ in ids if id_ in awake or id_ in packed]

    def ids(self) -> list[str]:
        """List the ids as they are now, in that order."""
        return list(self)

    def __getitem__(self, id_: str) -> DeliveryState:
        """Give one."""
        entry = self._awake.get(id_)
        return self._lend(id_, self._packed[id_]) if entry is None else entry

    def get(self, id_: str, default: Any = None) -> Any:
        """Give one, or ``default``."""
        entry = self._awake.get(id_)
        if entry is not None:
            return entry
        packed = self._packed.get(id_)
        return default if packed is None else self._lend(id_, packed)

    # -- changes

    def add(self, entry: DeliveryState) -> None:
        """Take a new one; it is awake."""
        self._count += 1
        self._awake[entry.id] = entry

    def restore(self, entry: DeliveryState) -> None:
        """Take a new one that nobody else has, or changes; it rests, unless it is open."""
        self._count += 1
        if entry.open is None:
            self._packed[entry.id] = _AWAKE + self._pack(entry)
        else:
            self._awake[entry.id] = entry

    def drop(self, id_: str) -> None:
        """Forget one."""
        self._count -= 1
        self._awake.pop(id_, None)
        if id_ in self._packed:
            del self._packed[id_]
        if self._dozing:
            self._dozing.discard(id_)

    def keep(self, entry: DeliveryState) -> None:
        """Keep an object that was changed: it is not packed before ``rest``; one that was dropped is not kept."""
        id_ = entry.id
        # What is looked at is nearly always awake.
        if self._awake.get(id_) is not entry and id_ in self:
            self._awake[id_] = entry

    def rest(self, entry: DeliveryState) -> None:
        """Pack one that was changed, unless it is open: then it is asked for soon."""
        if entry.open is None:
            flag = _ASLEEP if self.sleeps(entry.id) else _AWAKE
            self._dozing.discard(entry.id)
            self._packed[entry.id] = flag + self._pack(entry)
            self._lent[entry.id] = entry
            del self._awake[entry.id]

    # -- sleep

    def sleeps(self, id_: str) -> bool:
        """Say whether it was put to sleep, and not woken since."""
        packed = self._packed.get(id_)
        return id_ in self._dozing if packed is None else packed[:1] == _ASLEEP

    def sleeping(self, ids: list[str]) -> list[str]:
        """Give those of ``ids`` that sleep."""
        return list(filter(self.sleeps, ids))

    def sleep(self, id_: str) -> None:
        """Remember that one sleeps."""
        packed = self._packed.get(id_)
        if packed is None:
            self._dozing.add(id_)
        else:
            self._packed[id_] = _ASLEEP + packed[1:]

    def wake(self, id_: str) -> None:
        """Remember that one sleeps no longer."""
        packed = self._packed.get(id_)
        if packed is None:
            self._dozing.discard(id_)
        else:
            self._packed[id_] = _AWAKE + packed[1:]

    # -- lent

    def _lend(self, id_: str, packed: bytes) -> DeliveryState:
        entry = self._lent.get(id_)
        if entry is None:
            entry = self._lent[id_] = self._unpack(id_, packed)
        return entry

    # -- the form

    def _pack(self, entry: DeliveryState) -> bytes:
        _, *values = msgspec.structs.astuple(entry)
        for at, names, numbers in self._tables:
            name = values[at]
            number = numbers.get(name)
            if number is not None:
                values[at] = number
            elif name is not None and len(names) < self._names:
                values[at] = numbers[name] = len(names)
                names.append(name)
        if values[_DOMAIN] == domain_of(values[_TO]):
            values[_DOMAIN] = None
        return _encode(values)

    def _unpack(self, id_: str, packed: bytes) -> DeliveryState:
        values = list(msgspec.structs.astuple(_decode(packed[1:])))
        for at, names, _ in self._tables:
            number = values[at]
            if type(number) is int:
                values[at] = names[number]
        if values[_DOMAIN] is None:
            values[_DOMAIN] = domain_of(values[_TO])
        return DeliveryState(id_, *values)
