"""One release of the chart in a namespace of its own: helm and kubectl as an operator types them, and what the API server then holds."""

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from tests.k8s.node import Nodes
from tests.support.chart import CHART
from tests.support.pod import Pod

NAME: Final = "postyard"
#: Rollouts that need not be waited for.
QUICK: Final[Any] = {
    "ingest": {"replicas": 1, "minReadySeconds": 0},
    "scheduler": {"replicas": 2, "minReadySeconds": 0},
    "senders": {"minReadySeconds": 0},
    "hook": {"backoffLimit": 0},
}
_WAIT_S: Final = 180
#: Kubernetes's own, in every namespace; and the record of what happened.
_NOT_OURS: Final = ("configmap/kube-root-ca.crt", "serviceaccount/default")
_EVENTS: Final = ("events", "events.events.k8s.io")


@dataclass(slots=True)
class Release:
    """A release, installed or not."""

    nodes: Nodes
    namespace: str

    # -- what an operator types

    def helm(self, *words: str, values: str | None = None, right: bool = True) -> subprocess.CompletedProcess[str]:  # fmt: skip
        """Run helm on this release; ``values``: all of them; ``right``: it must succeed, else it must fail."""
        verb, *more = words
        chart = [NAME, str(CHART), "--values", "-"] if values is not None else [NAME]
        wait = ["--wait", "--timeout", f"{_WAIT_S}s"] if verb not in ("history", "get") else []
        done = self.nodes.plane.run(
            "helm", verb, *chart, *more, *wait, "--namespace", self.namespace, stdin=values or ""
        )
        self.nodes.check()
        assert (done.returncode == 0) == right, f"{done.stdout}\n{done.stderr}\n{self.state()}"
        return done

    def kubectl(self, *words: str, right: bool = True, stdin: str = "") -> subprocess.CompletedProcess[str]:  # fmt: skip
        """Run kubectl in the namespace."""
        done = self.nodes.plane.run("kubectl", "--namespace", self.namespace, *words, stdin=stdin)
        self.nodes.check()
        assert (done.returncode == 0) == right, f"{done.stdout}\n{done.stderr}"
        return done

    # -- what is there

    def objects(self, kind: str) -> dict[str, dict[str, Any]]:
        """Give the objects of a kind by name, as the API server holds them."""
        found = json.loads(self.kubectl("get", kind, "-o", "json").stdout)["items"]
        return {one["metadata"]["name"]: one for one in found}

    def everything(self) -> set[str]:
        """Name every object of the namespace, whatever its kind, but what Kubernetes puts into each."""
        kinds = self.kubectl("api-resources", "--namespaced", "--verbs=list", "-o", "name")
        asked = ",".join(kind for kind in kinds.stdout.split() if kind not in _EVENTS)
        return set(self.kubectl("get", asked, "-o", "name").stdout.split()) - set(_NOT_OURS)

    def pods(self, component: str) -> dict[str, Pod]:
        """Give the pods of a component that are there and not about to go, as processes."""
        labels = f"app.kubernetes.io/component={component}"
        found = json.loads(self.kubectl("get", "pods", "-l", labels, "-o", "json").stdout)["items"]
        staying = [one for one in found if "deletionTimestamp" not in one["metadata"]]
        known = self.nodes.pods
        return {one["metadata"]["name"]: known[one["metadata"]["uid"]] for one in staying if one["metadata"]["uid"] in known}  # fmt: skip

    def lives(self) -> dict[str, tuple[str, int]]:
        """Give uid and restarts of each pod: who is still the one it was."""
        return {
            name: (
                one["metadata"]["uid"],
                sum(c["restartCount"] for c in one["status"].get("containerStatuses", ())),
            )
            for name, one in self.objects("pods").items()
        }

    def scale(self, name: str, replicas: int) -> None:
        """Scale a StatefulSet as an operator does; it does not wait."""
        self.kubectl("scale", "statefulset", name, f"--replicas={replicas}")

    def until_ready(self, name: str, replicas: int) -> None:
        """Wait until a StatefulSet has so many pods, all ready, and no other."""

        def so() -> bool:
            status = self.objects("statefulsets")[name]["status"]
            return (status["replicas"], status.get("readyReplicas", 0)) == (replicas, replicas)

        self.until(so)

    def until(self, so: Callable[[], bool], seconds: float = 90) -> None:
        """Wait until it is so."""
        end = time.monotonic() + seconds
        while not so():
            self.nodes.check()
            assert time.monotonic() < end, self.state()
            time.sleep(0.3)

    def state(self) -> str:
        """Say how it stands, for whoever has to find out why."""
        run = self.nodes.plane.run
        where = ("--namespace", self.namespace)
        said = [run("kubectl", *where, "get", "pods,jobs,sts,deploy", "-o", "wide").stdout]
        said.append(
            run("kubectl", *where, "get", "events", "--sort-by=.lastTimestamp").stdout[-3000:]
        )
        pods = self.nodes.of(self.namespace, gone=True).values()
        said += [f"--- {pod.name} {pod.phase} {pod.codes}\n{pod.tail()[-1500:]}" for pod in pods]
        return "\n".join(said)


@contextmanager
def namespace(nodes: Nodes, name: str, *, level: str = "restricted") -> Iterator[Release]:
    """Give a release that is not installed yet, in a namespace with this Pod Security standard; both go at the end."""
    api = nodes.plane.api
    labels = {"pod-security.kubernetes.io/enforce": level}
    api.create("/api/v1/namespaces", {"metadata": {"name": name, "labels": labels}})
    release = Release(nodes, name)
    release.until(lambda: "default" in release.objects("serviceaccounts"))
    try:
        yield release
    finally:
        nodes.plane.run("helm", "uninstall", NAME, "--namespace", name, "--no-hooks")
        for pod in nodes.of(name).values():
            pod.stop(0)
        api.delete(f"/api/v1/namespaces/{name}", {"propagationPolicy": "Background"})
