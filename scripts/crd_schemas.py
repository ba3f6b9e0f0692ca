"""Take the schemas of the custom resources that the chart and k8s/ use out of the CRDs that their projects publish, for tests/chart.

`make chart-schemas` runs it. Each module of MODULES is fetched by Go, which checks its sum, and the schema of one version of each kind goes
to tests/chart/schemas, closed: a field that the CRD does not know is an error there, where an API server would drop it or refuse it.
Descriptions are left out. All of these projects are under the Apache License 2.0.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parent.parent
TARGET: Final = ROOT / "tests" / "chart" / "schemas"
#: module@version -> the CRD's file in it, and the version of the resource.
MODULES: Final = {
    "github.com/prometheus-operator/prometheus-operator@v0.85.0": (
        ("example/prometheus-operator-crd/monitoring.coreos.com_podmonitors.yaml", "v1"),
        ("example/prometheus-operator-crd/monitoring.coreos.com_prometheusrules.yaml", "v1"),
    ),
    "github.com/kedacore/keda/v2@v2.21.0": (
        ("config/crd/bases/keda.sh_scaledobjects.yaml", "v1alpha1"),
    ),
    "github.com/cilium/cilium@v1.20.2": (
        ("pkg/k8s/apis/cilium.io/client/crds/v2/ciliumegressgatewaypolicies.yaml", "v2"),
    ),
    "github.com/external-secrets/external-secrets@v1.3.2": (
        ("config/crds/bases/external-secrets.io_externalsecrets.yaml", "v1"),
    ),
}


def main(go: str) -> None:
    """Fetch the modules with the program ``go``, and write the schemas."""
    TARGET.mkdir(exist_ok=True)
    for module, files in MODULES.items():
        found = subprocess.run(
            [go, "mod", "download", "-json", module],
            stdout=subprocess.PIPE,
            env=os.environ | {"GOTOOLCHAIN": "local", "GOFLAGS": ""},
            check=True,
        )
        directory = Path(json.loads(found.stdout)["Dir"])
        for file, version in files:
            write(f"{module} {file}", definition(directory / file), version)


def definition(file: Path) -> dict[str, Any]:
    """Read a CRD with the chart's tools, which have a reader of YAML."""
    words = "import json, sys, yaml; json.dump(yaml.load(sys.stdin, yaml.CSafeLoader), sys.stdout)"
    done = subprocess.run(
        [ROOT / ".chart-tools" / "bin" / "python", "-c", words],
        input=file.read_bytes(),
        stdout=subprocess.PIPE,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def write(source: str, crd: dict[str, Any], version: str) -> None:
    """Write one kind's schema, under the name by which kubeconform looks for it."""
    spec = crd["spec"]
    group, kind = spec["group"], spec["names"]["kind"]
    (one,) = [each for each in spec["versions"] if each["name"] == version]
    schema = closed(one["schema"]["openAPIV3Schema"])
    # Of these an API server has the schema itself.
    for name in ("apiVersion", "kind"):
        schema["properties"][name] = {"type": "string"}
    schema["properties"]["metadata"] = {"type": "object"}
    schema = {"$comment": f"{source} (Apache License 2.0)", **schema}
    name = f"{kind.lower()}-{group}-{version}.json"
    (TARGET / name).write_text(json.dumps(schema, separators=(",", ":"), sort_keys=True) + "\n")


def closed(node: dict[str, Any]) -> dict[str, Any]:
    """Say of a structural schema in JSON Schema's words what Kubernetes takes: no field that is not named."""
    made = dict(kept(node))
    if node.get("x-kubernetes-int-or-string"):
        made.pop("anyOf", None)
        made["type"] = ["integer", "string"]
    if node.get("nullable"):
        made["type"] = [made["type"], "null"]
    if "properties" in node:
        made["properties"] = {name: closed(one) for name, one in node["properties"].items()}
        if not node.get("x-kubernetes-preserve-unknown-fields"):
            made["additionalProperties"] = False
    more = node.get("additionalProperties")
    if isinstance(more, dict):
        made["additionalProperties"] = closed(more)
    if "items" in node:
        made["items"] = closed(node["items"])
    return made


def kept(node: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Give what is left of a node: neither prose nor Kubernetes' own words, nor what is put in anew."""
    for name, value in node.items():
        if not name.startswith("x-") and name not in {
            "description",
            "default",
            "example",
            "nullable",
            "properties",
            "additionalProperties",
            "items",
        }:
            yield name, value


if __name__ == "__main__":
    main(sys.argv[1])
