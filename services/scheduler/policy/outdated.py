"""Groups as an older lane map made them: what waits in them is not granted before it has been grouped anew, a portion a round. Pure.

With other pools, or other slot groups, in the map a delivery may belong to slots that another partition decides about. To group a million
anew takes ten seconds and more, in which nothing else would be done. So the groups are set aside as they are, at once; from then on each
delivery is in exactly one of them, or where it belongs now. The smallest groups are first: of many destinations all but a few then go on
within a round or two, whatever waits for those few.
"""

from collections.abc import Collection, Iterable, Iterator

from services.scheduler.policy.group import Group


class Outdated:
    """What has not been grouped anew yet."""

    def __init__(self) -> None:
        """Begin with nothing."""
        #: By limit key, which no map changes.
        self._of_key: dict[str, dict[Group, None]] = {}
        #: Largest first, and of the last one those that have not been given.
        self._turn: list[Group] = []
        self._ids: list[str] = []
        self._given: Group | None = None

    def __bool__(self) -> bool:
        """Say whether there is anything."""
        return bool(self._of_key)

    def set_aside(self, groups: Iterable[Group], now_ns: int) -> None:
        """Take groups as they are; nobody may put anything into them any more."""
        for group in groups:
            group.gone, group.reason, group.since_ns = True, "lane", now_ns
            group.queue.disorder()
            self._of_key.setdefault(group.limit_key, {})[group] = None
            self._turn.append(group)
        self._turn.sort(key=lambda group: len(group.queue), reverse=True)

    def give(self, most: int) -> Iterator[str]:
        """Take out up to ``most``, each to be put where it belongs before the next is asked for."""
        for _ in range(most):
            while not self._ids:
                self._forget()
                if not self._turn:
                    return
                self._given = self._turn.pop()
                self._ids = self._given.queue.ids()
                self._ids.reverse()
            id_ = self._ids.pop()
            # One that ended, or was placed anew, meanwhile is not there any more.
            if self._given is not None and self._given.queue.remove(id_):
                yield id_

    def _forget(self) -> None:
        group, self._given = self._given, None
        if group is not None:
            of_key = self._of_key[group.limit_key]
            del of_key[group]
            if not of_key:
                del self._of_key[group.limit_key]

    # -- what is asked of each

    def of(self, limit_key: str, id_: str) -> Group | None:
        """Give the group that a delivery has not left yet."""
        return next((group for group in self.of_key(limit_key) if id_ in group.queue), None)

    def of_key(self, limit_key: str) -> Collection[Group]:
        """Give those of a limit key."""
        return self._of_key.get(limit_key, ())
