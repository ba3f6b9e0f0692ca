"""Groups as an older lane map made them: what waits in them is not granted before it has been grouped anew, a portion a round. Pure.

With other pools, or other slot groups, in the map a delivery may belong to slots that another partition decides about. To group a million
anew takes ten seconds and more, in which nothing else would be done. So the groups are set aside as they are, at once; from then on each
delivery is in exactly one of them, or where it belongs now. The smallest groups are first: of many destinations all but a few then go on
within a round or two, whatever waits for those few.
"""

from collections.abc import Collection, Iterator
from typing import cast

from services.scheduler.policy.group import Group, GroupKey


class Outdated:
    """What has not been grouped anew yet."""

    def __init__(self) -> None:
        """Begin with nothing."""
        #: By limit key, which no map changes; in it each by its own key, or by itself where one of that key is there from another map.
        self._of_key: dict[str, dict[GroupKey | Group, Group]] = {}
        #: Largest first, and of the last one those that have not been given.
        self._turn: list[Group] = []
        self._ids: list[str] = []
        self._given: Group | None = None
        self._since_ns = 0

    def __bool__(self) -> bool:
        """Say whether there is anything."""
        return bool(self._of_key)

    def set_aside(self, groups: dict[str, dict[GroupKey, Group]], now_ns: int) -> None:
        """Take groups, by limit key, as they are; nobody may put anything into them, or into the tables, any more.

        There may be tens of thousands: nothing is done to each before somebody asks for it.
        """
        for group in self._turn:
            self._mark(group)
        self._since_ns = now_ns
        for key, those in groups.items() if self._of_key else ():
            of_key = self._of_key.setdefault(key, {})
            for group in those.values():
                of_key[group if group.key in of_key else group.key] = group
        if not self._of_key:
            # A dictionary may have keys of more than one kind; this one had them of one.
            self._of_key = cast("dict[str, dict[GroupKey | Group, Group]]", groups)
        self._turn += [group for those in groups.values() for group in those.values()]
        self._turn.sort(key=lambda group: len(group.queue), reverse=True)

    def _mark(self, group: Group) -> None:
        if not group.gone:
            group.gone, group.reason, group.since_ns = True, "lane", self._since_ns
            group.queue.disorder()

    def give(self, most: int) -> Iterator[str]:
        """Take out up to ``most``, each to be put where it belongs before the next is asked for."""
        for _ in range(most):
            while not self._ids:
                self._forget()
                if not self._turn:
                    return
                self._given = self._turn.pop()
                self._mark(self._given)
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
            del of_key[group if group in of_key else group.key]
            if not of_key:
                del self._of_key[group.limit_key]

    # -- what is asked of each

    def of(self, limit_key: str, id_: str) -> Group | None:
        """Give the group that a delivery has not left yet."""
        found = next((group for group in self.of_key(limit_key) if id_ in group.queue), None)
        if found is not None:
            self._mark(found)
        return found

    def of_key(self, limit_key: str) -> Collection[Group]:
        """Give those of a limit key."""
        return self._of_key.get(limit_key, {}).values()
