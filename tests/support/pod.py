"""A pod as processes of this machine, from its manifest alone, whoever keeps that: a rendered chart or an API server.

No container runs. Commands, environment, mounts, probes, restarts and signals are as the spec says; what is not played is the image, users
and capabilities, the read-only root, limits of resources and the network.

A thread lives the pod's life: its volumes, the containers that come first, sidecars, the containers with their probes and restarts, and at
the end the pause before SIGTERM, SIGTERM, the grace period, SIGKILL, sidecars last. ``report`` hears each new status, in that thread.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.support.chart import Manifest
from tests.support.container import Container, Restart, rfc3339
from tests.support.podroom import Room, Spec
from tests.support.probe import asked, get

_TURN_S: Final = 0.1
_SYNC_S: Final = 1.0


@dataclass(slots=True)
class Pod:
    """One pod; it runs from ``start`` on."""

    room: Room
    report: Callable[["Pod", Spec], None] = lambda pod, status: None
    phase: str = "Pending"
    #: What went wrong with the play itself.
    broken: BaseException | None = None
    #: From its being told to stop until its last process was gone.
    drained_s: float | None = None
    first: list[Container] = field(init=False)
    containers: list[Container] = field(init=False)
    _initialized: bool = False
    _asked_to_stop: threading.Event = field(default_factory=threading.Event)
    _grace_s: float = field(init=False)
    _began_at: str = field(default_factory=rfc3339)
    _said: Spec = field(default_factory=dict)
    _conditions: dict[str, Spec] = field(default_factory=dict)
    _thread: threading.Thread = field(init=False)

    def __post_init__(self) -> None:
        """Prepare the containers."""
        spec = self.room.spec
        policy: Restart = spec.get("restartPolicy", "Always")
        once: Restart = "Never" if policy == "Never" else "OnFailure"
        self._grace_s = spec.get("terminationGracePeriodSeconds", 30)
        self.first = [self._made(c, c.get("restartPolicy", once)) for c in spec.get("initContainers", ())]  # fmt: skip
        self.containers = [self._made(one, policy) for one in spec["containers"]]
        self._thread = threading.Thread(target=self._live_or_break, name=self.name, daemon=True)

    def _made(self, spec: Spec, restart: Restart) -> Container:
        room = self.room
        beside = spec.get("restartPolicy") == "Always" or spec in room.spec["containers"][1:]
        log = room.log.with_name(f"log-{spec['name']}") if beside else room.log
        return Container(
            spec,
            restart,
            launch=lambda: room.run(spec, spec["command"], log),
            ask=lambda probe: asked(probe, room.port, lambda words: room.run(spec, words, log)),
            grace_s=self._grace_s,
        )

    @property
    def manifest(self) -> Manifest:
        return self.room.manifest

    @property
    def name(self) -> str:
        return str(self.manifest["metadata"]["name"])

    @property
    def uid(self) -> str:
        return str(self.manifest["metadata"]["uid"])

    @property
    def restarts(self) -> int:
        return sum(one.restarts for one in (*self.first, *self.containers))

    @property
    def codes(self) -> list[int | None]:
        """Give the containers' exit codes; None: it never ended."""
        return [one.code for one in self.containers]

    @property
    def over(self) -> bool:
        """Say whether its life has ended."""
        return not self._thread.is_alive()

    @property
    def log(self) -> Path:
        return self.room.log

    # -- what its life is made of

    def start(self) -> None:
        """Begin its life."""
        self._thread.start()

    def _live_or_break(self) -> None:
        try:
            self._live()
        except BaseException as error:  # noqa: BLE001 - told to whoever looks after the pod
            self.broken = error
        finally:
            for one in (*self.containers, *self.first):
                one.kill()

    def _live(self) -> None:
        if self._begin():
            self._go_on()
        if self._asked_to_stop.is_set():
            self._end()

    def _begin(self) -> bool:
        """Go through what comes first; False: it failed, or the pod is to stop."""
        while not self.room.mount():
            if self._pause(_SYNC_S):
                return False
        for one in self.first:
            one.start()
            while not (one.over or (one.sidecar and one.started)):
                if self._pause(_TURN_S):
                    return False
                self._step(self.first)
            if one.over and one.code != 0:
                self._finish("Failed")
                return False
        self._initialized = True
        return True

    def _go_on(self) -> None:
        self.phase, synced = "Running", time.monotonic()
        for one in self.containers:
            one.start()
        while not all(one.over for one in self.containers):
            if self._pause(_TURN_S):
                return
            self._step([*self.first, *self.containers])
            if time.monotonic() > synced + _SYNC_S:
                self.room.mount()
                synced = time.monotonic()
        self._end()

    def _end(self) -> None:
        """Stop what runs: the containers together, then the sidecars, the last one first."""
        now = time.monotonic()
        for group in (self.containers, *([one] for one in reversed(self.first))):
            running = [one for one in group if one.process is not None]
            for one in running:
                one.stop(now, now + self._grace_s)
            while not all(one.over for one in running):
                self._step([*self.first, *self.containers])
                self._say()
                time.sleep(_TURN_S)
        self.drained_s = time.monotonic() - now
        self._finish("Succeeded" if set(self.codes) == {0} else "Failed")

    def _finish(self, phase: str) -> None:
        self.phase = phase
        self._say()

    def _step(self, containers: list[Container]) -> None:
        now = time.monotonic()
        for one in containers:
            if one.process is not None or one.code is not None:
                one.step(now)

    def _pause(self, seconds: float) -> bool:
        """Say how it is, and wait a little; True: the pod is to stop."""
        self._say()
        return self._asked_to_stop.wait(seconds)

    # -- what is said of it

    def _say(self) -> None:
        said = {
            "phase": self.phase,
            "startTime": self._began_at,
            "conditions": self._all_conditions(),
            "initContainerStatuses": [one.status() for one in self.first],
            "containerStatuses": [one.status() for one in self.containers],
        }
        if said != self._said:
            self._said = said
            self.report(self, said)

    def _all_conditions(self) -> list[Spec]:
        beside = [one for one in self.first if one.sidecar]
        ready = self._initialized and all(one.ready for one in (*self.containers, *beside))
        holds = {
            "PodReadyToStartContainers": True,
            "Initialized": self._initialized,
            "ContainersReady": ready,
            "Ready": ready,
        }
        for type_, so in holds.items():
            status = str(so)
            if self._conditions.get(type_, {}).get("status") != status:
                self._conditions[type_] = {"type": type_, "status": status, "lastTransitionTime": rfc3339()}  # fmt: skip
        return list(self._conditions.values())

    # -- talking to it

    def stop(self, grace_s: float | None = None) -> None:
        """Ask it to stop; ``grace_s``: what its deletion says, where that is not its spec's."""
        if grace_s is not None:
            self._grace_s = grace_s
        self._asked_to_stop.set()

    def delete(self) -> float:
        """Ask it to stop, as Kubernetes does, and give the seconds that it took; it may not need to be killed."""
        began = time.monotonic()
        self.stop()
        self._thread.join(self._grace_s + 10)
        assert self.over
        assert set(self.codes) == {0}, (self.codes, self.tail())
        return time.monotonic() - began

    def complete(self) -> None:
        """Wait until it has done its work; what fails fails it."""
        self._thread.join(60)
        assert self.phase == "Succeeded", (self.codes, self.tail())

    def discard(self) -> None:
        """End it at once."""
        self.stop(0)
        self._thread.join(30)
        if self.broken is not None:
            raise self.broken

    def tail(self) -> str:
        log = self.room.log
        return log.read_text()[-4000:] if log.exists() else ""

    def get(self, path: str) -> tuple[int, str]:
        """Give status and text of a page; 0: nobody answers."""
        return get(self.room.port("metrics"), path)

    def ask(self, probe: str) -> tuple[int, str]:
        """Ask what the probe would, and give the answer's words."""
        return self.get(self.room.spec["containers"][0][probe]["httpGet"]["path"])

    def metric(self, name: str) -> float:
        """Add up what it measures under names that begin so."""
        lines = self.get("/metrics")[1].splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))

    def until(self, said: str, seconds: float = 60) -> None:
        """Wait until it is ready, and says this; it may not be started again meanwhile."""
        end = time.monotonic() + seconds
        while (answer := self.ask("readinessProbe"))[0] != 200 or said not in answer[1]:
            assert self.restarts == 0, self.tail()
            assert not self.over, (self.broken, self.tail())
            assert time.monotonic() < end, (self.name, answer, self.tail())
            time.sleep(0.1)
