"""The tables of log events and metrics have what the code has, no more and no less."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[3]
LEVELS = ("debug", "info", "warning", "error", "exception")
METRICS = ("counter", "gauge", "histogram", "family")


def calls() -> Iterator[tuple[Path, ast.Call, str, str]]:
    """Give every call with the words before and after its last dot."""
    for room in ("services", "shared"):
        for file in (ROOT / room).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.Call):
                    owner, _, name = ast.unparse(node.func).rpartition(".")
                    yield file, node, owner, name


def constants(node: ast.expr) -> list[str]:
    """Give the words that an argument may be: a constant, or a choice of two."""
    match node:
        case ast.Constant(value=str(word)):
            return [word]
        case ast.IfExp(body=one, orelse=other):
            return constants(one) + constants(other)
        case _:
            return []


def documented(page: str) -> set[str]:
    text = (ROOT / "docs" / page).read_text().partition("|---|")[2].partition("\n\n")[0]
    return set(re.findall(r"^\| `([a-z_]+)` \|", text, re.MULTILINE))


def test_every_log_event_is_a_constant_and_in_the_table() -> None:
    said = dict.fromkeys(("library", "library_repeated"), "shared/runtime/logging.py")
    for file, call, owner, name in calls():
        if name in LEVELS and owner.rpartition(".")[2] in ("log", "_log"):
            events = constants(call.args[0])
            assert events, f"{file}:{call.lineno}: the event is no constant"
            said |= dict.fromkeys(events, f"{file}:{call.lineno}")
    missing = {event: where for event, where in said.items() if event not in documented("logs.md")}
    assert not missing, "docs/logs.md does not have these"
    assert not documented("logs.md") - set(said), "docs/logs.md has these, the code does not"


def test_every_metric_is_in_the_table() -> None:
    made: dict[str, str] = {}
    for file, call, owner, name in calls():
        if name in METRICS and file != ROOT / "shared" / "runtime" / "metrics.py" and call.args:
            assert owner.rpartition(".")[2] in ("", "metrics"), f"{file}:{call.lineno}"
            suffix = "_total" if name == "counter" else ""
            for metric in constants(call.args[0]):
                made[metric + suffix] = f"{file}:{call.lineno}"
    missing = {name: where for name, where in made.items() if name not in documented("metrics.md")}
    assert not missing, "docs/metrics.md does not have these"
    assert not documented("metrics.md") - set(made), "docs/metrics.md has these, the code does not"
