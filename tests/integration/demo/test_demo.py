"""What a newcomer types works, leaves nothing behind, and ends nothing that is not its own."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from services.cli.demo.stage import ROOT, Stage, StageError

WORDS = [sys.executable, "-m", "services.cli.demo"]


def demo(
    directory: Path, *words: str, stdin: str = "", seconds: float = 200
) -> subprocess.CompletedProcess[str]:
    command, *rest = words
    return subprocess.run(
        [*WORDS, command, "--dir", str(directory), *rest],
        cwd=ROOT,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "demo"
    Stage(tmp_path / "demo").stop()


def test_a_run_accounts_for_every_message_and_leaves_nothing_running(directory: Path) -> None:
    done = demo(directory, "run", "--count", "80")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "80 of 80 messages have their final event" in done.stdout
    assert "DKIM signature: verified" in done.stdout
    assert not Stage(directory).runs
    # A second time, in the same folder: what the first left there does not count.
    assert len(list((directory / "maildir" / "new").iterdir())) == 74


def test_ctrl_c_in_the_middle_leaves_nothing_running(directory: Path) -> None:
    stage = Stage(directory)
    words = [*WORDS, "run", "--dir", str(directory), "--count", "500"]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "in flight" in line:
                break
        assert len(stage.processes) == 5
        process.send_signal(signal.SIGINT)
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
    assert not stage.runs


def test_a_process_that_ended_by_itself_is_named(tmp_path: Path) -> None:
    row = {"name": "sender", "pid": _no_process(), "since": "1", "port": 1}
    (tmp_path / "processes.json").write_text(json.dumps([row]))
    with pytest.raises(StageError, match=r"sender has ended: see .*sender\.log"):
        Stage(tmp_path).check()


def test_the_readmes_examples_arrive_in_a_cluster_that_was_left_running(directory: Path) -> None:
    started = demo(directory, "up", "--port", "0")
    assert started.returncode == 0, started.stdout + started.stderr
    stage = Stage(directory)
    assert stage.runs

    refused = demo(directory, "run")
    assert refused.returncode == 1
    assert "it runs already" in refused.stderr
    assert stage.runs, "what was refused must not end what runs"

    words = [*WORDS, "follow", "--dir", str(directory), "--from-start"]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True) as following:
        # Whatever fails here, nobody waits for it for ever: leaving the block waits for its end.
        giving_up = threading.Timer(120, following.kill)
        giving_up.start()
        try:
            readme = (ROOT / "README.md").read_text()
            _produce_ten_lines(readme, stage)
            _produce_a_line(readme, directory)
            assert following.stdout is not None
            events = _until_delivered(map(json.loads, following.stdout), 2)
            following.send_signal(signal.SIGINT)
            assert following.wait(20) == 0
        finally:
            giving_up.cancel()
            following.kill()
    assert sorted(events) == ["ann@a.goodmail.test", "bob@b.goodmail.test"]
    for said in events.values():
        assert [event["type"] for event in said] == ["accepted", "delivered"]
    assert len(list((directory / "maildir" / "new").iterdir())) == 2

    assert demo(directory, "down").returncode == 0
    assert not stage.runs
    assert demo(directory, "produce", "bulk").returncode == 1


def _produce_ten_lines(readme: str, stage: Stage) -> None:
    found = re.search(r"```python\n(.*?)```", readme, re.DOTALL)
    assert found is not None
    program = found[1]
    lines = [line for line in program.splitlines() if line.strip()]
    assert len(lines) == 9
    assert "127.0.0.1:29092" in program
    program = program.replace("127.0.0.1:29092", stage.kafka.bootstrap)
    # Not in the repository: it needs nothing of it.
    subprocess.run([sys.executable, "-c", program], cwd="/", check=True, timeout=60)


def _produce_a_line(readme: str, directory: Path) -> None:
    found = re.search(r"echo '(\{.*?\})' \| tr", readme, re.DOTALL)
    assert found is not None
    line = found[1].replace("\n", "")
    done = demo(directory, "produce", "transactional", stdin=line)
    assert done.stdout == "1 produced\n", done.stderr


def _until_delivered(events: Iterator[dict[str, Any]], count: int) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    delivered = 0
    for event in events:
        if "to" not in event:
            continue  # About no delivery.
        found.setdefault(event["to"], []).append(event)
        delivered += event["type"] == "delivered"
        if delivered == count:
            break
    return found


def test_a_folder_with_other_things_is_never_emptied(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(StageError, match="holds other things"), Stage(tmp_path).taken():
        pass
    assert (tmp_path / "thesis.txt").exists()


def test_two_cannot_start_in_the_same_folder(tmp_path: Path) -> None:
    with (
        Stage(tmp_path).taken(),
        pytest.raises(StageError, match="somebody else"),
        Stage(tmp_path).taken(),
    ):
        pass


def test_a_process_that_was_given_an_old_number_is_not_ended(tmp_path: Path) -> None:
    stranger = subprocess.Popen(["sleep", "60"])
    try:
        row = {"name": "sender", "pid": stranger.pid, "since": "1", "port": 1}
        gone = {"name": "ingest", "pid": _no_process(), "since": "", "port": 1}
        (tmp_path / "processes.json").write_text(json.dumps([row, gone]))
        stage = Stage(tmp_path)
        assert not stage.runs
        stage.stop()
        assert stranger.poll() is None
        assert stage.processes == []
    finally:
        stranger.kill()
        stranger.wait()


def _no_process() -> int:
    ended = subprocess.Popen(["true"])
    ended.wait()
    with suppress(ProcessLookupError):
        os.kill(ended.pid, 0)
        time.sleep(0.1)
    return ended.pid
