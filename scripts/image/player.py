"""Plays the steps of a Dockerfile's stage, each as a layer in a folder whose name is made of all that went into it.

A layer has its name when it is whole. Until a step copies the code, layers are the user's, in the cache, and played once; from
there on they are of one clone and one run. Steps find nothing of the machine but its network, and how its pip finds packages.
"""

import hashlib
import json
import os
import shlex
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path
from string import Template
from typing import Final

from scripts.image.dockerfile import IGNORED, Step, context
from scripts.image.layers import Mount, Root, User
from scripts.setup import ROOT, say

#: Of this clone and of the last run: the layers with the code, and image.json.
OURS: Final = ROOT / "run" / "image"
_PIP: Final = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_TRUSTED_HOST", "PIP_DEFAULT_TIMEOUT")
_PROXIES: Final = ("http_proxy", "https_proxy", "no_proxy")
_BARE: Final = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}


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
        if (upper := self.layer(f"RUN {words} {self.env} {self.arguments} {self.user}")) is None:
            return
        say(f"RUN {words[:100]}")
        mounts, given = machines_pip()
        uid, _, gid = self.user.partition(":")
        self.root.write(
            ["/bin/sh", "-c", words],
            self.env | self.arguments | given,
            upper=upper,
            workdir=self.workdir,
            user=User(int(uid), int(gid), int(gid)) if uid else None,
            mounts=mounts,
        )
        self.keep(upper)

    def copy(self, source: str, target: str, *more: str, others: "dict[str, Player]") -> None:
        """Copy from the context, or from another stage, as a layer."""
        if source.startswith("--from=") and len(more) == 1:
            self._copy_from(others[source.removeprefix("--from=")], target, more[0])
            return
        if more or source.startswith("--"):
            sys.exit(f"image: this COPY is not played here: {source} {target} {' '.join(more)}")
        files = list(context(source, IGNORED.read_text()))
        self.fresh |= (ROOT / source).is_dir()
        into = target.lstrip("/") + (source if target.endswith("/") else "")
        said = "".join(f"{within} {file.stat().st_mode}\n" for file, within in files)
        content = b"".join(file.read_bytes() for file, _ in files)
        if (upper := self.layer(f"COPY {source} {target} {said}", content)) is None:
            return
        for file, within in files:
            here = upper / into / within
            here.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, here)
        self.keep(upper)

    def _copy_from(self, other: "Player", source: str, target: str) -> None:
        if (upper := self.layer(f"COPY {source} {target} {other.digest}")) is None:
            return
        mount = Mount(upper / target.lstrip("/"), "/mnt", writable=True)
        mount.source.mkdir(parents=True)
        other.root.write(["cp", "-a", f"{source}/.", "/mnt"], _BARE, mounts=[mount])
        self.keep(upper)

    def layer(self, said: str, content: bytes = b"") -> Path | None:
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

    def keep(self, partial: Path) -> None:
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
