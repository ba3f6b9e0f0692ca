"""What is taken over of a changed configuration, and what is not."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from shared.records.configuration import Configuration
from shared.runtime.loading import SettingsError, load
from shared.runtime.metrics import Metrics
from shared.runtime.reloading import Reloading, differences, fingerprint, forbidden, read
from shared.runtime.settings import Settings

TEXT = """
[sources.ip-1]
slot = 0
kind = "bind"
address = "192.0.2.10"
ehlo = "m1.example.com"
warmup = "none"

[pools.main]
sources = { ip-1 = 1 }

[tenants.acme]
domains = ["acme.example"]
pools = { transactional = "main", bulk = "main" }
unsigned = true

[providers.corp]
mx = [".corp.example"]

[limits.corp]
rate = "10/s"
"""
HOT = ("limits", "sources", "pools", "tenants", "ingest")


class Heard:
    """A log that remembers."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, dict[str, Any]]] = []

    def info(self, event: str, **fields: Any) -> None:
        self.lines.append((event, fields))

    warning = error = info

    async def until(self, event: str) -> dict[str, Any]:
        for _ in range(500):
            for said, fields in self.lines:
                if said == event:
                    return fields
            await asyncio.sleep(0.01)
        raise AssertionError(f"{event} was not said: {self.lines}")


class Running:
    """One process's reloading of one file."""

    def __init__(self, path: Path) -> None:
        self.path, self.log, self.metrics = path, Heard(), Metrics()
        self.renewed: list[Settings] = []
        written = read(path, {})
        assert written.settings is not None, written.problems
        log: Any = self.log
        self.reloading = Reloading(
            path, {}, written.settings, log, self.metrics, written.fingerprint, look_s=0.01
        )

    async def renew(self, settings: Settings) -> None:
        self.renewed.append(settings)

    @property
    def refused(self) -> bool:
        return b"postyard_config_refused 1.0" in self.metrics.page()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "postyard.toml"
    path.write_text(TEXT)
    return path


@contextlib.asynccontextmanager
async def running(path: Path) -> AsyncIterator[Running]:
    room = Running(path)
    task = asyncio.create_task(room.reloading.run(HOT, room.renew))
    try:
        yield room
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def settings(tmp_path: Path, text: str) -> Settings:
    path = tmp_path / "other.toml"
    path.write_text(text)
    return load(path, {})


def test_differences_are_named_as_an_operator_writes_them(tmp_path: Path) -> None:
    old = settings(tmp_path, TEXT)
    changed = TEXT.replace('"10/s"', '"20/s"').replace("ip-1 = 1", "ip-1 = 2")
    new = settings(tmp_path, changed + '[limits."mx.example"]\nconnections = 3\n')
    assert list(differences(old, new)) == [
        "pools.main.sources.ip-1",
        "limits.corp.rate.count",
        'limits."mx.example"',
    ]
    assert list(differences(old, old)) == []


def test_a_slot_is_never_given_to_another_address(tmp_path: Path) -> None:
    old = settings(tmp_path, TEXT)
    new = settings(tmp_path, TEXT.replace("192.0.2.10", "192.0.2.11"))
    (problem,) = forbidden(old, new)
    assert problem.startswith("sources.ip-1.slot: slot 0 has been ip-1's")
    assert not forbidden(old, settings(tmp_path, TEXT.replace("m1.example.com", "m2.example.com")))


def test_the_fingerprint_is_of_all_files_of_a_directory(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(TEXT)
    one = fingerprint(tmp_path)
    (tmp_path / "b.toml").write_text("[log]\nlevel = 'info'\n")
    two = fingerprint(tmp_path)
    (tmp_path / "notes.txt").write_text("of no account")
    assert one != two
    assert two == fingerprint(tmp_path)


async def test_a_changed_file_is_taken_over(path: Path) -> None:
    async with running(path) as room:
        path.write_text(TEXT.replace('"10/s"', '"20/s"'))
        assert (await room.log.until("config_reloaded"))["changed"] == ["limits.corp.rate.count"]
        (now,) = room.renewed
        rate = now.limits["corp"].rate
        assert rate is not None
        assert rate.count == 20
        assert b"postyard_config_reloads_total 1.0" in room.metrics.page()


async def test_what_is_not_hot_keeps_its_value_and_is_named(path: Path) -> None:
    async with running(path) as room:
        path.write_text(TEXT + '[kafka]\nbootstrap = "elsewhere:9092"\n')
        waiting = await room.log.until("config_needs_restart")
        assert waiting["settings"] == ["kafka.bootstrap"]
        assert not room.renewed
        assert room.reloading.settings.kafka.bootstrap != "elsewhere:9092"


async def test_bodies_are_not_expected_for_longer_than_their_topic_keeps_them_before_a_restart_has_looked(
    path: Path,
) -> None:
    async with running(path) as room:
        path.write_text(TEXT + '[ingest]\nmax_lifetime = "30d"\nmax_recipients = 7\n')
        waiting = await room.log.until("config_needs_restart")
        assert waiting["settings"] == ["ingest.max_lifetime"]
        (now,) = room.renewed
        assert now.ingest.max_recipients == 7
        assert now.ingest.max_lifetime_ns == Settings().ingest.max_lifetime_ns


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (TEXT + "[nonsense]\n", "nonsense"),
        (TEXT + "[[[", "not TOML"),
        ("", "nothing in it"),
        (TEXT.replace("192.0.2.10", "192.0.2.11"), "never given to another address"),
    ],
)
async def test_the_last_good_one_is_kept_until_the_files_are_mended(
    path: Path, wrong: str, why: str
) -> None:
    async with running(path) as room:
        path.write_text(wrong)
        refused = await room.log.until("config_refused")
        assert why in "\n".join(refused["problems"])
        assert room.refused
        assert not room.renewed
        path.write_text(TEXT.replace('"10/s"', '"5/s"'))
        await room.log.until("config_reloaded")
        assert not room.refused
        assert len(room.renewed) == 1


async def test_mending_by_the_old_text_ends_the_refusal_without_a_reload(path: Path) -> None:
    async with running(path) as room:
        path.write_text("[[[")
        await room.log.until("config_refused")
        path.write_text(TEXT)
        for _ in range(500):
            if not room.refused:
                break
            await asyncio.sleep(0.01)
        assert not room.refused
        assert not room.renewed


FOLLOWING = TEXT + '[configuration]\nfollow = "control"\n'


def published(text: str, fingerprint: str = "f1") -> Configuration:
    return Configuration(
        fingerprint=fingerprint,
        files={"theirs.toml": text},
        author="ada",
        reason="warnings",
        wall_ns=1,
    )


async def test_who_follows_mail_control_goes_by_what_was_published_and_says_who_did(
    path: Path,
) -> None:
    path.write_text(FOLLOWING)
    async with running(path) as room:
        path.write_text(FOLLOWING.replace('"10/s"', '"30/s"'))
        room.reloading.hear(1, published(TEXT.replace('"10/s"', '"20/s"')))
        line = await room.log.until("config_reloaded")
        assert line["changed"] == ["limits.corp.rate.count"]
        assert (line["author"], line["reason"]) == ("ada", "warnings")
        (now,) = room.renewed
        rate = now.limits["corp"].rate
        assert rate is not None
        assert rate.count == 20
        assert now.configuration.follow == "control"


async def test_who_follows_its_files_does_not_hear_what_is_published(path: Path) -> None:
    async with running(path) as room:
        room.reloading.hear(1, published(TEXT.replace('"10/s"', '"20/s"')))
        path.write_text(TEXT.replace('"10/s"', '"30/s"'))
        await room.log.until("config_reloaded")
        rates = [settings.limits["corp"].rate for settings in room.renewed]
        assert [rate.count for rate in rates if rate is not None] == [30]


def test_a_process_begins_with_what_is_published_and_its_own_way_to_kafka(path: Path) -> None:
    path.write_text(FOLLOWING + '[kafka]\nbootstrap = "mine:9092"\n')
    room = Running(path)
    room.reloading.begin(published(TEXT.replace('"10/s"', '"20/s"')))
    now = room.reloading.settings
    rate = now.limits["corp"].rate
    assert rate is not None
    assert rate.count == 20
    assert now.kafka.bootstrap == "mine:9092"


def test_a_process_does_not_begin_with_what_cannot_be_used(path: Path) -> None:
    path.write_text(FOLLOWING)
    with pytest.raises(SettingsError, match=r"mail.control: theirs.toml: not TOML"):
        Running(path).reloading.begin(published("[[["))
