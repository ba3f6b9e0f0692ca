"""Keep lines back outside of their send windows: the stream's, else the tenant's for the class, else the class's. Pure.

What waits for a window uses no attempt, and is released evenly when it opens. What was granted before it closes may still begin
within its lease.
"""

from services.scheduler.policy.lines import Check, Line, Shut
from shared.runtime.settings import Settings
from shared.runtime.windows import Standing, Window


class Windows:
    """The gate of send windows."""

    def __init__(self, settings: Settings) -> None:
        """Look at what the settings say of classes, tenants and streams."""
        self._classes = {name: each.window for name, each in settings.classes.items()}
        self._tenants = settings.tenants
        said = [*self._classes.values()]
        for tenant in settings.tenants.values():
            said += [*tenant.windows.values(), *(each.window for each in tenant.streams.values())]
        self._any = any(window is not None for window in said)
        self._standing: dict[Window, Standing] = {}

    @property
    def shuts(self) -> bool:
        """Say whether anybody has a window (``lines.Gate``)."""
        return self._any

    def at(self, limit_key: str, provider: str | None) -> Check | None:
        """Give the check; it is the same wherever the mail goes."""
        del limit_key, provider
        return self._check if self._any else None

    def _check(self, line: Line, now_ns: int) -> Shut | None:
        window = self._of(line)
        if window is None:
            return None
        standing = self._standing.get(window)
        if standing is None or now_ns >= standing.until_ns:
            standing = self._standing[window] = window.at(now_ns)
        return None if standing.open else Shut(standing.until_ns, "window", spread=True)

    def _of(self, line: Line) -> Window | None:
        tenant = self._tenants.get(line.tenant)
        if tenant is not None:
            stream = tenant.streams.get(line.stream)
            if stream is not None and stream.window is not None:
                return stream.window
            if line.class_ in tenant.windows:
                return tenant.windows[line.class_]
        return self._classes.get(line.class_)
