"""How a process begins and ends: a real one, of the smallest service that there can be."""

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from services.cli.__main__ import postyard

ROOT = Path(__file__).resolve().parents[3]
SERVICE = """
import sys
from shared.runtime.lifecycle import Process, main

async def run(process: Process) -> None:
    await process.serve(lambda: [])
    {body}

sys.exit(main("sender", "Does nothing.", run))
"""
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path, kafka: str, prefix: str) -> Start:
    (tmp_path / "postyard.toml").write_text(
        f'[kafka]\nbootstrap = "{kafka}"\nprefix = "{prefix}"\npartitions = 1\nslots = 1\n'
    )
    config = str(tmp_path / "postyard.toml")

    def begin(
        body: str = "await process.stop.wait()", *words: str, topics: bool = True, **env: str
    ) -> "subprocess.Popen[str]":
        if topics:
            done = CliRunner().invoke(postyard, ["topics", "apply", "--config", config])
            assert done.exit_code == 0, done.output
        program = tmp_path / "service.py"
        program.write_text(SERVICE.format(body=body))
        ours = {
            "PYTHONPATH": str(ROOT),
            "POSTYARD_CONFIG": config,
            "POSTYARD_HTTP_PORT": "0",
            "POSTYARD_POD": "pod-7",
        }
        return subprocess.Popen(
            [sys.executable, str(program), *words],
            env=os.environ | ours | env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return begin


def ended(process: "subprocess.Popen[str]") -> tuple[int, list[dict[str, Any]], str]:
    out, err = process.communicate(timeout=60)
    return process.returncode, [json.loads(line) for line in out.splitlines()], err


def events(lines: list[dict[str, Any]]) -> list[str]:
    return [line["event"] for line in lines if line["event"] != "library"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_asked_to_stop_it_ends_with_0(start: Start, number: int) -> None:
    process = start()
    assert process.stdout is not None
    said = [json.loads(process.stdout.readline()) for _ in range(2)]
    assert [line["event"] for line in said] == ["starting", "listening"]
    assert said[1]["pod"] == "pod-7"
    with urllib.request.urlopen(f"http://127.0.0.1:{said[1]['port']}/readyz", timeout=5) as answer:
        assert answer.read() == b"ready\n"
    process.send_signal(number)
    code, lines, _ = ended(process)
    assert (code, events(lines)) == (0, ["ended"])


def test_a_bug_ends_it_with_70_and_a_traceback(start: Start) -> None:
    code, lines, _ = ended(start("raise LookupError('lost')"))
    assert (code, events(lines)) == (70, ["starting", "listening", "bug", "ended"])
    bug = next(line for line in lines if line["event"] == "bug")
    assert bug["reason"] == "LookupError: lost"
    assert '"exc_type": "LookupError"' in json.dumps(bug["exception"])


def test_without_its_topics_it_ends_with_78_and_says_what_to_do(start: Start) -> None:
    code, lines, _ = ended(start(topics=False))
    assert (code, events(lines)) == (78, ["starting", "topics_wrong", "ended"])
    assert "run `postyard topics apply`" in lines[1]["reason"]


def test_without_kafka_it_ends_with_69(start: Start) -> None:
    code, lines, _ = ended(start(topics=False, POSTYARD_KAFKA_BOOTSTRAP="127.0.0.1:1"))
    assert (code, events(lines)) == (69, ["starting", "kafka_unavailable", "ended"])


def test_a_taken_port_ends_it_with_71(start: Start) -> None:
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        code, lines, _ = ended(start(POSTYARD_HTTP_PORT=port))
    assert (code, events(lines)) == (71, ["starting", "cannot_listen", "ended"])


def test_a_wrong_configuration_ends_it_with_78_before_anything_else(
    start: Start, tmp_path: Path
) -> None:
    wrong = tmp_path / "wrong.toml"
    wrong.write_text("[kafka]\nslots = 0\nx = 1\n")
    code, lines, err = ended(start("", "--config", str(wrong), topics=False))
    assert (code, lines) == (78, [])
    assert err.splitlines() == [
        "kafka.slots: expected a number from 1 to 8192, got 0",
        "kafka.x: unknown key; known here: bootstrap, min_insync, partitions, prefix, replication, slots",
    ]


def test_help_says_what_it_reads_and_how_it_ends(start: Start) -> None:
    process = start("", "--help", topics=False)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    for word in ("POSTYARD_CONFIG", "POSTYARD_POD", "exit codes:", "69 Kafka does not answer"):
        assert word in out
