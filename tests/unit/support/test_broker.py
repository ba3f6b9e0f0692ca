"""Who shares the broker of a run: it is there from the first to the last of them, and comes back for one that is late."""

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support.broker import shared


@dataclass
class Fake:
    """Remembers what it was told."""

    directory: Path
    told: list[str]
    stopping: Callable[[], None] = field(default=lambda: None)

    def start(self) -> None:
        (self.directory / "data").mkdir(exist_ok=True)
        self.told.append("start")

    def stop(self) -> bool:
        self.stopping()
        self.told.append("stop")
        return True


def enter(fake: Fake) -> AbstractContextManager[None]:
    entered = shared(fake)
    entered.__enter__()
    return entered


def leave(entered: AbstractContextManager[None]) -> None:
    entered.__exit__(None, None, None)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
def test_the_last_to_leave_stops_it_and_takes_its_data_away(
    tmp_path: Path, order: tuple[int, ...]
) -> None:
    fake = Fake(tmp_path / "kafka", [])
    users = [enter(fake) for _ in order]
    for number in order[:-1]:
        leave(users[number])
        assert fake.told == ["start"] * 3
    assert (fake.directory / "data").exists()
    leave(users[order[-1]])
    assert fake.told == ["start"] * 3 + ["stop"]
    assert not (fake.directory / "data").exists()


def test_who_comes_while_it_is_being_stopped_waits_and_starts_it_again(tmp_path: Path) -> None:
    told: list[str] = []
    stops, may_stop, late_has_it = (threading.Event() for _ in range(3))

    def stopping() -> None:
        stops.set()
        may_stop.wait(10)

    first = enter(Fake(tmp_path / "kafka", told, stopping))
    leaving = threading.Thread(target=leave, args=[first])
    leaving.start()
    assert stops.wait(10)

    def come() -> None:
        with shared(Fake(tmp_path / "kafka", told)):
            late_has_it.set()

    coming = threading.Thread(target=come)
    coming.start()
    assert not late_has_it.wait(0.2)
    may_stop.set()
    leaving.join(10)
    coming.join(10)
    assert told == ["start", "stop", "start", "stop"]


def test_one_that_could_not_be_started_is_stopped_all_the_same(tmp_path: Path) -> None:
    class Broken(Fake):
        def start(self) -> None:
            raise RuntimeError

    fake = Broken(tmp_path / "kafka", [])
    with pytest.raises(RuntimeError), shared(fake):
        pass
    assert fake.told == ["stop"]
