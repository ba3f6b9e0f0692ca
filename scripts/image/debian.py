"""The root that the image begins from: Debian's release and Python, made by debootstrap in place of pulling python:3.N-slim-RELEASE.

What is the same: the release with its updates and security updates, the packages that the official image adds, no service that starts at
an installation, a library of Python that nobody has compiled. What is not: Python is Debian's, in /usr in place of /usr/local.
"""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from scripts.image.dockerfile import Base
from scripts.setup import say

#: python: the name by which the Dockerfile calls it.
_PACKAGES: Final = "ca-certificates,netbase,tzdata,python3,python3-venv,python-is-python3"


def bootstrap(wanted: Base, root: Path) -> None:
    """Fill ``root`` with Debian and its Python; another Python than the wanted one ends the program."""
    say(f"making a root of Debian {wanted.release}, once (a minute or two)")
    command = ["debootstrap", "--variant=minbase", f"--include={_PACKAGES}", wanted.release]
    done = subprocess.run([*command, root], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{(done.stdout + done.stderr)[-3000:]}\nimage: debootstrap failed")
    asked = "import sys; print('%d.%d' % sys.version_info[:2])"
    there = subprocess.run(
        ["chroot", root, "python", "-c", asked], capture_output=True, text=True, check=True
    ).stdout.strip()
    if there != wanted.python:
        sys.exit(
            f"image: the Dockerfile wants Python {wanted.python}, and Debian {wanted.release} has {there}: "
            "this image cannot be tried here"
        )
    for compiled in sorted(root.glob("usr/lib/python3*/**/__pycache__")):
        shutil.rmtree(compiled)
    for package in root.glob("var/cache/apt/archives/*.deb"):
        package.unlink()
    policy = root / "usr" / "sbin" / "policy-rc.d"
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    sources(wanted.release, root / "etc" / "apt" / "sources.list")


def sources(release: str, file: Path) -> None:
    """Add updates to where debootstrap says that packages come from; unstable has none."""
    _, mirror, suite, component = file.read_text().split()[:4]
    if release in ("sid", "unstable"):
        return
    lines = (
        f"deb {mirror} {suite} {component}",
        f"deb {mirror} {suite}-updates {component}",
        f"deb {mirror}-security {suite}-security {component}",
    )
    file.write_text("".join(f"{line}\n" for line in lines))
