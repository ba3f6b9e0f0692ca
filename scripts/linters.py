"""Build the linters of `make chart-full` that come as Go programs, once, and print where they are: kubeconform and kube-score.

The compiler is the one that builds the control plane (scripts/controlplane.py), from PyPI; Go checks the modules' sums with its
database. They lie in the user's cache under a name made of their versions and the compiler's. The first time takes a minute or two.
"""

import fcntl
import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

from scripts.controlplane import COMPILER, NICE
from scripts.setup import environment, say
from services.cli.cluster.jars import cache_directory

PROGRAMS: Final = (
    "github.com/yannh/kubeconform/cmd/kubeconform@v0.8.0",
    "github.com/zegl/kube-score/cmd/kube-score@v1.20.0",
)


def main() -> None:
    """Build them where they are not built, and print their folder; with ``go``: the compiler's path alone."""
    cache = cache_directory(os.environ)
    cache.mkdir(parents=True, exist_ok=True)
    print(compiler(cache) if sys.argv[1:] == ["go"] else built(cache))


def compiler(cache: Path) -> Path:
    """Give the Go command."""
    return environment(cache, COMPILER, "go", alone=True) / "bin" / "go"


def built(cache: Path) -> Path:
    """Give the folder of the programs."""
    digest = hashlib.sha256("\n".join(PROGRAMS).encode() + COMPILER.read_bytes()).hexdigest()[:12]
    folder = cache / f"linters-{digest}"
    with Path(f"{folder}.lock").open("w") as building:
        fcntl.flock(building, fcntl.LOCK_EX)
        for program in PROGRAMS:
            if not (folder / program.partition("@")[0].rpartition("/")[2]).is_file():
                say(f"building {program}, once")
                install(compiler(cache), program, folder)
    return folder


def install(go: Path, program: str, folder: Path) -> None:
    """Compile one; go install puts it where it belongs when it is whole."""
    done = subprocess.run(
        [str(go), "install", "-trimpath", program],
        env=os.environ
        | {"GOBIN": str(folder), "CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOFLAGS": ""},
        preexec_fn=lambda: os.nice(NICE),
        stdout=sys.stderr,
        check=False,
    )
    if done.returncode != 0:
        sys.exit(f"setup: {program} was not built")


if __name__ == "__main__":
    main()
