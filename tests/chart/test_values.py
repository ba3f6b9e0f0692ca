"""Values that are wrong are refused with a message that leads to them; those that are right give the pods that they promise."""

import json
from typing import Any

import pytest

from tests.support.chart import CHART, ROOT, manifests, of_kind, parsed, template, tool

RIGHT: dict[str, Any] = {"kafka": {"bootstrap": "kafka:9092"}}
FIXED = {"egress": "hostNetwork", "nodes": {"a": ["192.0.2.1"]}}
SCALED = {"enabled": True, "minReplicas": 1, "maxReplicas": 2, "prometheus": "http://p"}
CILIUM = {"kind": "cilium", "nodeSelector": {"egress": "mail"}}


def pool(**values: Any) -> dict[str, Any]:
    return RIGHT | {"senderPools": {"main": values}}


def refused(values: dict[str, Any]) -> str:
    done = template(values=json.dumps(values))
    assert done.returncode != 0, "it was taken"
    return done.stderr


def taken(values: dict[str, Any]) -> str:
    done = template(values=json.dumps(values))
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ({}, "kafka.bootstrap: where is Kafka?"),
        ({"kafka": {"bootstrap": "kafka"}}, "/kafka/bootstrap"),
        (RIGHT | {"kafak": {}}, "additional properties 'kafak' not allowed"),
        ({"kafka": {"bootstrap": "k:1", "slots": 8193}}, "/kafka/slots"),
        ({"kafka": {"bootstrap": "k:1", "sasl": {"enabled": True, "mechanism": "GSSAPI"}}}, "/kafka/sasl/mechanism"),
        ({"kafka": {"bootstrap": "k:1", "sasl": {"enabled": True, "mechanism": "PLAIN"}}}, "/kafka/tls/enabled"),
        ({"kafka": {"bootstrap": "k:1", "sasl": {"enabled": True}}}, "kafka.users.ingest.existingSecret"),
        ({"kafka": {"bootstrap": "k:1", "tls": {"clientCertificates": True}}}, "/kafka/tls/enabled"),
        (pool(), "missing property 'egress'"),
        (pool(egress="host"), "/senderPools/main/egress"),
        (pool(egress="hostNetwork"), "missing property 'nodes'"),
        (pool(egress="direct"), "missing property 'gateway'"),
        (pool(egress="direct", gateway={"kind": "nat"}), "missing property 'nodeSelector'"),
        (pool(egress="direct", gateway=CILIUM), "missing property 'addresses'"),
        (pool(**FIXED, autoscaling=SCALED), "/senderPools/main/autoscaling/enabled"),
        (pool(egress="direct", addresses=["192.0.2.1"], gateway=CILIUM, autoscaling=SCALED), "/senderPools/main/autoscaling/enabled"),
        (pool(**FIXED, initialReplicas=3), "/senderPools/main/initialReplicas"),
        (pool(egress="proxy", nodes={"a": ["192.0.2.1"]}), "/senderPools/main/nodes"),
        (pool(egress="proxy", autoscaling={"enabled": True}), "missing properties 'minReplicas', 'maxReplicas', 'prometheus'"),
        (pool(egress="hostNetwork", nodes={"a": ["mail.example"]}), "/senderPools/main/nodes/a/0"),
        (RIGHT | {"senderPools": {"Main": {"egress": "proxy"}}}, "Main"),
        (RIGHT | {"config": {"files": {"00-chart.toml": ""}}}, "00-chart.toml"),
        (RIGHT | {"config": {"files": {"a.yaml": ""}}}, "a.yaml"),
        (RIGHT | {"extraEnv": [{"name": "POSTYARD_CONFIG", "value": "x"}]}, "/extraEnv/0/name"),
        (RIGHT | {"extraEnv": [{"name": "LANG"}]}, "/extraEnv/0"),
        (RIGHT | {"dns": {"mode": "cluster"}}, "/dns/mode"),
        (RIGHT | {"dns": {"mode": "nameservers"}}, "/dns/nameservers"),
        (RIGHT | {"dns": {"mode": "service"}}, "/dns/service/clusterIP"),
        (RIGHT | {"networkPolicy": {"denied": ["10.0.0.0/8"]}}, "/networkPolicy/denied"),
        (RIGHT | {"egressProxy": {"enabled": True}}, "/egressProxy/nodes"),
        (RIGHT | {"senders": {"terminationGracePeriodSeconds": 5}}, "/senders/terminationGracePeriodSeconds"),
        (RIGHT | {"image": {"digest": "sha256:1"}}, "/image/digest"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_refused_by_its_name(values: dict[str, Any], names: str) -> None:
    assert names in refused(values)


def test_every_container_of_ours_has_the_environment_that_is_added() -> None:
    more = [
        {"name": "OPENSSL_ia32cap", "value": ":~0x80000"},
        {"name": "ZONE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
    ]
    found = parsed(taken(pool(**FIXED) | {"extraEnv": more}))
    containers = [
        container
        for one in found
        if one["kind"] in ("Deployment", "StatefulSet", "Job")
        for group in ("initContainers", "containers")
        for container in one["spec"]["template"]["spec"].get(group, [])
        if container["command"][0] == "python"
    ]
    assert len(containers) >= 5
    for container in containers:
        assert [each for each in container["env"] if each in more] == more


def test_as_many_slots_as_the_configuration_takes() -> None:
    assert "slots = 8192" in taken({"kafka": {"bootstrap": "k:1", "slots": 8192}})


def test_without_a_pool_there_is_no_sender() -> None:
    assert "services.sender" not in taken(RIGHT)


def test_a_fixed_pool_has_a_pod_for_each_node_or_address() -> None:
    nodes = {"a": ["192.0.2.1"], "b": ["192.0.2.2", "192.0.2.3"], "c": ["192.0.2.4"]}
    assert "replicas: 3" in taken(pool(egress="hostNetwork", nodes=nodes))
    text = taken(pool(egress="direct", addresses=["192.0.2.1", "192.0.2.2"], gateway=CILIUM, ordinalStart=4))  # fmt: skip
    assert "ordinals: {start: 4}" in text
    assert "statefulset.kubernetes.io/pod-name: postyard-sender-main-5" in text


def test_no_two_pods_have_the_ordinal_of_one_direct_source() -> None:
    nat = {"egress": "direct", "gateway": {"kind": "nat"}, "nodeSelector": {"egress": "nat"}}
    two = {"egress": "direct", "addresses": ["192.0.2.1", "192.0.2.2"], "gateway": CILIUM}
    clash = {"a": two, "b": nat | {"ordinalStart": 1}}
    assert "senderPools.b.ordinalStart: ordinal 1 is pool a's already" in refused(RIGHT | {"senderPools": clash})  # fmt: skip
    pools = {"a": two, "b": nat | {"ordinalStart": 2}, "c": {"egress": "smarthost"}}
    found = of_kind("StatefulSet", parsed(taken(RIGHT | {"senderPools": pools})))
    given = {}
    for name, one in found.items():
        (container,) = one["spec"]["template"]["spec"]["containers"]
        (given[name],) = (row for row in container["env"] if row["name"] == "POSTYARD_ORDINAL")
    assert all("valueFrom" in given[f"postyard-sender-{pool}"] for pool in "ab")
    assert given["postyard-sender-c"]["value"] == "none", "its pods have other addresses"


def test_an_autoscaled_pool_leaves_its_number_to_the_autoscaler() -> None:
    found = manifests("production-strimzi")
    sender = of_kind("StatefulSet", found)["postyard-sender-main"]
    assert "replicas" not in sender["spec"]
    scaled = of_kind("ScaledObject", found)["postyard-sender-main"]["spec"]
    assert scaled["scaleTargetRef"]["kind"] == "StatefulSet"
    assert scaled["triggers"][0]["metadata"]["query"] == (
        'sum(postyard_grantable{namespace="mail",pool=~"main"})'
    )


def test_a_floating_pool_begins_with_what_it_is_given_else_the_number_is_nobodys() -> None:
    two = pool(egress="smarthost", initialReplicas=2)
    begun = of_kind("StatefulSet", manifests("smarthost", json.dumps(two)))["postyard-sender-main"]
    assert begun["spec"]["replicas"] == 2
    sender = of_kind("StatefulSet", manifests("smarthost"))["postyard-sender-relay"]
    assert "replicas" not in sender["spec"]
    assert sender["spec"]["podManagementPolicy"] == "Parallel"
    assert "volumeClaimTemplates" not in sender["spec"]
    assert sender["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] == 660


def test_every_value_is_described() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())

    def undescribed(node: dict[str, Any], path: str) -> list[str]:
        found = [] if "description" in node or "$ref" in node else [path]
        for name, inner in node.get("properties", {}).items():
            found += undescribed(inner, f"{path}.{name}")
        return found

    assert undescribed(schema, "") == []
    for name, definition in schema["definitions"].items():
        assert undescribed(definition, name) == []
        assert definition["additionalProperties"] is False


def test_the_readme_lists_every_value(pytestconfig: pytest.Config) -> None:
    (values,) = parsed((CHART / "values.yaml").read_text())
    both = json.dumps([values, json.loads((CHART / "values.schema.json").read_text())])
    text = tool("python", ROOT / "scripts" / "chart_readme.py", stdin=both).stdout
    if pytestconfig.getoption("--accept"):
        (CHART / "README.md").write_text(text)
    assert (CHART / "README.md").read_text() == text, "it is stale: make chart ARGS=--accept"
    assert "| `senderPools.NAME.egress` |" in text
    assert "| `senders.terminationGracePeriodSeconds` | `660` |" in text
