"""Other versions of the services, as trees of their own beside the working copy: one that is still to come, and one that was."""

import re
import shutil
import subprocess
from pathlib import Path

from tests.support.nursery import ROOT

#: How far back, where no release is tagged.
_BACK = 20


def newer(directory: Path, *, breaking: bool = False) -> Path:
    """Make a version that says more in every record; ``breaking``: in a form that ours cannot know."""
    for room in ("services", "shared"):
        shutil.copytree(ROOT / room, directory / room, ignore=shutil.ignore_patterns("__pycache__"))
    codec, state = (directory / "shared" / "records" / name for name in ("codec.py", "state.py"))
    more = b',"to_come":{"deep":[1,{"n":null}]}}'
    _change(codec, r"line = _encode\(record\)", f"line = _encode(record)[:-1] + {more!r}")
    if breaking:
        _change(codec, r"VERSION: Final = 1", "VERSION: Final = 2")
        _change(
            state, r"v: int = UNSAID", "v: int = msgspec.field(default_factory=lambda: UNSAID + 1)"
        )
    return directory


def _change(file: Path, what: str, to: str) -> None:
    text, times = re.subn(what, lambda _: to, file.read_text())
    assert times, (file, what)
    file.write_text(text)


def before(directory: Path) -> Path | None:
    """Take the last release out of the history, or what was some changes ago; None: there is no history here."""
    tagged = _git("describe", "--tags", "--abbrev=0", "HEAD^")
    commit = tagged or _git("rev-parse", "--verify", "--quiet", f"HEAD~{_BACK}")
    if commit is None:
        return None
    directory.mkdir()
    archive = subprocess.run(
        ["git", "archive", commit, "services", "shared"], cwd=ROOT, capture_output=True, check=True
    )
    subprocess.run(["tar", "-x", "-C", directory], input=archive.stdout, check=True)
    return directory


def _git(*words: str) -> str | None:
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() or None if done.returncode == 0 else None
