"""Play the Dockerfile without a container runtime, for `make image-test`, and write what came of it to a folder of the clone.

The root is Debian's (scripts/image/debian.py), a step writes a layer (scripts/image/layers.py). Layers are in the user's cache under names
made of all that went into them, up to the first step that copies the code: what comes then is made anew each time and lies in
the clone, in run/image, with image.json: the layers, the environment and the command. One layer more has what the tests need, beside the image.

It needs root, Debian and debootstrap, which `make` installs there; it says what is missing.
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
from dataclasses import dataclass, field
from pathlib import Path
from string import Template
from typing import Final

from scripts.image.debian import bootstrap
from scripts.image.dockerfile import FILE, IGNORED, Base, Stage, Step, base, context, stages
from scripts.image.layers import Mount, Root, User
from scripts.setup import LOCK, ROOT, Need, program, provide, say
from services.cli.cluster.jars import cache_directory

OURS: Final = ROOT / "run" / "image"
#: A step finds no more of the machine than how its pip is configured: where packages come from, and whom to trust.
_PIP: Final = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_TRUSTED_HOST", "PIP_DEFAULT_TIMEOUT")
_PROXIES: Final = ("http_proxy", "https_proxy", "no_proxy")
_BARE: Final = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
_SAYS_NOTHING: Final = ("LABEL", "EXPOSE")
_DEBOOTSTRAP: Final = Need(
    "debootstrap", program("debootstrap"), "the image cannot be made without it", required=True
)


@dataclass(slots=True)
class Player:
    """Plays steps; ``env`` and the others are what the steps so far have set."""

    cache: Path
    digest: str
    layers: list[Path]
    env: dict[str, str] = field(default_factory=lambda: dict(_BARE))
    arguments: dict[str, str] = field(default_factory=dict)
    workdir: str = "/"
    user: str = ""
    command: list[str] = field(default_factory=list)
    #: The code is copied: no layer is kept any more.
    fresh: bool = False

    @property
    def root(self) -> Root:
        """Give what is there so far."""
        return Root(list(self.layers), self.cache / "image-root")

    def play(self, step: Step, others: "dict[str, Player]") -> None:
        """Play one step."""
        match step:
            case Step("ENV", value):
                pairs = (one.partition("=") for one in shlex.split(value))
                self.env |= {name: Template(said).substitute(self.env) for name, _, said in pairs}
            case Step("ARG", value):
                name, _, said = value.partition("=")
                self.arguments[name] = said
            case Step("USER", value):
                self.user = value
            case Step("WORKDIR", value):
                self.run(f"mkdir -p {shlex.quote(value)}")
                self.workdir = value
            case Step("RUN", value):
                self.run(value)
            case Step("COPY", value):
                self.copy(*value.split(), others=others)
            case Step("CMD", value):
                self.command = json.loads(value)
            case Step("ENTRYPOINT", "[]") | Step(("LABEL" | "EXPOSE"), _):
                pass
            case _:
                sys.exit(f"image: this step is not played here: {step.instruction} {step.value}")

    def run(self, words: str) -> None:
        """Run a step's words by a shell, as a layer."""
        if (upper := self._layer(f"RUN {words} {self.env} {self.arguments} {self.user}")) is None:
            return
        say(f"RUN {words[:100]}")
        mounts, given = machines_pip()
        uid, _, gid = self.user.partition(":")
        self.root.write(
            upper,
            ["/bin/sh", "-c", words],
            self.env | self.arguments | given,
            workdir=self.workdir,
            user=User(int(uid), int(gid), int(gid)) if uid else None,
            mounts=mounts,
        )
        self._keep(upper)

    def copy(self, source: str, target: str, *more: str, others: "dict[str, Player]") -> None:
        """Copy from the context, or from another stage, as a layer."""
        if source.startswith("--from="):
            other = others[source.removeprefix("--from=")]
            if (upper := self._layer(f"COPY {target} {more} {other.digest}")) is None:
                return
            mount = Mount(upper / more[0].lstrip("/"), "/mnt", writable=True)
            mount.source.mkdir(parents=True)
            other.root.write(
                upper.with_name(f"{upper.name}.unused"),
                ["cp", "-a", f"{target}/.", "/mnt"],
                _BARE,
                mounts=[mount],
            )
            shutil.rmtree(upper.with_name(f"{upper.name}.unused"))
            self._keep(upper)
            return
        if more:
            sys.exit(f"image: COPY of several is not played here: {source} {target} {more}")
        files = list(context(source, IGNORED.read_text()))
        self.fresh |= (ROOT / source).is_dir()
        said = "".join(f"{within} {file.stat().st_mode}\n" for file, within in files)
        content = b"".join(file.read_bytes() for file, _ in files)
        if (upper := self._layer(f"COPY {source} {target} {said}", content)) is None:
            return
        into = target.lstrip("/") + (source if target.endswith("/") else "")
        for file, within in files:
            here = upper / into / within
            here.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, here)
        self._keep(upper)

    def _layer(self, said: str, content: bytes = b"") -> Path | None:
        """Give the folder of the next layer, to be written; None: it is there."""
        whole = f"{self.digest} {said} {self.workdir}".encode() + content
        self.digest = hashlib.sha256(whole).hexdigest()[:12]
        where = OURS if self.fresh else self.cache
        layer = where / f"image-{self.digest}"
        if layer.is_dir():
            self.layers.append(layer)
            return None
        partial = layer.with_name(f".{layer.name}")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        return partial

    def _keep(self, partial: Path) -> None:
        """Give a whole layer its name."""
        shutil.rmtree(f"{partial}.work", ignore_errors=True)
        layer = partial.with_name(partial.name.removeprefix("."))
        partial.rename(layer)
        self.layers.append(layer)


def machines_pip() -> tuple[list[Mount], dict[str, str]]:
    """Give what lets pip within the root find what it finds outside."""
    names = [*_PIP, *_PROXIES, *map(str.upper, _PROXIES)]
    given = {name: os.environ[name] for name in names if name in os.environ}
    mounts = []
    for variable, file in (
        ("PIP_CONFIG_FILE", Path("/etc/pip.conf")),
        ("PIP_CERT", Path("/etc/ssl/certs/ca-certificates.crt")),
    ):
        if file.is_file():
            given[variable] = f"/run/secrets/{file.name}"
            mounts.append(Mount(file, given[variable]))
    return mounts, given


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
    if (partial := player._layer("FROM")) is not None:  # noqa: SLF001 - its own maker
        bootstrap(wanted, partial)
        player._keep(partial)  # noqa: SLF001
    return player


def is_code(step: Step) -> bool:
    """Say whether the step copies a folder of the clone."""
    return step.instruction == "COPY" and (ROOT / step.value.split()[0]).is_dir()


def for_tests(player: Player) -> Path:
    """Install the tests' packages over those of the image, as a layer beside it."""
    beside = Player(player.cache, player.digest, list(player.layers), dict(player.env))
    said = LOCK.read_text()
    (lock := beside.cache / "image-requirements.lock").write_text(said)
    if (upper := beside._layer("TESTS", said.encode())) is not None:  # noqa: SLF001
        say("installing the tests' packages for the image's interpreter, once")
        mounts, given = machines_pip()
        words = "/opt/postyard/bin/python -m pip --disable-pip-version-check install --quiet --no-cache-dir --require-hashes -r /run/secrets/lock"
        beside.root.write(
            upper,
            shlex.split(words),
            beside.env | given,
            mounts=[*mounts, Mount(lock, "/run/secrets/lock")],
        )
        beside._keep(upper)  # noqa: SLF001
    return beside.layers[-1]


if __name__ == "__main__":
    main()
