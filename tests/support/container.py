"""A container of a pod as a process: started, probed, started again where its pod says so, stopped; and its status for the API."""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from subprocess import Popen
from typing import Any, Final, Literal

from tests.support.probe import Probe

#: Before it is started again: nothing the first time, then ten seconds that double, up to five minutes; ten good minutes are a new start.
_PAUSE_S: Final = 10.0
_PAUSE_MAX_S: Final = 300.0
_GOOD_S: Final = 600.0

Spec = Mapping[str, Any]
Restart = Literal["Always", "OnFailure", "Never"]


def rfc3339() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(slots=True)
class Container:
    """One container; ``step`` turns it."""

    spec: Spec
    restart: Restart
    launch: Callable[[], Popen[bytes]]
    #: Asks a probe.
    ask: Callable[[Spec], bool]
    grace_s: float
    process: Popen[bytes] | None = None
    restarts: int = 0
    #: As its startup and readiness probes have it.
    started: bool = False
    ready: bool = False
    #: It has ended and is not started again.
    over: bool = False
    #: Of the last process that ended.
    code: int | None = None
    _stopping: bool = False
    #: When its process is told to stop, and when it is killed; seconds of the monotonic clock.
    _term_at: float | None = None
    _kill_at: float | None = None
    _again_at: float = 0
    _pause_s: float = 0
    _began: float = 0
    _began_at: str = ""
    _ended: Spec = field(default_factory=dict)
    _probes: dict[str, Probe] = field(default_factory=dict)

    @property
    def sidecar(self) -> bool:
        """Say whether it comes before the others and goes on beside them."""
        return self.spec.get("restartPolicy") == "Always"

    def start(self) -> None:
        """Start a process; that it has started and is ready is to be shown."""
        self._began, self._began_at = time.monotonic(), rfc3339()
        kinds = [
            kind for kind in ("startup", "liveness", "readiness") if f"{kind}Probe" in self.spec
        ]
        self._probes = {kind: Probe(self.spec[f"{kind}Probe"], self._began) for kind in kinds}
        self._term_at = self._kill_at = None
        self.started = "startup" not in kinds
        self.ready = self.started and "readiness" not in kinds
        self.process = self.launch()

    def stop(self, now: float, until: float) -> None:
        """Let it end for good: what comes before SIGTERM, SIGTERM, and at ``until`` SIGKILL."""
        self._stopping = True
        match self.spec.get("lifecycle", {}):
            case {"preStop": {"sleep": {"seconds": seconds}}}:
                self._term_at = min(now + seconds, until)
            case {"preStop": hook}:
                # `kill 1` is a usual one, and here that is the machine's.
                raise AssertionError(f"a hook that is not played here: {hook}")
            case _:
                self._term_at = now
        self._kill_at = until

    def kill(self) -> None:
        """End every process of it."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)

    def step(self, now: float) -> None:
        """See whether it lives and what its probes say; do what is to be done about it."""
        if self.process is None:
            self.over |= self._stopping
            if not self.over and now >= self._again_at:
                self.restarts += 1
                self.start()
        elif (code := self.process.poll()) is not None:
            self.kill()  # what it leaves behind
            self._end(code, now)
        else:
            if self._term_at is not None and now >= self._term_at:
                self._term_at = None
                self.process.terminate()
            if self._kill_at is not None and now >= self._kill_at:
                self.kill()
            self._probe(now)

    def _probe(self, now: float) -> None:
        if not self.started:
            verdict = self._probes["startup"].look(now, self.ask)
            if verdict is False and not self._stopping:
                self._fail(now)
            if not verdict:
                return
            self.started, self.ready = True, "readiness" not in self._probes
        if "readiness" in self._probes:
            verdict = self._probes["readiness"].look(now, self.ask)
            self.ready = self.ready if verdict is None else verdict
        # Who is to stop, or was found not to live, is not asked again whether it lives.
        liveness = self._probes.get("liveness") if self._kill_at is None else None
        if liveness is not None and liveness.look(now, self.ask) is False:
            self._fail(now)

    def _fail(self, now: float) -> None:
        if self._kill_at is None:
            self._term_at, self._kill_at = now, now + self.grace_s

    def _end(self, code: int, now: float) -> None:
        self.process, self.code = None, code
        self.started = self.ready = False
        self._ended = {
            # As a shell has it.
            "exitCode": 128 - code if code < 0 else code,
            "reason": "Completed" if code == 0 else "Error",
            "startedAt": self._began_at,
            "finishedAt": rfc3339(),
        }
        done = self.restart == "Never" or (self.restart == "OnFailure" and code == 0)
        if self._stopping or done:
            self.over = True
            return
        if now - self._began > _GOOD_S:
            self._pause_s = 0
        self._again_at = now + self._pause_s
        self._pause_s = min(max(_PAUSE_S, 2 * self._pause_s), _PAUSE_MAX_S)

    def status(self) -> Spec:
        """Give its ContainerStatus."""
        state: dict[str, Spec]
        if self.process is not None:
            state = {"running": {"startedAt": self._began_at}}
        elif self.over and self._ended:
            state = {"terminated": self._ended}
        else:
            reason = "CrashLoopBackOff" if self._ended else "PodInitializing"
            state = {"waiting": {"reason": reason}}
        before = {} if self.over or not self._ended else {"terminated": self._ended}
        return {
            "name": self.spec["name"],
            "image": self.spec["image"],
            "imageID": self.spec["image"],
            "ready": self.ready if self.process is not None else self.over and self.code == 0,
            "started": self.started,
            "restartCount": self.restarts,
            "state": state,
            "lastState": before,
        }
