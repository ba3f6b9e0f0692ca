"""Build the linters of `make chart-full`, once, and print where they are: kubeconform and kube-score, and Strimzi's model of its resources.

The compiler is the one that builds the control plane (scripts/controlplane.py), from PyPI; Go checks the modules' sums with its
database. The model is Java, and comes with Maven. They lie in the user's cache under a name made of their versions and the compiler's.
The first time takes a minute or two.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from scripts.controlplane import COMPILER, NICE
from scripts.setup import ROOT, environment, say
from services.cli.cluster.jars import cache_directory
from services.cli.cluster.tools import find_maven

MODEL: Final = ROOT / "tests" / "chart" / "strimzi" / "pom.xml"
PROGRAMS: Final = (
    "github.com/yannh/kubeconform/cmd/kubeconform@v0.8.0",
    "github.com/zegl/kube-score/cmd/kube-score@v1.20.0",
)


def main() -> None:
    """Build them where they are not built, and print their folder; with ``go``: the compiler's path alone."""
    cache = cache_directory(os.environ)
    cache.mkdir(parents=True, exist_ok=True)
    # The answer alone is on standard output, for whoever calls this in a shell.
    with contextlib.redirect_stdout(sys.stderr):
        found = compiler(cache) if sys.argv[1:] == ["go"] else built(cache)
    print(found)


def compiler(cache: Path) -> Path:
    """Give the Go command."""
    return environment(cache, COMPILER, "go", alone=True) / "bin" / "go"


def built(cache: Path) -> Path:
    """Give the folder of the programs."""
    inputs = "\n".join(PROGRAMS).encode() + COMPILER.read_bytes() + MODEL.read_bytes()
    digest = hashlib.sha256(inputs).hexdigest()[:12]
    folder = cache / f"linters-{digest}"
    with Path(f"{folder}.lock").open("w") as building:
        fcntl.flock(building, fcntl.LOCK_EX)
        for program in PROGRAMS:
            if not (folder / program.partition("@")[0].rpartition("/")[2]).is_file():
                say(f"building {program}, once")
                install(compiler(cache), program, folder)
        if not (folder / "strimzi").is_dir():
            fetch(folder / "strimzi")
    return folder


def fetch(jars: Path) -> None:
    """Let Maven fill a folder, which has its name when it is whole."""
    partial = jars.with_name(".strimzi")
    shutil.rmtree(partial, ignore_errors=True)
    maven = [str(find_maven(os.environ)), "--batch-mode", "--quiet", "--file", str(MODEL)]
    copy = ["dependency:copy-dependencies", f"-DoutputDirectory={partial}"]
    if subprocess.run([*maven, *copy], stdout=sys.stderr, check=False).returncode != 0:
        sys.exit("setup: Strimzi's model was not fetched")
    partial.rename(jars)


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
