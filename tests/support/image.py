"""The image that scripts/image has made of the Dockerfile: programs in its root, and pods whose containers run there as their spec says."""

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from scripts.image.layers import Mount, Root, User
from tests.support.podroom import Room, Spec


@dataclass(frozen=True, slots=True)
class Image:
    """What a container runtime would know of it."""

    root: Root
    #: The layer with the tests' packages, which is no part of it.
    tests: Path
    python: str
    env: Mapping[str, str]
    workdir: str
    user: User
    command: Sequence[str]

    @classmethod
    def read(cls, directory: Path) -> Self:
        """Read what ``make image-test`` has written."""
        said: dict[str, Any] = json.loads((directory / "image.json").read_text())
        uid, gid = map(int, said["user"].split(":"))
        layers = [Path(layer) for layer in said["layers"]]
        return cls(
            Root(layers, Path(said["root"])),
            Path(said["tests"]),
            said["python"],
            said["env"],
            said["workdir"],
            User(uid, gid, gid),
            said["command"],
        )

    def run(
        self,
        *words: str,
        mounts: Sequence[Mount] = (),
        env: Mapping[str, str] | None = None,
        seconds: float = 60,
    ) -> "subprocess.CompletedProcess[str]":
        """Run a command as a container of the chart would: its user, no capability, a root that nobody may write."""
        command = self.root.command(
            words, workdir=self.workdir, user=self.user, read_only=True, mounts=mounts
        )
        return subprocess.run(
            command,
            env=dict(self.env) | dict(env or {}),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=seconds,
        )


@dataclass(slots=True)
class ImageRoom(Room):
    """A pod's room whose containers have the image's root; only ports are other ones than the spec's, for the network is the machine's."""

    image: Image | None = None

    def placed(self, text: str) -> str:
        return text

    def environment(self, container: Spec) -> dict[str, str]:
        assert self.image is not None
        return dict(self.image.env) | self.own(container)

    def run(self, container: Spec, command: Sequence[str], log: Path) -> "subprocess.Popen[bytes]":
        """Start it as its and its pod's security context and mounts say."""
        return self.start(container, command, log)

    def start(self, container: Spec, command: Sequence[str], log: Path, *, alone: bool = False) -> "subprocess.Popen[bytes]":  # fmt: skip
        """Start it; ``alone``: as process 1 of its own numbering, as in a pod."""
        assert self.image is not None
        pod, own = self.spec["securityContext"], container["securityContext"]
        assert own["capabilities"] == {"drop": ["ALL"]}
        assert own["allowPrivilegeEscalation"] is False
        volumes = {volume["name"]: volume for volume in self.spec.get("volumes", ())}
        mounts = []
        for mount in container.get("volumeMounts", ()):
            here = self.directory / mount["mountPath"].lstrip("/")
            writable = "emptyDir" in volumes[mount["name"]] and not mount.get("readOnly")
            if writable:
                # As the kubelet makes them: for everybody, and what is in it belongs to the pod's group.
                os.chown(here, 0, pod["fsGroup"])
                here.chmod(0o2777)
            mounts.append(Mount(here, mount["mountPath"], writable))
        words = self.image.root.command(
            list(map(self.moved, command)),
            workdir=container.get("workingDir", self.image.workdir),
            user=User(pod["runAsUser"], pod["runAsGroup"], pod["fsGroup"]),
            read_only=own["readOnlyRootFilesystem"],
            mounts=mounts,
            alone=alone,
        )
        with log.open("ab") as out:
            return subprocess.Popen(
                words,
                env=self.environment(container),
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
