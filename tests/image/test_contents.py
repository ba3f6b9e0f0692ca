"""What is in the image: its Python, its packages, what is compiled, the programs beside the services; and who may do what in it."""

import re
from pathlib import Path

import pytest

from scripts.image.layers import Mount
from tests.support.chart import EXAMPLES, manifests, of_kind
from tests.support.image import Image
from tests.support.locks import pins

SERVICES = ("ingest", "scheduler", "sender")


def test_what_runs_has_the_images_user_no_capability_and_a_root_that_it_cannot_write(
    image: Image,
) -> None:
    """Else the other tests here would show less than they say."""
    assert image.run("id", "-u").stdout == "10001\n"
    assert image.run("id", "-G").stdout == "10001\n"
    status = dict(
        re.findall(r"^(\w+):\s*(\S+)", image.run("cat", "/proc/self/status").stdout, re.MULTILINE)
    )
    assert {int(status[f"Cap{kind}"], 16) for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb")} == {0}
    assert status["NoNewPrivs"] == "1"
    for path in ("/opt/x", "/opt/postyard/app/x", "/run/x"):
        assert "Read-only file system" in image.run("touch", path).stdout


def test_the_interpreter_is_the_one_that_the_dockerfile_names(image: Image) -> None:
    said = image.run(
        "python", "-c", "import sys; print('%d.%d' % sys.version_info[:2], sys.prefix)"
    )
    assert said.stdout.split() == [image.python, "/opt/postyard"]


def test_its_packages_are_those_of_the_lock_and_fit_each_other(image: Image) -> None:
    listed = image.run("python", "-m", "pip", "--no-cache-dir", "list", "--format=freeze")
    found = re.findall(r"^(\S+)==(\S+)$", listed.stdout, re.MULTILINE)
    there = {name.lower().replace("_", "-"): version for name, version in found}
    assert there.pop("pip")
    assert there == pins("requirements.runtime.lock")
    checked = image.run("python", "-m", "pip", "--no-cache-dir", "check")
    assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize("program", [*SERVICES, "cli"])
def test_a_start_compiles_nothing(image: Image, program: str) -> None:
    said = image.run("python", "-v", "-m", f"services.{program}", "--help")
    assert said.returncode == 0, said.stdout
    read = re.findall(r"# code object from '?([^'\s]+)'?$", said.stdout, re.MULTILINE)
    assert len(read) > 200
    assert [file for file in read if not file.endswith(".pyc")] == []


def test_its_own_command_tells_how_it_is_used(image: Image) -> None:
    said = image.run(*image.command)
    assert said.returncode == 0, said.stdout
    assert "Usage: postyard" in said.stdout


@pytest.mark.parametrize("name", EXAMPLES)
def test_its_unbound_takes_the_charts_configuration(
    image: Image, name: str, tmp_path: Path
) -> None:
    found = of_kind("ConfigMap", manifests(name)).get("postyard-dns")
    if found is None:
        assert name == "cloud-nat", "only there the operator brings name servers"
        return
    file = tmp_path / "unbound.conf"
    file.write_text(found["data"]["unbound.conf"])
    path = "/etc/postyard/dns/unbound.conf"
    done = image.run("/usr/sbin/unbound-checkconf", path, mounts=[Mount(file, path)])
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("node", ["egress-a", "egress-b"])
def test_its_haproxy_takes_the_charts_configuration(
    image: Image, node: str, tmp_path: Path
) -> None:
    found = of_kind("ConfigMap", manifests("production-strimzi"))
    file = tmp_path / "haproxy.cfg"
    file.write_text(found[f"postyard-proxy-{node}"]["data"]["haproxy.cfg"])
    path = "/etc/haproxy/haproxy.cfg"
    done = image.run("/usr/sbin/haproxy", "-c", "-f", path, mounts=[Mount(file, path)])
    assert done.returncode == 0, done.stdout
    assert "WARNING" not in done.stdout
