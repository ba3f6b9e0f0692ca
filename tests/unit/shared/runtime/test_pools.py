"""How pools and warm-ups are written: what is read, and what is refused with its path."""

from pathlib import Path

import pytest

from shared.runtime.loading import SettingsError, load
from shared.runtime.settings import Settings, Spill
from shared.runtime.warmups import SHIPPED
from tests.unit.shared.runtime.test_loading import GOOD

MIN = 60_000_000_000
SPILL = 'spill = { to = "tx", after = "30m", daily = 10000, share = 0.2 }'


def loaded(folder: Path, old: str = "", new: str = "", more: str = "") -> Settings:
    assert old in GOOD
    file = folder / "postyard.toml"
    file.write_text(GOOD.replace(old, new, 1) + more if old else GOOD + more)
    return load(file, {})


def refused(folder: Path, old: str = "", new: str = "", more: str = "") -> str:
    with pytest.raises(SettingsError) as caught:
        loaded(folder, old, new, more)
    (problem,) = caught.value.problems
    return str(problem)


def test_a_source_names_a_schedule_that_is_shipped_or_written(tmp_path: Path) -> None:
    settings = loaded(tmp_path, 'warmup = "none"', 'warmup = "mailtrap"')
    assert settings.warmups[settings.sources["ip-1"].warmup] == SHIPPED["mailtrap"]
    own = '[warmups.slow]\ndays = [50, 60, 80]\nhours = 6\nfirst = ["opened"]'
    settings = loaded(tmp_path, 'warmup = "none"', 'warmup = "slow"', own)
    slow = settings.warmups["slow"]
    assert (slow.days, slow.hours, slow.first) == ((50, 60, 80), 6, ("opened",))


def test_a_schedule_may_be_a_rule(tmp_path: Path) -> None:
    rule = "[warmups.slow]\ndays = { from = 100, growth = 1.3, to = 300 }"
    assert loaded(tmp_path, more=rule).warmups["slow"].days == (100, 130, 169, 219, 285, 300)


def test_a_shipped_schedule_is_changed_field_by_field(tmp_path: Path) -> None:
    changed = loaded(tmp_path, more="[warmups.mailtrap]\nhours = 20").warmups["mailtrap"]
    assert (changed.days, changed.hours) == (SHIPPED["mailtrap"].days, 20)


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ("hours = 3", "warmups.slow.days: is required"),
        ("days = []", "warmups.slow.days: expected budgets such as"),
        ("days = [24]", "warmups.slow.days: expected a number from 25 to"),
        ("days = [50, 40]", "warmups.slow.days: expected no day with less than the one before"),
        ("days = [50]\nhours = 25", "warmups.slow.hours: expected a number from 0 to 24, got 25"),
        ("days = { from = 50, to = 90 }", "warmups.slow.days: expected { from = 100, growth"),
        (
            "days = { from = 50, growth = 2, to = 90 }",
            "warmups.slow.days: expected a growth above 1 and at most 1.4, got 2",
        ),
        (
            "days = { from = 50, growth = 1.1, to = 40 }",
            "warmups.slow.days: expected a number from 50 to",
        ),
    ],
)
def test_a_schedule_that_cannot_be_followed_is_refused(
    tmp_path: Path, said: str, problem: str
) -> None:
    assert refused(tmp_path, more=f"[warmups.slow]\n{said}").startswith(problem)


def test_no_schedule_may_be_called_none(tmp_path: Path) -> None:
    assert "this name means" in refused(tmp_path, more="[warmups.none]\ndays = [50]")


def test_a_pool_says_what_it_sticks_to_and_where_it_spills(tmp_path: Path) -> None:
    pool = loaded(tmp_path, "[pools.bulk]", f'[pools.bulk]\nsticky = "domain"\n{SPILL}').pools[
        "bulk"
    ]
    assert pool.sticky == "domain"
    assert pool.spill == Spill("tx", 30 * MIN, 10_000, 0.2)


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ('sticky = "sender"', "pools.bulk.sticky: expected one of none, tenant, domain, recipient"),
        (SPILL.replace('"tx"', '"rx"'), "pools.bulk.spill.to: no such pool: rx"),
        (SPILL.replace('"tx"', '"bulk"'), "pools.bulk.spill.to: expected another pool"),
        (
            SPILL.replace("0.2", "0"),
            "pools.bulk.spill.share: expected a part above 0 and at most 1",
        ),
        (SPILL.replace(", daily = 10000", ""), "pools.bulk.spill.daily: is required"),
        (SPILL.replace('after = "30m", ', ""), "pools.bulk.spill.after: is required"),
    ],
)
def test_a_pool_that_makes_no_sense_is_refused(tmp_path: Path, said: str, problem: str) -> None:
    assert refused(tmp_path, "[pools.bulk]", f"[pools.bulk]\n{said}").startswith(problem)


def test_mail_must_not_go_round(tmp_path: Path) -> None:
    back = f"[pools.back]\nsources = {{ ip-1 = 1 }}\n{SPILL}"
    said = f"[pools.bulk]\n{SPILL.replace('tx', 'back')}"
    assert "must not go round" in refused(tmp_path, "[pools.bulk]", said, back)


def test_somebody_must_be_allowed_to_use_the_pool_that_mail_spills_to(tmp_path: Path) -> None:
    spare = "[pools.spare]\nsources = { ip-2 = 1 }"
    said = f"[pools.bulk]\n{SPILL.replace('tx', 'spare')}"
    problem = refused(tmp_path, "[pools.bulk]", said, spare)
    assert problem == (
        "pools.bulk.spill.to: no tenant of bulk may use spare: name it in tenants.NAME.spill_to"
    )
    allowed = said.replace("[pools.bulk]", "[pools.bulk]", 1)
    settings = loaded(
        tmp_path,
        "[pools.bulk]",
        allowed,
        spare + '\n[tenants.acme2]\ndomains = ["b.example"]\n'
        'pools = { transactional = "tx", bulk = "bulk" }\nspill_to = ["spare"]\nunsigned = true',
    )
    assert settings.tenants["acme2"].may_use("spare")
    assert not settings.tenants["acme"].may_use("spare")


def test_a_tenant_spills_only_to_pools_that_there_are(tmp_path: Path) -> None:
    said = '[tenants.acme]\nspill_to = ["rx"]'
    assert refused(tmp_path, "[tenants.acme]", said).startswith(
        "tenants.acme.spill_to: no such pool: rx"
    )
