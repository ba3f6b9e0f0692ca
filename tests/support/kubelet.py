"""The pods of a rendered chart on this machine: who starts them here is the test, one by one. An API server's are tests/k8s's.

Pods live as tests/support/pod.py has it.
"""

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.chart import NAMESPACE, Manifest, of_kind
from tests.support.pod import Pod
from tests.support.podroom import Files, Room

_INDEX = "apps.kubernetes.io/pod-index"


@dataclass(slots=True)
class Kubelet:
    """The pods of one release on this machine."""

    directory: Path
    found: list[Manifest]
    room: Callable[[Manifest, Path, Files], Room] = Room
    pods: dict[str, Pod] = field(default_factory=dict)

    def pod(self, kind: str, name: str, ordinal: int | str) -> Pod:
        """Start one pod of a workload, as its controller would make it."""
        room = self.placed(kind, name, ordinal)
        pod = self.pods[room.directory.name] = Pod(room)
        pod.start()
        return pod

    def placed(self, kind: str, name: str, ordinal: int | str) -> Room:
        """Give the room of such a pod."""
        template = of_kind(kind, self.found)[name]["spec"]["template"]
        full = f"{name}-{ordinal}"
        labels = template["metadata"]["labels"] | {_INDEX: str(ordinal)}
        metadata = {"name": full, "uid": secrets.token_hex(8), "namespace": NAMESPACE, "labels": labels}  # fmt: skip
        manifest = {"metadata": metadata, "spec": template["spec"] | {"nodeName": "node-1"}}
        return self.room(manifest, self.directory / full, self.files)

    def files(self, kind: str, name: str) -> Mapping[str, bytes] | None:
        """Give what a ConfigMap or a Secret of the chart holds."""
        one = of_kind(kind, self.found).get(name)
        return one and {file: text.encode() for file, text in one["data"].items()}

    def change(self, found: list[Manifest]) -> None:
        """Let ConfigMaps be what they are now; who has mounted them sees it soon."""
        self.found = found

    def stop(self) -> None:
        """End all pods at once."""
        for pod in self.pods.values():
            pod.stop(0)
        for pod in self.pods.values():
            pod.discard()
