"""Build Kubernetes' control plane for `make k8s-test`, once, and print where it is.

Etcd, API server, controller manager and scheduler come from their Go modules, at the versions and with the checksums that
tests/k8s/controlplane names, as one program. It lies in the user's cache under a name made of those and of the compiler, which comes
from PyPI like everything else here; nothing of the machine is asked for. The first time takes 5 to 10 minutes on two cores, 600 MB
of downloads and 3 GB of Go's own cache, which may be thrown away afterwards (~/.cache/go-build).
"""

import contextlib
import fcntl
import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

from scripts.setup import ROOT, environment, say
from services.cli.cluster.jars import cache_directory

SOURCE: Final = ROOT / "tests" / "k8s" / "controlplane"
COMPILER: Final = SOURCE / "go.lock"
NICE: Final = 10


def main() -> None:
    """Build it where it is not built, and print its path."""
    cache = cache_directory(os.environ)
    cache.mkdir(parents=True, exist_ok=True)
    # The path alone is on standard output, for whoever calls this in a shell.
    with contextlib.redirect_stdout(sys.stderr):
        program = built(cache)
    print(program)


def built(cache: Path) -> Path:
    """Give the program of these modules and this compiler, building it where it is not there."""
    inputs = [SOURCE / name for name in ("go.mod", "go.sum", "main.go", COMPILER.name)]
    digest = hashlib.sha256(b"".join(one.read_bytes() for one in inputs)).hexdigest()[:12]
    program = cache / f"controlplane-{digest}"
    with Path(f"{program}.lock").open("w") as building:
        fcntl.flock(building, fcntl.LOCK_EX)
        if not program.is_file():
            say("building Kubernetes' control plane, once (5 to 10 minutes on two cores)")
            build(environment(cache, COMPILER, "go", alone=True) / "bin" / "go", program)
    return program


def build(go: Path, program: Path) -> None:
    """Compile it; nothing is at the program's path before it is whole."""
    fresh = program.with_name(f".{program.name}.{os.getpid()}")
    flags = " ".join(["-s", "-w", *(f"-X {name}={value}" for name, value in named().items())])
    words = ["build", "-trimpath", "-buildvcs=false", "-mod=readonly", "-ldflags", flags]
    done = subprocess.run(
        [str(go), *words, "-o", str(fresh), "."],
        cwd=SOURCE,
        env=os.environ | {"CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOFLAGS": ""},
        preexec_fn=lambda: os.nice(NICE),
        stdout=sys.stderr,
        check=False,
    )
    if done.returncode != 0:
        fresh.unlink(missing_ok=True)
        sys.exit("setup: the control plane was not built")
    fresh.replace(program)


def named() -> dict[str, str]:
    """Say which version the components are: helm and the API's clients ask, and only a build knows."""
    found = re.search(
        r"^\s*k8s\.io/kubernetes (v(\d+)\.(\d+)\.\d+)$",
        (SOURCE / "go.mod").read_text(),
        re.MULTILINE,
    )
    if found is None:
        sys.exit("setup: tests/k8s/controlplane/go.mod does not require k8s.io/kubernetes any more")
    version, major, minor = found.groups()
    said = {"gitVersion": version, "gitMajor": major, "gitMinor": minor, "gitTreeState": "clean"}
    packages = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
    return {f"{package}.{name}": value for package in packages for name, value in said.items()}


if __name__ == "__main__":
    main()
