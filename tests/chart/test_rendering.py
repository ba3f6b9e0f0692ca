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
    Manifest,
    configuration,
    example,
    manifests,
    of_kind,
    parsed,
    rendered,
    tool,
)

RENDERED = ROOT / "k8s" / "rendered"
HEADER = "# Rendered from helm/postyard/examples/{name}.yaml by `make chart ARGS=--accept`; change the chart, not this.\n"
#: Of the custom resources, as scripts/crd_schemas.py took them from what their projects publish.
SCHEMAS = ROOT / "tests" / "chart" / "schemas"
#: Give the first errors of custom resources, read from standard input as {schema file: [manifest, …]}.
JUDGE = """
import json, pathlib, sys, jsonschema
for name, found in json.load(sys.stdin).items():
    validator = jsonschema.Draft202012Validator(json.loads(pathlib.Path(name).read_text()))
    for one in found:
        for error in validator.iter_errors(one):
            print(one["kind"], one["metadata"]["name"], error.json_path, error.message[:300])
"""


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
    assert judged(manifests(name)) == ""


def judged(found: list[Manifest]) -> str:
    """Say what is wrong with custom resources; one whose schema we do not have is an error."""
    asked: dict[str, list[Manifest]] = {}
    for one in found:
        group, _, version = one["apiVersion"].rpartition("/")
        if "." in group and not group.endswith(".k8s.io"):
            file = SCHEMAS / f"{one['kind'].lower()}-{group}-{version}.json"
            asked.setdefault(str(file), []).append(one)
    done = tool("python", "-c", JUDGE, stdin=json.dumps(asked))
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_manifest_of_external_secrets_is_what_their_crd_takes() -> None:
    found = parsed((ROOT / "k8s" / "external-secrets" / "secrets.yaml").read_text())
    assert {one["kind"] for one in found} == {"ExternalSecret"}
    assert judged(found) == ""


@pytest.mark.parametrize(
    ("kind", "right", "wrong", "path"),
    [
        ("ScaledObject", "horizontalPodAutoscalerConfig", "horizontalAutoscaler", "$.spec.advanced"),
        ("PodMonitor", "podTargetLabels", "podLabels", "$.spec"),
        ("PrometheusRule", "annotations", "notes", "$.spec.groups[0].rules[0]"),
    ],
)  # fmt: skip
def test_a_field_that_a_crd_does_not_know_is_found_wherever_it_is(
    kind: str, right: str, wrong: str, path: str
) -> None:
    found = [one for one in manifests("production-strimzi") if one["kind"] == kind]
    text = json.dumps([one["spec"] for one in found])
    assert right in text
    broken = json.loads(text.replace(right, wrong))
    changed = [one | {"spec": spec} for one, spec in zip(found, broken, strict=True)]
    assert f"{path} Additional properties are not allowed ('{wrong}'" in judged(changed)


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
