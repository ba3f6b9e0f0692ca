"""What the chart renders: every example passes lint and the published schemas, and is as reviewers have seen it (k8s/)."""

import json
from pathlib import Path

import pytest

from shared.runtime.loading import load
from tests.support.chart import (
    CHART,
    EXAMPLES,
    KUBERNETES,
    ROOT,
    configuration,
    example,
    manifests,
    of_kind,
    rendered,
    tool,
)

RENDERED = ROOT / "k8s" / "rendered"
HEADER = "# Rendered from helm/postyard/examples/{name}.yaml by `make chart ARGS=--accept`; change the chart, not this.\n"
#: Custom resources that the chart makes, with the fields of their specs that it uses, as their APIs publish them:
#: docs.cilium.io (egress gateway), keda.sh/docs/2.22/reference/scaledobject-spec, prometheus-operator.dev/docs/api-reference.
CUSTOM = {
    ("cilium.io/v2", "CiliumEgressGatewayPolicy"): {
        "selectors",
        "destinationCIDRs",
        "excludedCIDRs",
        "egressGateway",
    },
    ("keda.sh/v1alpha1", "ScaledObject"): {
        "scaleTargetRef",
        "minReplicaCount",
        "maxReplicaCount",
        "pollingInterval",
        "cooldownPeriod",
        "fallback",
        "advanced",
        "triggers",
    },
    ("monitoring.coreos.com/v1", "PodMonitor"): {
        "selector",
        "podTargetLabels",
        "podMetricsEndpoints",
    },
    ("monitoring.coreos.com/v1", "PrometheusRule"): {"groups"},
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_helm_lint_finds_nothing(name: str) -> None:
    done = tool("helm", "lint", "--strict", CHART, "--values", example(name))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "[ERROR]" not in done.stdout
    assert "[WARNING]" not in done.stdout


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_example_is_what_kubernetes_takes(name: str, tmp_path: Path) -> None:
    file = tmp_path / "all.yaml"
    file.write_text(rendered(name))
    done = tool("kubernetes-validate", "--strict", "--quiet", "--no-warn", "-k", KUBERNETES, file)
    assert done.returncode == 0, done.stdout + done.stderr
    for one in manifests(name):
        api = one["apiVersion"], one["kind"]
        if "." in api[0].partition("/")[0] and not api[0].partition("/")[0].endswith(".k8s.io"):
            assert set(one["spec"]) <= CUSTOM[api], api


def test_a_wrong_field_would_be_found(tmp_path: Path) -> None:
    file = tmp_path / "all.yaml"
    file.write_text(rendered("smallest").replace("serviceName:", "servicename:"))
    done = tool("kubernetes-validate", "--strict", "--quiet", "--no-warn", "-k", KUBERNETES, file)
    assert done.returncode != 0


@pytest.mark.parametrize("name", EXAMPLES)
def test_what_is_rendered_is_as_reviewed(name: str, pytestconfig: pytest.Config) -> None:
    file, text = RENDERED / f"{name}.yaml", HEADER.format(name=name) + rendered(name)
    if pytestconfig.getoption("--accept"):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    assert file.read_text() == text, "k8s/rendered is stale: make chart ARGS=--accept"


def test_every_rendering_has_its_example() -> None:
    assert {path.stem for path in RENDERED.glob("*.yaml")} == set(EXAMPLES)


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_services_take_the_mounted_configuration(name: str, tmp_path: Path) -> None:
    found = manifests(name)
    pod = {"POSTYARD_KAFKA_USERNAME": "postyard-sender"}
    settings = load(configuration(found, "postyard-config", tmp_path / "pods"), pod)
    assert settings.sources
    # The job checks and publishes the very same.
    data = of_kind("ConfigMap", found)
    assert data["postyard-apply"]["data"] == data["postyard-config"]["data"]
    # The process gives up before it is killed, and not before the last dot may be answered.
    assert settings.sender.grace_ns == 650 * 1_000_000_000
    assert settings.sender.grace_ns > settings.sender.dot_timeout_ns


def test_the_inventory_and_the_sources_name_the_same_addresses(tmp_path: Path) -> None:
    for name in EXAMPLES:
        settings = load(
            configuration(manifests(name), "postyard-config", tmp_path / name),
            {"POSTYARD_KAFKA_USERNAME": "x"},
        )
        text = example(name).read_text()
        for source in settings.sources.values():
            if source.kind == "bind" or (source.kind == "direct" and "cilium" in name):
                # Once in the inventory, once in the source.
                assert text.count(source.address) == 2, (name, source)


def test_a_changed_configuration_changes_no_pod() -> None:
    changed = json.dumps({"config": {"files": {"more.toml": '[limits.gmail]\nrate = "100/min"\n'}}})
    before, after = manifests("smallest"), manifests("smallest", changed)
    differing = [
        (one["kind"], one["metadata"]["name"])
        for one, other in zip(before, after, strict=True)
        if one != other
    ]
    assert sorted(differing) == [("ConfigMap", "postyard-apply"), ("ConfigMap", "postyard-config")]


def test_what_is_read_once_rolls_the_pods() -> None:
    after = manifests("smallest", json.dumps({"kafka": {"bootstrap": "other:9092"}}))
    before = manifests("smallest")
    marks = [
        {
            one["spec"]["template"]["metadata"]["annotations"]["checksum/chart-config"]
            for one in found
            if one["kind"] in ("Deployment", "StatefulSet")
        }
        for found in (before, after)
    ]
    assert len(marks[0]) == len(marks[1]) == 1
    assert marks[0] != marks[1]


def test_the_dockerfile_is_clean() -> None:
    done = tool("hadolint", ROOT / "Dockerfile")
    assert (done.returncode, done.stdout) == (0, "")


def test_the_image_has_what_the_pods_run() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    for name in EXAMPLES:
        text = rendered(name)
        for program, package in (
            ("/usr/sbin/unbound", "unbound"),
            ("/usr/sbin/haproxy", "haproxy"),
        ):
            assert program not in text or f" {package}" in dockerfile
    assert "python -m services" not in dockerfile.partition("CMD")[0]
