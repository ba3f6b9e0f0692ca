"""Nodes of an API server on this machine, all looked after by one kubelet: pods that are scheduled to them become processes.

The kubelet looks at the pods every fifth of a second, starts what is new, stops what is to be deleted with the grace that its deletion
gives, says how each is, and takes it away when it is gone. Pods live as tests/support/pod.py has it. What breaks in here is raised by
``check``, never hidden behind a pod that is not ready.
"""

import base64
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from tests.k8s.api import Object
from tests.k8s.plane import Plane
from tests.support.container import rfc3339
from tests.support.pod import Pod
from tests.support.podroom import Room, Spec

NODES: Final = ("node-1", "node-2", "node-3")
_ZONES: Final = 2
_TURN_S: Final = 0.2
_BEAT_S: Final = 10.0
#: Enough for everything that the chart asks for.
_CAPACITY: Final = {"cpu": "32", "memory": "64Gi", "pods": "110", "ephemeral-storage": "100Gi"}
#: The volumes' kinds, by the paths of the API.
_PATHS: Final = {"ConfigMap": "configmaps", "Secret": "secrets"}


@dataclass(slots=True)
class Nodes:
    """``with Nodes(plane, directory) as nodes: …``."""

    plane: Plane
    directory: Path
    #: By uid, also those that are gone.
    pods: dict[str, Pod] = field(default_factory=dict)
    _gone: set[str] = field(default_factory=set)
    _broken: BaseException | None = None
    _end: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread = field(init=False)

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._run, name="kubelet", daemon=True)
        self._beat(first=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join(30)
        for pod in self.pods.values():
            pod.stop(0)
        for pod in self.pods.values():
            pod.discard()

    def check(self) -> None:
        """Raise what broke."""
        broken = [self._broken, *(pod.broken for pod in self.pods.values())]
        for error in broken:
            if error is not None:
                raise error

    def of(self, namespace: str, *, gone: bool = False) -> dict[str, Pod]:
        """Give the pods of a namespace by name, the newest of each; ``gone``: those that are not there any more, too."""
        return {
            pod.name: pod
            for uid, pod in self.pods.items()
            if pod.manifest["metadata"]["namespace"] == namespace
            and (gone or uid not in self._gone)
        }

    # -- the loop

    def _run(self) -> None:
        beaten = time.monotonic()
        try:
            while not self._end.wait(_TURN_S):
                if time.monotonic() > beaten + _BEAT_S:
                    self._beat()
                    beaten = time.monotonic()
                self._turn()
        except BaseException as error:  # noqa: BLE001 - `check` raises it where the test is
            self._broken = error

    def _beat(self, *, first: bool = False) -> None:
        now = rfc3339()
        ready = {
            "type": "Ready",
            "status": "True",
            "reason": "KubeletReady",
            "lastHeartbeatTime": now,
        }
        for at, name in enumerate(NODES):
            if first:
                labels = {"kubernetes.io/hostname": name, "topology.kubernetes.io/zone": f"zone-{at % _ZONES}"}  # fmt: skip
                self.plane.api.create(
                    "/api/v1/nodes", {"metadata": {"name": name, "labels": labels}}
                )
            status = {"capacity": _CAPACITY, "allocatable": _CAPACITY, "conditions": [ready]}
            self.plane.api.patch(f"/api/v1/nodes/{name}/status", {"status": status})

    def _turn(self) -> None:
        found = self.plane.api.items("/api/v1/pods?fieldSelector=spec.nodeName!=")
        for manifest in found:
            uid = manifest["metadata"]["uid"]
            if uid not in self.pods and "deletionTimestamp" not in manifest["metadata"]:
                self._start(manifest)
            elif "deletionTimestamp" in manifest["metadata"]:
                self._stop(manifest)
        # Deleted without waiting for us.
        for uid in self.pods.keys() - {one["metadata"]["uid"] for one in found} - self._gone:
            self.pods[uid].stop(0)
            self._gone.add(uid)

    def _start(self, manifest: Object) -> None:
        metadata = manifest["metadata"]
        namespace, name, uid = (metadata[key] for key in ("namespace", "name", "uid"))
        directory = self.directory / namespace / f"{name}-{uid[:8]}"
        room = Room(manifest, directory, lambda kind, one: self._files(namespace, kind, one))
        self.pods[uid] = pod = Pod(room, self._report)
        pod.start()

    def _stop(self, manifest: Object) -> None:
        metadata = manifest["metadata"]
        pod = self.pods.get(metadata["uid"])
        if pod is None or pod.over:
            self._gone.add(metadata["uid"])
            last = {"gracePeriodSeconds": 0, "preconditions": {"uid": metadata["uid"]}}
            self.plane.api.delete(self._path(manifest), last)
        else:
            pod.stop(metadata["deletionGracePeriodSeconds"])

    def _files(self, namespace: str, kind: str, name: str) -> Mapping[str, bytes] | None:
        found = self.plane.api.get(f"/api/v1/namespaces/{namespace}/{_PATHS[kind]}/{name}")
        if found is None:
            return None
        texts = {file: text.encode() for file, text in found.get("data", {}).items()}
        if kind == "Secret":
            return {file: base64.b64decode(text) for file, text in texts.items()}
        return texts

    def _report(self, pod: Pod, status: Spec) -> None:
        at = list(self.pods.values()).index(pod)
        address = f"10.244.{at // 250}.{at % 250 + 1}"
        where = {"podIP": address, "podIPs": [{"ip": address}], "hostIP": "127.0.0.1"}
        change = {"metadata": {"uid": pod.uid}, "status": {**status, **where}}
        self.plane.api.patch(f"{self._path(pod.manifest)}/status", change)

    def _path(self, manifest: Object) -> str:
        metadata = manifest["metadata"]
        return f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}"
