"""The manifests around the chart: what is generated is not stale, and what is written by hand fits to the example that it is for."""

import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from services.cli.__main__ import postyard
from shared.records.access import SERVICES
from shared.records.topics import Topics, declared
from tests.support.chart import CHART, ROOT, configuration, manifests, parsed

K8S = ROOT / "k8s"
EXAMPLE = "production-strimzi"
HEADER = "# Printed by `postyard {words}` for helm/postyard/examples/production-strimzi.yaml; written by `make chart ARGS=--accept`.\n"


def values() -> dict[str, Any]:
    (found,) = parsed((CHART / "examples" / f"{EXAMPLE}.yaml").read_text())
    return found


@pytest.mark.parametrize(
    ("file", "words"),
    [("users.yaml", "topics acl --as strimzi"), ("topics.yaml", "topics manifests")],
)
def test_strimzis_manifests_are_what_is_printed(
    file: str, words: str, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    config = configuration(manifests(EXAMPLE), "postyard-config", tmp_path)
    env = {"POSTYARD_CONFIG": str(config), "POSTYARD_KAFKA_USERNAME": "postyard-cli"}
    done = CliRunner(env=env).invoke(postyard, words.split())
    assert done.exit_code == 0, done.output
    text, path = HEADER.format(words=words) + done.output, K8S / "strimzi" / file
    if pytestconfig.getoption("--accept"):
        path.write_text(text)
    assert path.read_text() == text, "it is stale: make chart ARGS=--accept"


def test_each_user_of_the_example_is_one_of_strimzis() -> None:
    users = {
        one["metadata"]["name"] for one in parsed((K8S / "strimzi" / "users.yaml").read_text())
    }
    assert users == {f"postyard-{service}" for service in SERVICES}
    for user in values()["kafka"]["users"].values():
        # Strimzi's User Operator writes a Secret of the user's name.
        assert user["existingSecret"] == user["username"]
        assert user["username"] in users


def test_the_printed_topics_are_the_declared_ones() -> None:
    kafka = values()["kafka"]
    found = {
        one["metadata"]["name"]: (one["spec"]["partitions"], one["spec"]["config"])
        for one in parsed((K8S / "strimzi" / "topics.yaml").read_text())
    }
    wanted = declared(
        Topics(), partitions=kafka["partitions"], slots=kafka["slots"], replication=3, min_insync=2
    )
    assert found == {spec.name: (spec.partitions, dict(spec.config)) for spec in wanted}


def test_strimzis_cluster_is_where_the_example_looks_for_it() -> None:
    (_, kafka) = parsed((K8S / "strimzi" / "kafka.yaml").read_text())
    name, (listener,) = kafka["metadata"]["name"], kafka["spec"]["kafka"]["listeners"]
    told = values()["kafka"]
    assert told["bootstrap"] == f"{name}-kafka-bootstrap:{listener['port']}"
    assert told["tls"]["caSecret"]["name"] == f"{name}-cluster-ca-cert"
    assert told["ports"] == [listener["port"]]
    assert told["peers"] == [{"podSelector": {"matchLabels": {"strimzi.io/cluster": name}}}]
    assert kafka["spec"]["kafka"]["config"]["message.max.bytes"] == 36 << 20


def test_the_vaults_secrets_are_those_that_examples_mount() -> None:
    made = {
        one["spec"]["target"]["name"]: {row["secretKey"] for row in one["spec"]["data"]}
        for one in parsed((K8S / "external-secrets" / "secrets.yaml").read_text())
    }
    for file in (CHART / "examples").glob("*.yaml"):
        (example,) = parsed(file.read_text())
        for mount in example.get("secretMounts", ()):
            used = {key for key in made[mount["secret"]] if f"{mount['directory']}/{key}" in file.read_text()}  # fmt: skip
            assert used == made[mount["secret"]]


def test_alerts_ask_for_metrics_and_reasons_that_there_are() -> None:
    page = (ROOT / "docs" / "metrics.md").read_text()
    alerts = (CHART / "alerts.yaml").read_text()
    for metric in set(re.findall(r"postyard_([a-z_]+)", alerts)):
        assert f"| `{metric}` |" in page, metric
    for names in re.findall(r'reason=~?"([a-z_|]+)"', alerts):
        for reason in names.split("|"):
            assert f"`{reason}`" in page, reason
