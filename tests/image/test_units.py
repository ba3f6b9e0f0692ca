"""The unit tests with the image's interpreter, its packages and its copy of the code; a warning of that Python is an error there, too."""

import os
import re
import shutil
import subprocess
from pathlib import Path

from scripts.image.layers import Mount, Root
from tests.support.image import Image
from tests.support.nursery import ROOT

#: Where alone they may write.
SCRATCH = "/mnt"
#: Copied by the Dockerfile, made by whoever works there, or not for this interpreter.
NOT_COPIED = {"services", "shared", "run", ".git", ".venv", ".chart-tools"}


def test_the_unit_tests_pass_on_its_python_with_its_packages(image: Image, tmp_path: Path) -> None:
    beside, home = tmp_path / "beside", tmp_path / "home"
    app = beside / image.workdir.lstrip("/")
    app.mkdir(parents=True)
    for one in ROOT.iterdir():
        if one.is_dir() and one.name not in NOT_COPIED:
            shutil.copytree(one, app / one.name, ignore=shutil.ignore_patterns("__pycache__"))
        elif one.is_file():
            shutil.copy(one, app)
    home.mkdir()
    os.chown(home, image.user.uid, image.user.gid)
    root = Root([*image.root.layers, image.tests, beside], image.root.at)
    asked = [
        "python",
        "-m",
        "pytest",
        "tests/unit",
        "-q",
        "-p",
        "no:cacheprovider",
        "--basetemp",
        f"{SCRATCH}/all",
    ]
    command = root.command(
        asked,
        workdir=image.workdir,
        user=image.user,
        read_only=True,
        mounts=[Mount(home, SCRATCH, writable=True)],
    )
    env = dict(image.env) | {
        "HOME": SCRATCH,
        "TMPDIR": SCRATCH,
        "HYPOTHESIS_STORAGE_DIRECTORY": f"{SCRATCH}/hypothesis",
    }
    done = subprocess.run(
        command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-8000:]
    # Another's judgement of our signatures, and no part of the image.
    skipped = re.findall(r"^SKIPPED .*", done.stdout, re.MULTILINE)
    assert all("opendkim is not installed" in one for one in skipped), skipped
    print(done.stdout.splitlines()[-1])
