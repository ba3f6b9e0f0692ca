"""The sender on one core, the receiver on the others: so that neither waits for the other's turn."""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import TypeVar

import msgspec

from tests.support.nursery import ROOT

T = TypeVar("T")


def cores() -> tuple[set[int], set[int]]:
    """Give the core of the sender and those of the receiver; with one core they share it."""
    found = sorted(os.sched_getaffinity(0))
    return {found[0]}, set(found[1:] or found)


def pinned(to: set[int]) -> Callable[[], None]:
    """Give what binds a child to the cores ``to`` before it begins."""
    return lambda: os.sched_setaffinity(0, to)


def measured(module: str, words: Sequence[str], to: set[int], result: type[T]) -> T:
    """Run a module of ours on the cores ``to``, and give what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", module, *words],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        preexec_fn=pinned(to),
        check=True,
    )
    return msgspec.json.decode(done.stdout, type=result)
