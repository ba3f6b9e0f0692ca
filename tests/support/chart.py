"""The chart and the programs that look at it, which `make setup` has fetched."""

import copy
import functools
import json
import subprocess
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[2]
CHART: Final = ROOT / "helm" / "postyard"
TOOLS: Final = ROOT / ".chart-tools" / "bin"
EXAMPLES: Final = tuple(sorted(path.stem for path in (CHART / "examples").glob("*.yaml")))
#: Kubernetes, whose API it is held against.
KUBERNETES: Final = "1.36"
NAMESPACE: Final = "mail"

Manifest = dict[str, Any]


def tool(
    *words: str | Path, stdin: str = "", seconds: float = 60, env: Mapping[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    """Run one of the programs; ``env``: all of its environment, where that must not be ours."""
    return subprocess.run(
        [TOOLS / words[0], *words[1:]],
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds,
        env=env,
    )


def example(name: str) -> Path:
    return CHART / "examples" / f"{name}.yaml"


def template(*words: str | Path, values: str | None = None) -> "subprocess.CompletedProcess[str]":
    """Run helm template; ``values``: more of them, as YAML or JSON."""
    more = ["--values", "-"] if values is not None else []
    return tool(
        "helm",
        "template",
        "postyard",
        CHART,
        "--namespace",
        NAMESPACE,
        "--kube-version",
        KUBERNETES,
        *words,
        *more,
        stdin=values or "",
    )


@functools.cache
def rendered(name: str, values: str | None = None) -> str:
    done = template("--values", example(name), values=values)
    assert done.returncode == 0, done.stderr
    return done.stdout


@functools.cache
def _parsed(text: str) -> list[Manifest]:
    return parsed(text)


def parsed(text: str) -> list[Manifest]:
    """Read YAML documents."""
    words = "import json, sys, yaml; json.dump([d for d in yaml.load_all(sys.stdin, yaml.CSafeLoader) if d], sys.stdout)"
    done = tool("python", "-c", words, stdin=text)
    assert done.returncode == 0, done.stderr
    found: list[Manifest] = json.loads(done.stdout)
    return found


def manifests(name: str, values: str | None = None) -> list[Manifest]:
    return copy.deepcopy(_parsed(rendered(name, values)))


def of_kind(kind: str, found: list[Manifest]) -> dict[str, Manifest]:
    """Give name -> manifest."""
    return {one["metadata"]["name"]: one for one in found if one["kind"] == kind}


def pods(found: list[Manifest]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Give every pod template with the name of what makes pods of it."""
    for one in found:
        if one["kind"] in ("Deployment", "StatefulSet", "DaemonSet", "Job"):
            yield f"{one['kind']} {one['metadata']['name']}", one["spec"]["template"]


def containers(template_: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    spec = template_["spec"]
    return [*spec.get("initContainers", ()), *spec["containers"]]


def configuration(found: list[Manifest], name: str, directory: Path) -> Path:
    """Write a ConfigMap's files as a pod sees them."""
    directory.mkdir(parents=True, exist_ok=True)
    for file, text in of_kind("ConfigMap", found)[name]["data"].items():
        tomllib.loads(text)
        (directory / file).write_text(text)
    return directory
