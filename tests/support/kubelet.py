"""Pods of the chart as processes on this machine: command, environment, mounted files, probes and signals as their specs say.

No container runs: paths begin in a folder of the pod's own, and so do the paths inside of what is mounted. Ports are free ones, since
these pods share one network. ConfigMaps are mounted as Kubernetes mounts them: a link to a folder that is swapped as a whole.
"""

import os
import secrets
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.support.chart import Manifest, of_kind
from tests.support.stack import ROOT, free_port

_ROOTS: Final = ("/etc/postyard", "/run/postyard")


@dataclass(slots=True)
class Pod:
    """One pod; it runs from ``start`` on."""

    name: str
    spec: Mapping[str, Any]
    directory: Path
    port: int
    uid: str = field(default_factory=lambda: secrets.token_hex(8))
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def log(self) -> Path:
        return self.directory / "log"

    def moved(self, text: str) -> str:
        """Let paths begin in the pod's folder."""
        for root in _ROOTS:
            text = text.replace(root, f"{self.directory}{root}")
        return text

    def mount(self, found: list[Manifest]) -> None:
        """Make the folders that the containers see, or swap the files in them."""
        maps = of_kind("ConfigMap", found)
        sources = {volume["name"]: volume for volume in self.spec["volumes"]}
        for mount in self.spec["containers"][0]["volumeMounts"]:
            here, volume = self.directory / mount["mountPath"].lstrip("/"), sources[mount["name"]]
            here.mkdir(parents=True, exist_ok=True)
            if "configMap" in volume:
                self._swap(here, maps[volume["configMap"]["name"]]["data"])

    def _swap(self, here: Path, files: Mapping[str, str]) -> None:
        fresh = here / f"..{secrets.token_hex(4)}"
        fresh.mkdir()
        for name, text in files.items():
            (fresh / name).write_text(self.moved(text))
            if not (here / name).is_symlink():
                (here / name).symlink_to(f"..data/{name}")
        link = here / "..data_tmp"
        link.symlink_to(fresh.name)
        link.replace(here / "..data")

    def environment(self, container: Mapping[str, Any]) -> dict[str, str]:
        told = {"metadata.uid": self.uid, "metadata.labels['apps.kubernetes.io/pod-index']": self.name.rpartition("-")[2]}  # fmt: skip
        env = {
            one["name"]: self.moved(one["value"])
            if "value" in one
            else told[one["valueFrom"]["fieldRef"]["fieldPath"]]
            for one in container["env"]
        }
        machine = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "HOSTNAME": self.name}
        return machine | env | {"POSTYARD_HTTP_PORT": str(self.port)}

    def run(self, container: Mapping[str, Any]) -> "subprocess.Popen[bytes]":
        command: Sequence[str] = container["command"]
        assert command[0] == "python"
        self.directory.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, *map(self.moved, command[1:])],
                cwd=self.directory,
                env=self.environment(container),
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def start(self) -> None:
        (container,) = self.spec["containers"]
        self.process = self.run(container)

    def complete(self) -> None:
        """Run a job's containers, one after the other; the first that fails fails it."""
        for container in (*self.spec["initContainers"], *self.spec["containers"]):
            code = self.run(container).wait(60)
            assert code == 0, f"{container['name']}: {code}\n{self.log.read_text()}"

    def ask(self, probe: str) -> tuple[int, str]:
        """Ask what the probe would; 0: nobody answers."""
        path = self.spec["containers"][0][probe]["httpGet"]["path"]
        return self.get(path)

    def get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
                return int(answer.status), answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def until(self, said: str, seconds: float = 60) -> None:
        """Wait until it is ready, and says this."""
        end = time.monotonic() + seconds
        while (answer := self.ask("readinessProbe"))[0] != 200 or said not in answer[1]:
            assert self.process is not None
            assert self.process.poll() is None, self.log.read_text()[-3000:]
            assert time.monotonic() < end, (self.name, answer, self.log.read_text()[-3000:])
            time.sleep(0.1)

    def delete(self) -> float:
        """Ask it to stop, as Kubernetes does, and give the seconds that it took; it may not need to be killed."""
        assert self.process is not None
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(self.spec["terminationGracePeriodSeconds"]) == 0
        return time.monotonic() - began


@dataclass(slots=True)
class Kubelet:
    """The pods of one release on this machine."""

    directory: Path
    found: list[Manifest]
    pods: dict[str, Pod] = field(default_factory=dict)

    def pod(self, kind: str, name: str, ordinal: int | str) -> Pod:
        """Start one pod of a workload."""
        spec = of_kind(kind, self.found)[name]["spec"]["template"]["spec"]
        full = f"{name}-{ordinal}"
        pod = self.pods[full] = Pod(full, spec, self.directory / full, free_port())
        pod.mount(self.found)
        if kind != "Job":
            pod.start()
        return pod

    def change(self, found: list[Manifest]) -> None:
        """Let the mounted ConfigMaps of all pods be what they are now."""
        self.found = found
        for pod in self.pods.values():
            pod.mount(found)

    def stop(self) -> None:
        for pod in self.pods.values():
            if pod.process is not None and pod.process.poll() is None:
                pod.process.kill()
                pod.process.wait(10)
