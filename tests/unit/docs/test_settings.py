"""docs/settings.md is run: its example loads, and its tables have every key with its default."""

import dataclasses
import re
from pathlib import Path

import pytest

from shared.runtime import defaults
from shared.runtime.loading import load
from shared.runtime.machinery import key_of
from shared.runtime.quantities import duration_ns, rate, size_bytes
from shared.runtime.settings import (
    Backoff,
    ClassPolicy,
    DkimKey,
    LimitRow,
    Pool,
    Provider,
    Rate,
    Route,
    Settings,
    Source,
    Stream,
    Tenant,
    UnknownPolicy,
)
from shared.runtime.warmups import Warmup
from shared.runtime.workings import (
    Dns,
    Following,
    Http,
    Ingest,
    Kafka,
    KafkaSasl,
    KafkaTls,
    Log,
    Net,
    Scheduler,
    Sender,
    Timing,
)

PAGE = (Path(__file__).parents[3] / "docs" / "settings.md").read_text()
EXAMPLES = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
SECTIONS = {
    "kafka": Kafka,
    "timing": Timing,
    "backoff": Backoff,
    "dns": Dns,
    "net": Net,
    "http": Http,
    "ingest": Ingest,
    "scheduler": Scheduler,
    "sender": Sender,
    "log": Log,
    "configuration": Following,
}
TABLES = {
    "kafka.tls": (KafkaTls,),
    "kafka.sasl": (KafkaSasl,),
    "sources.NAME": (Source,),
    "warmups.NAME": (Warmup,),
    "pools.NAME": (Pool,),
    "tenants.NAME": (Tenant,),
    "tenants.NAME.streams.STREAM": (Stream,),
    "[tenants.NAME.dkim]": (DkimKey,),
    "classes.transactional": (ClassPolicy,),
    "providers.NAME": (Provider,),
    "limits.KEY": (LimitRow,),
    "routes": (Route,),
    # Its keys are lanes.
    "lanes": (),
}


def rows(section: str) -> dict[str, str]:
    """Give key -> default, as the page has them."""
    (text,) = re.findall(
        rf"^## `\[{re.escape(section)}\]`.*?\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL
    )
    found: dict[str, str] = {}
    for keys, default in re.findall(r"^\| (`[^|]+`) \| ([^|]*) \|", text, re.MULTILINE):
        found |= dict.fromkeys(re.findall(r"`([^`]+)`", keys), default)
    return found


def loaded(folder: Path, text: str) -> Settings:
    file = folder / "postyard.toml"
    file.write_text(text)
    return load(file, {})


def test_the_example_is_a_configuration(tmp_path: Path) -> None:
    settings = loaded(tmp_path, EXAMPLES[0])
    assert settings.pools["bulk"].sources == {"ip-1": 3, "ip-2": 1}
    assert settings.classes == defaults.CLASSES


def test_the_rotation_is_a_configuration(tmp_path: Path) -> None:
    whole, rotation = EXAMPLES
    settings = loaded(tmp_path, re.sub(r"(?m)^dkim = .*\n", "", whole) + rotation)
    old, new = settings.tenants["acme"].dkim
    assert (old.from_ns, old.until_ns) == (0, None)
    assert new.from_ns > 0


@pytest.mark.parametrize("section", SECTIONS)
def test_a_section_lists_every_key_with_its_default(section: str) -> None:
    documented = rows(section)
    fields = {field.name: field for field in dataclasses.fields(SECTIONS[section])}
    assert set(documented) == {key_of(name) for name in fields}
    for name, field in fields.items():
        said = documented[key_of(name)].strip("`")
        if name.endswith("_ns"):
            assert duration_ns(said.strip('"')) == field.default, name
        elif said.endswith(('iB"',)):
            assert size_bytes(said.strip('"')) == field.default, name
        elif isinstance(field.default, bool):
            assert said == str(field.default).lower(), name
        elif isinstance(field.default, Rate):
            assert rate(said.strip('"')) == field.default, name
        elif isinstance(field.default, int | float):
            assert said == str(field.default), name
        elif isinstance(field.default, str):
            assert said == f'"{field.default}"', name


@pytest.mark.parametrize("section", TABLES)
def test_a_table_lists_every_key(section: str) -> None:
    wanted = {
        key_of(field.name)
        for kind in TABLES[section]
        for field in dataclasses.fields(kind)
        if field.name not in ("name", "pattern", "unknown")
    }
    if section.startswith("classes"):
        wanted |= {f"unknown.{key_of(field.name)}" for field in dataclasses.fields(UnknownPolicy)}
    assert set(rows(section)) == wanted


def test_every_section_is_described() -> None:
    described = {section.lstrip("[").partition(".")[0] for section in (*SECTIONS, *TABLES)}
    assert described == {field.name for field in dataclasses.fields(Settings)}
