"""The room of one pod on this machine: a folder, ports, an environment.

What is mounted lies in a folder of the pod's own, and every path and port of the pod is another one here, in commands, environment and
mounted texts alike: pods share one network. ConfigMaps and Secrets are mounted as Kubernetes mounts them, as a link to a folder that is
swapped as a whole.
"""

import os
import re
import secrets
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.support.chart import Manifest
from tests.support.nursery import ROOT
from tests.support.stack import free_port

#: The resolver's, which is for its own pod alone, and which no spec names.
_LOOPBACK: Final = 5335
#: What a pod has from its image: here that is this machine.
_MACHINE: Final = {"PATH": f"{os.environ['PATH']}:/usr/sbin", "PYTHONPATH": str(ROOT)}

Spec = Mapping[str, Any]
#: Gives the files of a ConfigMap or a Secret (kind, name); None: there is none.
Files = Callable[[str, str], Mapping[str, bytes] | None]


@dataclass(slots=True)
class Room:
    """Where the things of a pod are."""

    manifest: Manifest
    directory: Path
    files: Files
    _ports: dict[int, int] = field(init=False)
    _mounted: dict[Path, Mapping[str, bytes]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Find a free port of this machine for each of the pod's."""
        named = {port["containerPort"] for port in self._of_all("ports")}
        self._ports = {number: free_port() for number in sorted(named | {_LOOPBACK})}
        self.directory.mkdir(parents=True, exist_ok=True)

    @property
    def spec(self) -> Spec:
        found: Spec = self.manifest["spec"]
        return found

    @property
    def log(self) -> Path:
        """What the containers said that come one after the other, and the first that stays."""
        return self.directory / "log"

    def _of_all(self, what: str) -> list[Spec]:
        all_ = [*self.spec.get("initContainers", ()), *self.spec["containers"]]
        return [one for container in all_ for one in container.get(what, ())]

    def port(self, which: int | str) -> int:
        """Say where a port of the pod, by number or name, is on this machine."""
        if isinstance(which, int):
            return self._ports[which]
        found = (p["containerPort"] for p in self._of_all("ports") if p["name"] == which)
        return self._ports[next(found)]

    def moved(self, text: str) -> str:
        """Let paths begin in the pod's folder, and ports be those of this machine."""
        text = self.placed(text)
        numbers = "|".join(map(str, self._ports))
        return re.sub(rf"(?<!\d)({numbers})(?!\d)", lambda at: str(self._ports[int(at[0])]), text)

    def placed(self, text: str) -> str:
        """Let the paths of what is mounted begin in the pod's folder."""
        if paths := {mount["mountPath"] for mount in self._of_all("volumeMounts")}:
            longest = "|".join(map(re.escape, sorted(paths, key=len, reverse=True)))
            text = re.sub(rf"({longest})(?![\w-])", lambda at: f"{self.directory}{at[0]}", text)
        return text

    # -- what is mounted

    def mount(self) -> bool:
        """Make the folders that the containers see, and swap what has changed; False: something is not there yet."""
        volumes = {volume["name"]: volume for volume in self.spec.get("volumes", ())}
        for mount in self._of_all("volumeMounts"):
            here = self.directory / mount["mountPath"].lstrip("/")
            here.mkdir(parents=True, exist_ok=True)
            found = self._volume(volumes[mount["name"]])
            if found is None:
                return False
            if self._mounted.get(here) != found:
                self._swap(here, found)
                self._mounted[here] = found
        return True

    def _volume(self, volume: Spec) -> Mapping[str, bytes] | None:
        match volume:
            case {"configMap": {"name": name} as source}:
                found = self.files("ConfigMap", name)
            case {"secret": {"secretName": name} as source}:
                found = self.files("Secret", name)
            case {"emptyDir": _}:
                return {}
            case _:
                raise AssertionError(f"a volume that is not known here: {volume}")
        if found is None or "items" not in source:
            return found
        return {item["path"]: found[item["key"]] for item in source["items"]}

    def _swap(self, here: Path, files: Mapping[str, bytes]) -> None:
        fresh = here / f"..{secrets.token_hex(4)}"
        fresh.mkdir()
        for name, content in files.items():
            (fresh / name).write_text(self.moved(content.decode()))
            if not (here / name).is_symlink():
                (here / name).symlink_to(f"..data/{name}")
        link = here / "..data_tmp"
        link.symlink_to(fresh.name)
        link.replace(here / "..data")
        for name in self._mounted.get(here, {}).keys() - files.keys():
            (here / name).unlink()

    # -- what runs in it

    def environment(self, container: Spec) -> dict[str, str]:
        """Give what a container's processes find in their environment."""
        return _MACHINE | self.own(container)

    def own(self, container: Spec) -> dict[str, str]:
        """Give what they have from the pod."""
        # With the host's network it is the node's.
        host = self.spec["nodeName"] if self.spec.get("hostNetwork") else None
        name = host or self.manifest["metadata"]["name"]
        given = {one["name"]: self._value(one) for one in container.get("env", ())}
        return {"HOSTNAME": name} | given

    def _value(self, one: Spec) -> str:
        match one:
            case {"valueFrom": {"fieldRef": {"fieldPath": path}}}:
                # A dotted path, and the key of a map in brackets and quotes.
                head, _, key = path.removesuffix("']").partition("['")
                found: Any = self.manifest
                for step in head.split("."):
                    found = found[step]
                return str(found[key] if key else found)
            case {"value": value}:
                return self.moved(value)
            case _:
                raise AssertionError(f"a value that is not known here: {one}")

    def run(self, container: Spec, command: Sequence[str], log: Path) -> "subprocess.Popen[bytes]":
        """Start a command of a container, as the head of its processes."""
        program, *words = map(self.moved, command)
        with log.open("ab") as out:
            return subprocess.Popen(
                [sys.executable if program == "python" else program, *words],
                cwd=self.directory,
                env=self.environment(container),
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
