"""The programs beside the services read what the chart writes for them: the resolver and the proxies."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.chart import EXAMPLES, manifests, of_kind

PATH = "/usr/sbin:/usr/bin:/sbin:/bin"


def program(name: str) -> str:
    found = shutil.which(name, path=PATH)
    if found is None:
        pytest.skip(f"{name} is not here")
    return found


@pytest.mark.parametrize("name", EXAMPLES)
def test_unbound_takes_its_configuration(name: str, tmp_path: Path) -> None:
    found = of_kind("ConfigMap", manifests(name)).get("postyard-dns")
    if found is None:
        assert name == "cloud-nat", "only there the operator brings name servers"
        return
    file = tmp_path / "unbound.conf"
    file.write_text(found["data"]["unbound.conf"])
    done = subprocess.run(
        [program("unbound-checkconf"), file], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_haproxy_takes_its_configuration(tmp_path: Path) -> None:
    found = of_kind("ConfigMap", manifests("production-strimzi"))
    for node in ("egress-a", "egress-b"):
        file = tmp_path / f"{node}.cfg"
        file.write_text(found[f"postyard-proxy-{node}"]["data"]["haproxy.cfg"])
        done = subprocess.run(
            [program("haproxy"), "-c", "-f", file], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "WARNING" not in done.stdout + done.stderr
