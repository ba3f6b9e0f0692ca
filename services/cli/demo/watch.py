"""Show the view until everything has ended: a table that is drawn anew in a terminal, lines elsewhere."""

import contextlib
from typing import Final

from rich.console import Console
from rich.live import Live

from services.cli.demo.patience import Patience
from services.cli.demo.stage import Stage
from services.cli.demo.view import View
from shared.runtime.clock import Clock

_LOOK_S: Final = 0.5
_LINE_S: Final = 5.0
#: How long nothing may come after the last message ended, so that what should not come has had its chance to.
_QUIET_S: Final = 2.0


def watch(console: Console, stage: Stage, clock: Clock, count: int, seconds: float) -> bool:
    """Watch until ``count`` deliveries have ended, for at most ``seconds``; raises StageError when a process ends."""
    view, patience, next_line = View(), Patience(seconds), Patience(0)
    quiet: Patience | None = None
    live = Live(view.table(), console=console, auto_refresh=False) if console.is_terminal else None
    with live if live is not None else contextlib.nullcontext():
        while patience.left_s:
            stage.check()
            view.look(stage.metrics("scheduler"), clock.mono_ns())
            if live is not None:
                live.update(view.table(), refresh=True)
            elif not next_line.left_s:
                console.print(view.line(), highlight=False, soft_wrap=True)
                next_line = Patience(_LINE_S)
            if view.now.ended < count:
                quiet = None
            elif quiet is None:
                quiet = Patience(_QUIET_S)
            elif not quiet.left_s:
                return True
            Patience(_LOOK_S).until(lambda: False)
    return False
