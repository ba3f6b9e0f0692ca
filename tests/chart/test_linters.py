"""Linters that others have written, over what is rendered and over the manifests around it; run by `make chart-full`.

kubeconform finds every error against the published schemas, of Kubernetes (those of kubernetes-validate) and of the custom resources
(schemas/). kube-score knows what goes wrong in production; what it says and we do not follow has its reason here.
"""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from services.cli.cluster.tools import find_java
from tests.chart.test_rendering import SCHEMAS
from tests.support.chart import EXAMPLES, KUBERNETES, ROOT, TOOLS, rendered

pytestmark = pytest.mark.linters
#: Strimzi generates its CRDs when it is released, and no Go module has them: its own model reads these.
WITHOUT_SCHEMA = {"Kafka", "KafkaNodePool", "KafkaTopic", "KafkaUser"}
#: (what kube-score says, whose) -> why it stays so.
EXCEPTIONS = {
    (r"CPU limit is not set", r"."): "throttling stops a heartbeat, and with it a source",
    (r"ImagePullPolicy is not set to Always", r"."): (
        "a version or a digest names one image; a registry that is away must not keep a pod from starting"
    ),
    (r"Ephemeral Storage (request|limit) is not set", r"."): (
        "the root is read-only and no volume is on disk: there are only logs, which the kubelet rotates"
    ),
    (r"does not have a host podAntiAffinity set", r"."): "topologySpreadConstraints say it better",
    (r"few replicas", r"postyard-proxy-"): "one a node: it sends from the node's addresses",
    (r"update strategy", r"postyard-proxy-"): "two cannot listen on one port of a node",
    (r"does not have a matching NetworkPolicy", r"postyard-proxy-"): "policies do not apply to the host's network",
    (r"same readiness and liveness probe", r"postyard-(proxy-|dns)"): (
        "whether it listens is all there is; liveness waits longer"
    ),
}  # fmt: skip


READER = ROOT / "tests" / "chart" / "strimzi" / "StrimziReader.java"


@pytest.fixture
def linters(request: pytest.FixtureRequest) -> Path:
    found: Path = request.config.getoption("--linters")
    return found


@pytest.fixture(scope="session")
def schemas(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give Kubernetes' schemas in a form that kubeconform takes: references within the folder, no dialect named."""
    ours = tmp_path_factory.mktemp("schemas")
    packages = next(TOOLS.parent.glob("lib/python3*/site-packages"))
    theirs = packages / "kubernetes_validate" / "kubernetes-json-schema"
    for file in (theirs / f"v{KUBERNETES}.0-local-strict").glob("*.json"):
        schema = json.loads(file.read_text().replace("/api/_definitions.json", "_definitions.json"))
        schema.pop("$schema", None)
        (ours / file.name).write_text(json.dumps(schema))
    return ours


@pytest.mark.parametrize("name", EXAMPLES)
def test_kubeconform_finds_no_error_in_what_is_rendered(
    name: str, linters: Path, schemas: Path
) -> None:
    conform(linters, schemas, rendered(name), without=0)


def test_kubeconform_finds_no_error_in_the_manifests_around_it(linters: Path, schemas: Path) -> None:  # fmt: skip
    files = [*(ROOT / "k8s").glob("strimzi/*.yaml"), *(ROOT / "k8s").glob("external-secrets/*.yaml")]  # fmt: skip
    assert files
    conform(linters, schemas, "\n---\n".join(file.read_text() for file in files), without=20)


def test_kubeconform_would_find_one(linters: Path, schemas: Path) -> None:
    wrong = rendered("production-strimzi").replace("pollingInterval:", "polingInterval:")
    with pytest.raises(AssertionError, match=r"ScaledObject.*polingInterval"):
        conform(linters, schemas, wrong, without=0)


def test_strimzis_own_model_knows_every_field_of_its_resources(
    linters: Path, tmp_path: Path
) -> None:
    java = find_java(os.environ)
    modules = subprocess.run([java, "--list-modules"], capture_output=True, text=True, check=True)
    if "jdk.compiler" not in modules.stdout:
        pytest.skip(
            "this Java has no compiler (jdk.compiler): install a JDK, as Debian's default-jdk-headless"
        )

    def read(*files: Path) -> list[str]:
        words: list[str | Path] = [java, "-cp", f"{linters / 'strimzi'}/*", READER, *files]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    found = read(*(ROOT / "k8s").glob("strimzi/*.yaml"))
    assert {line.partition(" ")[0] for line in found} == WITHOUT_SCHEMA
    assert [line for line in found if not line.endswith(" []")] == []
    wrong = tmp_path / "kafka.yaml"
    text = (ROOT / "k8s" / "strimzi" / "kafka.yaml").read_text()
    wrong.write_text(text.replace("deleteClaim:", "deletClaim:").replace("roles:", "rolls:"))
    assert "KafkaNodePool brokers [.Spec.Storage.Volumes[0].deletClaim, .Spec.rolls]" in read(wrong)


def conform(linters: Path, schemas: Path, text: str, *, without: int) -> None:
    """Hold manifests against the schemas; at least ``without`` of them may have none, of kinds that are known for it."""
    kind = "{{.ResourceKind}}"
    done = subprocess.run(
        [
            linters / "kubeconform",
            *("-strict", "-output", "json", "-verbose"),
            *("-schema-location", f"{schemas}/{kind}{{{{.KindSuffix}}}}.json"),
            *("-schema-location", f"{SCHEMAS}/{kind}-{{{{.Group}}}}-{{{{.ResourceAPIVersion}}}}.json"),
            *("-skip", ",".join(sorted(WITHOUT_SCHEMA))),
        ],
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    found: list[dict[str, Any]] = json.loads(done.stdout)["resources"]
    # A document of comments alone has neither kind nor message.
    wrong = {
        f"{one['kind']} {one['name']}: {one['msg']}"
        for one in found
        if one["status"] not in ("statusValid", "statusSkipped") and (one["kind"] or one["msg"])
    }
    assert not wrong, "; ".join(wrong)
    assert sum(one["status"] == "statusSkipped" for one in found) >= without
    assert len(found) > without


def said(linters: Path, name: str) -> set[tuple[str, str]]:
    """Give what kube-score finds fault with, and whose it is."""
    words: list[str | Path] = [linters / "kube-score", "score", "--kubernetes-version", f"v{KUBERNETES}", "-o", "ci", "-"]  # fmt: skip
    done = subprocess.run(words, input=rendered(name), capture_output=True, text=True, check=False)
    found = re.findall(r"^\[(?:CRITICAL|WARNING)\] (\S+) \S+ (.*)$", done.stdout, re.MULTILINE)
    assert "[OK]" in done.stdout, done.stderr
    return {(what, whose) for whose, what in found}


def test_what_kube_score_finds_has_a_reason_and_every_reason_is_needed(linters: Path) -> None:
    found = {one for name in EXAMPLES for one in said(linters, name)}
    needed, unexcused = set(), set()
    for what, whose in found:
        reasons = {(w, o) for w, o in EXCEPTIONS if re.search(w, what) and re.match(o, whose)}
        needed |= reasons
        if not reasons:
            unexcused.add((what, whose))
    assert not unexcused
    assert needed == set(EXCEPTIONS)


def test_the_image_can_be_built_from_these_packages(tmp_path: Path) -> None:
    """Do what the Dockerfile's first stage does, and start every program that the pods run."""
    steps = (ROOT / "Dockerfile").read_text().replace("\\\n", "")
    install = next(line for line in steps.splitlines() if "--require-hashes" in line)
    venv = tmp_path / "postyard"
    words = install.replace("/opt/postyard/bin/python", str(venv / "bin" / "python"))
    words = words.partition("&&")[2].replace("-r /build/", f"-r {ROOT}/")
    subprocess.run(["python3", "-m", "venv", venv], check=True)
    subprocess.run(words, shell=True, check=True)  # noqa: S602 - the Dockerfile's own words
    app = tmp_path / "app"
    for room in ("services", "shared"):
        shutil.copytree(ROOT / room, app / room, ignore=shutil.ignore_patterns("__pycache__"))
    compiling = next(line for line in steps.splitlines() if "compileall" in line)
    path = f"{venv / 'bin'}:{os.environ['PATH']}"
    # As it is there: nothing that was compiled elsewhere is read, and what is compiled lies beside its source.
    bare = {name: word for name, word in os.environ.items() if name != "PYTHONPYCACHEPREFIX"}
    subprocess.run(compiling.removeprefix("RUN "), shell=True, cwd=app, env=bare | {"PATH": path}, check=True)  # fmt: skip # noqa: S602
    for room in ("aiokafka", "aiohttp", "dns"):
        assert list(venv.glob(f"lib/*/site-packages/{room}/__pycache__/*.pyc")), room
    for module in ("services.ingest", "services.scheduler", "services.sender", "services.cli"):
        done = subprocess.run(
            [venv / "bin" / "python", "-m", module, "--help"], cwd=app, capture_output=True, text=True, check=False
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
