"""A root file system in layers, as a container runtime has it, and what runs in it.

Layers are folders that an overlay puts one over the other. Each process gets mounts of its own (``unshare``), which are gone when it is:
nothing is ever mounted where anybody else sees it, and a folder may be deleted with no fear of what hangs in it. What is started
is the program itself, and a signal to it the program's. What is not played: seccomp, limits of resources, other namespaces.
"""

import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

#: Without these and its own mounts a program of Debian's does not run.
_DEVICES: Final = "null zero full random urandom"
#: Every name and address is the machine's: a pod's network is, too.
_NETWORK: Final = ("/etc/resolv.conf", "/etc/hosts")


class Mount(NamedTuple):
    """Something of the machine at a path within the root."""

    source: Path
    target: str
    writable: bool = False


class User(NamedTuple):
    """Who runs it: no capabilities, and none to be had by whatever it executes."""

    uid: int
    gid: int
    group: int

    def words(self) -> list[str]:
        """Give the command that becomes this user."""
        return [
            "/usr/bin/setpriv",
            *("--reuid", str(self.uid), "--regid", str(self.gid), "--groups", str(self.group)),
            *("--no-new-privs", "--inh-caps=-all", "--bounding-set=-all"),
        ]


@dataclass(frozen=True, slots=True)
class Root:
    """Layers, the lowest first; ``at``: an empty folder, where each process has its root."""

    layers: Sequence[Path]
    at: Path

    def command(
        self,
        words: Sequence[str],
        *,
        workdir: str = "/",
        upper: Path | None = None,
        user: User | None = None,
        read_only: bool = False,
        mounts: Sequence[Mount] = (),
        alone: bool = False,
    ) -> list[str]:
        """Give the command that runs ``words`` in the root.

        ``upper`` keeps what they write, which is else forgotten. ``alone``: they are process 1 of their own numbering, and a signal does
        not come to them from outside.
        """
        at, over = map(shlex.quote, (str(self.at), str(upper or self.at / "upper")))
        work = shlex.quote(f"{upper}.work" if upper else str(self.at / "work"))
        lower = shlex.quote(":".join(map(str, reversed(self.layers))))
        steps = [
            "set -eu",
            f"mount -t tmpfs -o mode=755 tmpfs {at}",
            f"mkdir -p {over} {work} {at}/root",
            f"mount -t overlay -o lowerdir={lower},upperdir={over},workdir={work} overlay {at}/root",
            f"cd {at}/root",
            "mount -t proc proc proc" if alone else "mount --rbind /proc proc",
            "mount -t tmpfs -o mode=755 tmpfs dev",
            "mkdir dev/shm && mount -t tmpfs -o mode=1777 tmpfs dev/shm",
            f"for one in {_DEVICES}; do touch dev/$one && mount --bind /dev/$one dev/$one; done",
            "ln -s /proc/self/fd dev/fd && ln -s fd/1 dev/stdout && ln -s fd/2 dev/stderr",
            *(f"[ -e .{one} ] || touch .{one}; mount --bind {one} .{one}" for one in _NETWORK),
        ]
        for mount in mounts:
            source, target = shlex.quote(str(mount.source)), shlex.quote(f".{mount.target}")
            made = f"mkdir -p {target}"
            if mount.source.is_file():
                made = f"mkdir -p {shlex.quote(f'.{Path(mount.target).parent}')} && touch {target}"
            steps.append(f"{made} && mount --bind {source} {target}")
            if not mount.writable:
                steps.append(f"mount -o remount,bind,ro {target}")
        if read_only:
            steps.append(f"mount -o remount,bind,ro {at}/root")
        become = user.words() if user else []
        inside = ["/usr/bin/env", f"--chdir={workdir}", *become, *words]
        steps.append(f"exec chroot . {shlex.join(inside)}")
        own = ["--pid", "--fork", "--kill-child"] if alone else []
        words = ["unshare", "--mount", "--propagation", "private", *own]
        return [*words, "sh", "-c", "\n".join(steps)]

    def write(
        self,
        words: Sequence[str],
        env: Mapping[str, str],
        *,
        upper: Path | None = None,
        workdir: str = "/",
        user: User | None = None,
        mounts: Sequence[Mount] = (),
    ) -> None:
        """Run words that write a layer, or into what is mounted; what fails ends the program with its own words."""
        command = self.command(words, workdir=workdir, user=user, upper=upper, mounts=mounts)
        done = subprocess.run(
            command,
            env=dict(env),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            sys.exit(f"{done.stdout}\nimage: this failed ({done.returncode}): {shlex.join(words)}")
