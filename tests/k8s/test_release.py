"""A release's life: installed, changed, scaled, upgraded, refused, rolled back, taken away."""

import json
from collections import Counter
from typing import Any

import pytest

from tests.k8s.release import QUICK, Release
from tests.support.pod import Pod
from tests.support.relays import SENDERS, values

#: A receiver that nobody asks.
NOWHERE = "127.0.0.1:1"
LIMIT = '[limits.default]\nrate = "100/min"\n'
WRONG = '[limits.default]\nrate = "fast"\n'
ANOTHER: Any = {"podAnnotations": {"another": "image"}}


def uids(release: Release) -> set[str]:
    return {uid for uid, _ in release.lives().values()}


def components(release: Release) -> Counter[str]:
    labels = (one["metadata"]["labels"] for one in release.objects("pods").values())
    return Counter(one["app.kubernetes.io/component"] for one in labels)


def hot(release: Release) -> list[Pod]:
    return [*release.pods("scheduler").values(), *release.pods("sender").values()]


@pytest.mark.timeout(600)
def test_a_release_lives_and_leaves_no_trace(release: Release, kafka: str, prefix: str) -> None:
    def said(more: str = "", **chart: Any) -> str:
        return values(kafka, prefix, NOWHERE, more=more, **QUICK, **chart)

    assert release.everything() == set()
    release.helm("install", values=said())
    assert components(release) == {"ingest": 1, "scheduler": 2, "sender": 1}
    assert not release.objects("jobs"), "what the hook made goes with its success"
    assert all(pod.ask("livenessProbe") == (200, "ok\n") for pod in hot(release))

    # As kubectl leaves it, so it stays; and a configuration is taken over by the processes that run.
    release.scale(SENDERS, 3)
    release.until_ready(SENDERS, 3)
    before = release.lives()
    release.helm("upgrade", values=said(LIMIT))
    release.until(lambda: all(p.metric("postyard_config_reloads_total") == 1 for p in hot(release)))
    assert release.lives() == before, "nobody was started again, nor sent away"
    assert {restarts for _, restarts in before.values()} == {0}

    # What needs new pods gets them; the number of senders is still kubectl's.
    release.helm("upgrade", values=said(LIMIT, **ANOTHER))
    assert components(release) == {"ingest": 1, "scheduler": 2, "sender": 3}
    assert not uids(release) & {uid for uid, _ in before.values()}

    # A configuration that is wrong changes nothing.
    lived, held = release.lives(), release.objects("configmaps")["postyard-config"]
    release.helm("upgrade", values=said(WRONG, podAnnotations={"one": "more"}), right=False)
    assert release.objects("configmaps")["postyard-config"] == held
    assert release.lives().items() >= lived.items()
    job = release.objects("jobs")["postyard-apply"]
    assert job["status"]["failed"] == 1, "it stays, to be asked why"
    (why,) = [pod for name, pod in release.nodes.of(release.namespace).items() if "apply" in name]
    assert "limits.default.rate: " in why.tail()

    # Back to before it was scaled: everything but the number.
    release.helm("rollback", "1")
    assert components(release) == {"ingest": 1, "scheduler": 2, "sender": 3}
    assert not uids(release) & {uid for uid, _ in lived.values()}
    assert "[limits.default]" not in json.dumps(release.objects("configmaps"))

    release.helm("uninstall")
    release.until(lambda: release.everything() == set(), 30)
    codes = {c for p in release.nodes.of(release.namespace, gone=True).values() if "apply" not in p.name for c in p.codes}  # fmt: skip
    assert codes == {0}, "nobody had to be killed"


@pytest.mark.timeout(300)
def test_an_install_whose_configuration_is_wrong_makes_no_service(
    release: Release, kafka: str, prefix: str
) -> None:
    release.helm("install", values=values(kafka, prefix, NOWHERE, more=WRONG, **QUICK), right=False)
    kinds = {name.partition("/")[0] for name in release.everything()}
    # The hook's, to be asked why, for a day; and helm's record that it failed.
    assert kinds == {"job.batch", "pod", "secret"}
    assert release.objects("jobs")["postyard-apply"]["spec"]["ttlSecondsAfterFinished"] == 86_400
    assert components(release) == {"apply": 1}
    release.helm("upgrade", values=values(kafka, prefix, NOWHERE, **QUICK))
    assert components(release) == {"ingest": 1, "scheduler": 2, "sender": 1}
    assert not release.objects("jobs")


@pytest.mark.timeout(400)
def test_what_an_install_began_with_stays_and_a_process_that_dies_is_started_again_in_its_pod(
    release: Release, kafka: str, prefix: str
) -> None:
    two = {"relay": {"egress": "smarthost", "initialReplicas": 2}}
    chart = values(kafka, prefix, NOWHERE, senderPools=two, **QUICK)
    release.helm("install", values=chart)
    release.until_ready(SENDERS, 2)

    # Nobody else has set the number: left out, it would become one.
    lived = release.lives()
    release.helm("upgrade", values=chart)
    assert release.lives() == lived

    name = f"{SENDERS}-1"
    uid, _ = lived[name]
    release.pods("sender")[name].containers[0].kill()
    release.until(lambda: release.lives()[name] == (uid, 1))
    release.until_ready(SENDERS, 2)
    release.pods("sender")[name].until("slots 2:", 120)

    release.scale(SENDERS, 3)
    release.until_ready(SENDERS, 3)
    release.helm("upgrade", values=chart)
    release.helm("rollback", "3")
    release.until_ready(SENDERS, 3)


def keda(release: Release) -> None:
    """Let the API server take ScaledObjects, whatever is in them: their schema is tests/chart's."""
    names = {"plural": "scaledobjects", "singular": "scaledobject", "kind": "ScaledObject"}
    anything = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {"name": "v1alpha1", "served": True, "storage": True, "schema": {"openAPIV3Schema": anything}}  # fmt: skip
    crd = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "scaledobjects.keda.sh"},
        "spec": {"group": "keda.sh", "scope": "Namespaced", "names": names, "versions": [version]},
    }
    release.kubectl("apply", "-f", "-", stdin=json.dumps(crd))
    release.kubectl("wait", "--for=condition=Established", "crd/scaledobjects.keda.sh")


def autoscaler(release: Release, least: int) -> str:
    """Give the autoscaler that KEDA makes of the pool's ScaledObject, which at the moment wants ``least``."""
    scaled = release.objects("scaledobjects")[SENDERS]["spec"]
    each = scaled["triggers"][0]["metadata"]["threshold"]
    external = {"metric": {"name": "s0-prometheus"}, "target": {"type": "AverageValue", "averageValue": each}}  # fmt: skip
    spec = {
        "scaleTargetRef": scaled["scaleTargetRef"],
        "minReplicas": least,
        "maxReplicas": scaled["maxReplicaCount"],
        "behavior": scaled["advanced"]["horizontalPodAutoscalerConfig"]["behavior"],
        "metrics": [{"type": "External", "external": external}],
    }
    what = {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler"}
    return json.dumps(what | {"metadata": {"name": f"keda-hpa-{SENDERS}"}, "spec": spec})


@pytest.mark.timeout(400)
def test_an_autoscaler_keeps_its_number_through_upgrades_and_rollbacks(
    release: Release, kafka: str, prefix: str
) -> None:
    keda(release)
    scaling = {"enabled": True, "minReplicas": 2, "maxReplicas": 4, "prometheus": "http://prometheus:9090"}  # fmt: skip
    pool = {"relay": {"egress": "smarthost", "autoscaling": scaling}}
    chart = values(kafka, prefix, NOWHERE, senderPools=pool, **QUICK)
    release.helm("install", values=chart)
    assert release.objects("scaledobjects")[SENDERS]["spec"]["minReplicaCount"] == 2
    # The real controller; without figures it keeps to its bounds.
    release.kubectl("apply", "-f", "-", stdin=autoscaler(release, 2))
    release.until_ready(SENDERS, 2)
    release.kubectl("apply", "-f", "-", stdin=autoscaler(release, 3))
    release.until_ready(SENDERS, 3)
    lived = release.lives()
    release.helm("upgrade", values=chart)
    release.helm("rollback", "1")
    assert release.lives() == lived
