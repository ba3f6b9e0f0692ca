"""What the nursery starts behaves as what `python -m` starts: output, exit codes, signals, environment, and an end that is told."""

import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.nursery import ROOT, Launch, launch, nursery


@pytest.fixture(scope="module")
def ours() -> Iterator[Launch]:
    with nursery() as started:
        yield started


def run(
    start: Launch, module: str, *words: str, cwd: Path = ROOT, env: Mapping[str, str] = os.environ
) -> tuple[int, str, str]:
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        code = start(module, words, cwd=cwd, env=env, stdout=out, stderr=err).wait(60)
        said = []
        for file in (out, err):
            file.seek(0)
            said.append(file.read().decode())
    return code, said[0], said[1]


@pytest.mark.parametrize(
    ("module", "words", "code"),
    [
        ("services.cli", ("queue", "--help"), 0),
        ("services.cli", ("nonsense",), 2),
        ("services.sender", ("--config", "absent.toml"), 78),
    ],
)
def test_it_says_what_the_module_says_and_ends_as_it_ends(
    ours: Launch, module: str, words: tuple[str, ...], code: int
) -> None:
    found = run(ours, module, *words)
    assert found == run(launch, module, *words)
    assert found[0] == code


def test_the_environment_and_the_folder_are_its_own(ours: Launch, tmp_path: Path) -> None:
    bare = {"PYTHONPATH": str(ROOT)}
    (tmp_path / "postyard.toml").write_text("nonsense = 1")
    for env, said in (bare, "nonsense"), (bare | {"POSTYARD_CONFIG": "elsewhere"}, "elsewhere"):
        code, _, problems = run(ours, "services.ingest", cwd=tmp_path, env=env)
        assert code == 78
        assert said in problems


def test_signals_reach_it_and_its_end_is_told_to_who_waits(ours: Launch, tmp_path: Path) -> None:
    words = ["--port", "0", "--log", str(tmp_path / "log")]
    with (tmp_path / "out").open("wb") as out:
        started = [
            ours(
                "services.cli.demo.receiver",
                words,
                cwd=ROOT,
                env=os.environ,
                stdout=out,
                stderr=out,
            )
            for _ in range(3)
        ]
    first, second, third = started
    assert [each.poll() for each in started] == [None] * 3
    with pytest.raises(subprocess.TimeoutExpired):
        first.wait(0.05)
    with ThreadPoolExecutor(2) as threads:
        waitings = [threads.submit(second.wait, 30) for _ in range(2)]
        second.send_signal(signal.SIGKILL)
    # The others were born beside it, and do not keep its end from being seen.
    assert all(waiting.result(30) == -signal.SIGKILL for waiting in waitings)
    assert second.wait(30) == second.poll() == -signal.SIGKILL
    second.send_signal(signal.SIGKILL)
    assert (first.poll(), third.poll()) == (None, None)
    for each in (first, third):
        each.send_signal(signal.SIGKILL)
        assert each.wait(30) == -signal.SIGKILL
