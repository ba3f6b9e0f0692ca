"""Play the Dockerfile without a container runtime, for `make image-test`, and write what came of it to run/image in the clone.

The root is Debian's (debian.py), each step writes a layer (player.py, layers.py). One layer more has what the tests need, beside the image.
In image.json is what a container runtime knows of an image: its layers, the environment, the user, the command.

It needs root, Debian and debootstrap, which it installs there; it says what is missing.
"""

import argparse
import contextlib
import fcntl
import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from scripts.image.debian import bootstrap
from scripts.image.dockerfile import FILE, Base, Stage, Step, base, stages
from scripts.image.layers import Mount
from scripts.image.player import OURS, Player, machines_pip
from scripts.setup import LOCK, ROOT, Need, program, provide, say
from services.cli.cluster.jars import cache_directory

_DEBOOTSTRAP: Final = Need(
    "debootstrap", program("debootstrap"), "the image cannot be made without it", required=True
)


def main() -> None:
    """Make the image, and say where it is."""
    parser = argparse.ArgumentParser(prog="python -m scripts.image", description=main.__doc__)
    parser.add_argument("--from", dest="base", help="begin from this in place of what FROM says")
    wanted = parser.parse_args().base
    able()
    cache = cache_directory(os.environ)
    (cache / "image-root").mkdir(parents=True, exist_ok=True)
    with (cache / "image.lock").open("w") as building:
        fcntl.flock(building, fcntl.LOCK_EX)
        for aborted in (OURS, *cache.glob(".image-*")):
            shutil.rmtree(aborted, ignore_errors=True)
        OURS.mkdir(parents=True)
        found = [one._replace(base=wanted or one.base) for one in stages(FILE.read_bytes())]
        image, tests = played(found, cache)
    said = {
        "layers": [str(layer) for layer in image.layers],
        "tests": str(tests),
        "root": str(image.root.at),
        "python": base(found[-1].base).python,
        "env": image.env,
        "workdir": image.workdir,
        "user": image.user,
        "command": image.command,
    }
    (OURS / "image.json").write_text(json.dumps(said, indent=2) + "\n")
    say(f"the image is in {OURS.relative_to(ROOT)}")


def able() -> None:
    """Install what is missing where that is ours to do, or say what is, and end."""
    if os.geteuid() != 0:
        sys.exit("image: it needs root, to make a root file system and to mount it")
    provide([_DEBOOTSTRAP])
    with contextlib.ExitStack() as later:
        probe = cache_directory(os.environ) / f"image-probe-{os.getpid()}"
        for name in ("lower", "root"):
            (probe / name).mkdir(parents=True)
        later.callback(shutil.rmtree, probe)
        words = f"mount -t tmpfs tmpfs {probe}/root && cd {probe}/root && mkdir u w && "
        words += f"mount -t overlay -o lowerdir={probe}/lower,upperdir=u,workdir=w overlay u"
        command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", words]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            sys.exit(
                f"{done.stderr}image: it needs mounts of its own and an overlay, which this machine "
                "does not let it have (in a container: CAP_SYS_ADMIN, and a cache that is no overlay)"
            )


def played(found: list[Stage], cache: Path) -> tuple[Player, Path]:
    """Play the stages; give the last one, and the layer with what the tests need."""
    others: dict[str, Player] = {}
    player, tests = None, None
    for stage in found:
        player = begun(base(stage.base), cache)
        for step in stage.steps:
            if stage is found[-1] and tests is None and is_code(step):
                tests = for_tests(player)
            player.play(step, others)
        others[stage.name] = player
    if player is None or tests is None:
        sys.exit("image: the Dockerfile's last stage copies no code")
    return player, tests


def begun(wanted: Base, cache: Path) -> Player:
    """Give the root that a stage begins from."""
    source = Path(__file__).with_name("debian.py").read_bytes()
    digest = hashlib.sha256(f"{wanted}".encode() + source).hexdigest()[:12]
    player = Player(cache, digest, [])
    if (partial := player.layer("FROM")) is not None:
        bootstrap(wanted, partial)
        player.keep(partial)
    return player


def is_code(step: Step) -> bool:
    """Say whether the step copies a folder of the clone."""
    return step.instruction == "COPY" and (ROOT / step.value.split()[0]).is_dir()


def for_tests(player: Player) -> Path:
    """Install the tests' packages over those of the image, as a layer beside it."""
    beside = Player(player.cache, player.digest, list(player.layers), dict(player.env))
    if (upper := beside.layer("TESTS", LOCK.read_bytes())) is not None:
        say("installing the tests' packages for the image's interpreter, once")
        mounts, given = machines_pip()
        words = "/opt/postyard/bin/python -m pip --disable-pip-version-check install --quiet --no-cache-dir --require-hashes"
        beside.root.write(
            [*shlex.split(words), "-r", "/run/secrets/lock"],
            beside.env | given,
            upper=upper,
            mounts=[*mounts, Mount(LOCK, "/run/secrets/lock")],
        )
        beside.keep(upper)
    return beside.layers[-1]


if __name__ == "__main__":
    main()
