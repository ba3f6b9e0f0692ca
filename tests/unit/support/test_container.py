"""The kubelet of the tests: what it says of a container must be so, or nothing that is tried on it means anything."""

import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support.container import Container, Restart
from tests.support.pod import Pod
from tests.support.podroom import Room
from tests.support.probe import Probe

SAID: dict[str, Any] = {"name": "one", "image": "here"}


class Asked:
    """Answers of a probe, one after the other; the last one goes on."""

    def __init__(self, *answers: bool) -> None:
        self.answers = list(answers)

    def __call__(self, _: Mapping[str, Any]) -> bool:
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@pytest.fixture
def made() -> Iterator[Callable[..., Container]]:
    all_: list[Container] = []

    def make(command: str, restart: Restart = "Always", ask: Asked | None = None, **spec: Any) -> Container:  # fmt: skip
        def launch() -> "subprocess.Popen[bytes]":
            return subprocess.Popen(["sh", "-c", command], start_new_session=True)

        all_.append(Container(SAID | spec, restart, launch, ask or Asked(True), grace_s=1))
        all_[-1].start()
        return all_[-1]

    yield make
    for one in all_:
        one.kill()
        if one.process is not None:
            one.process.wait(10)


def turned(container: Container, so: Callable[[Container], bool]) -> None:
    end = time.monotonic() + 20
    while not so(container):
        assert time.monotonic() < end, container.status()
        container.step(time.monotonic())
        time.sleep(0.01)


def test_a_probe_fails_after_so_many_in_a_row_and_is_asked_once_in_a_period() -> None:
    probe = Probe({"periodSeconds": 5, "failureThreshold": 2, "initialDelaySeconds": 3}, since=100)
    ask = Asked(False, True, False, False, True)
    assert [probe.look(100 + at, ask) for at in (0, 2.9)] == [None, None]
    assert [probe.look(103 + at, ask) for at in (0, 4.9, 5, 10, 15, 20)] == [None, None, True, None, False, True]  # fmt: skip


def test_what_ends_is_started_again_at_once_and_then_after_a_pause(made: Callable[..., Container]) -> None:  # fmt: skip
    one = made("exit 3")
    turned(one, lambda c: c.restarts == 1)
    before = time.monotonic()
    turned(one, lambda c: c.process is None)
    assert one.status()["lastState"]["terminated"]["exitCode"] == 3
    assert one.status()["state"] == {"waiting": {"reason": "CrashLoopBackOff"}}
    assert one._again_at >= before + 10
    one.step(one._again_at - 0.1)
    assert one.restarts == 1
    one.step(one._again_at)
    assert one.restarts == 2


@pytest.mark.parametrize(
    ("restart", "command", "over"),
    [("Never", "exit 3", True), ("OnFailure", "exit 0", True), ("OnFailure", "exit 3", False)],
)
def test_a_job_ends_as_its_pod_says(made: Callable[..., Container], restart: Restart, command: str, over: bool) -> None:  # fmt: skip
    one = made(command, restart)
    turned(one, lambda c: c.over or c.restarts == 1)
    assert one.over is over


def test_it_is_not_ready_before_it_has_started(made: Callable[..., Container]) -> None:
    probes = {"startupProbe": {"periodSeconds": 0}, "readinessProbe": {"periodSeconds": 0}}
    one = made("sleep 60", ask=Asked(False, True, False, True), **probes)
    one.step(time.monotonic())
    assert (one.started, one.ready) == (False, False)
    one.step(time.monotonic())
    assert (one.started, one.ready) == (True, False)
    turned(one, lambda c: c.ready)


def test_one_that_does_not_live_is_told_to_stop_and_started_again(made: Callable[..., Container]) -> None:  # fmt: skip
    probes = {"livenessProbe": {"periodSeconds": 0, "failureThreshold": 2}}
    one = made("sleep 60", ask=Asked(False), **probes)
    turned(one, lambda c: c.restarts == 1)
    assert one.code == -15


def test_who_does_not_listen_is_killed_with_all_that_it_started(
    made: Callable[..., Container], tmp_path: Path
) -> None:
    child = tmp_path / "child"
    one = made(f"trap '' TERM; sleep 60 & echo $! > {child}; while true; do sleep 1; done")
    turned(one, lambda _: child.exists() and child.read_text().strip().isdecimal())
    now = time.monotonic()
    one.stop(now, now + 0.3)
    one.step(now)
    assert one.process is not None
    assert one.process.poll() is None
    turned(one, lambda c: c.over)
    assert one.code == -9
    stat = Path(f"/proc/{child.read_text().strip()}/stat")
    assert not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z"


def test_a_hook_that_would_reach_this_machine_is_refused(made: Callable[..., Container]) -> None:
    hook = {"preStop": {"exec": {"command": ["sh", "-c", "kill -USR1 1"]}}}
    one = made("sleep 60", lifecycle=hook)
    with pytest.raises(AssertionError, match="not played here"):
        one.stop(0, 1)


def test_mounted_files_follow_their_map_and_paths_and_ports_are_the_pods_own(tmp_path: Path) -> None:  # fmt: skip
    held = {"a.toml": b"port = 9464\nlog = '/etc/app/config/x'\n", "b.toml": b""}
    mount = {"name": "config", "mountPath": "/etc/app/config"}
    port = {"name": "metrics", "containerPort": 9464}
    env = [
        {"name": "UID", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['a.b/index']"}}}
    ]
    container = SAID | {"command": ["sh", "-c", "sleep 60"], "volumeMounts": [mount], "ports": [port], "env": env}  # fmt: skip
    spec = {"containers": [container], "volumes": [{"name": "config", "configMap": {"name": "c"}}]}
    metadata = {"name": "p", "uid": "u", "labels": {"a.b/index": "7"}}
    room = Room({"metadata": metadata, "spec": spec}, tmp_path / "p", lambda kind, name: held)
    assert room.mount()
    here = tmp_path / "p" / "etc/app/config"
    assert (here / "a.toml").read_text() == f"port = {room.port('metrics')}\nlog = '{here}/x'\n"
    assert room.environment(container)["UID"] == "7"
    held = {"a.toml": b"new"}
    assert room.mount()
    assert (here / "a.toml").read_text() == "new"
    assert not (here / "b.toml").exists()


def test_a_pod_whose_map_is_missing_waits_for_it(tmp_path: Path) -> None:
    found: dict[str, Mapping[str, bytes]] = {}
    mount = {"name": "config", "mountPath": "/etc/app"}
    container = SAID | {"command": ["sh", "-c", "cat /etc/app/a"], "volumeMounts": [mount]}
    spec = {
        "restartPolicy": "Never",
        "containers": [container],
        "volumes": [{"name": "config", "configMap": {"name": "c"}}],
    }
    manifest = {"metadata": {"name": "p", "uid": "u"}, "spec": spec}
    phases: list[str] = []
    room = Room(manifest, tmp_path / "p", lambda kind, name: found.get(name))
    pod = Pod(room, lambda _, status: phases.append(status["phase"]))
    pod.start()
    time.sleep(0.1)
    assert pod.phase == "Pending"
    found["c"] = {"a": b"it came"}
    pod.complete()
    assert pod.tail() == "it came"
    assert [*dict.fromkeys(phases)] == ["Pending", "Running", "Succeeded"]
