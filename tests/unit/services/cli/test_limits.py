"""`postyard limits show` says of each value where it comes from."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from services.cli.limits import answer, limits
from shared.records.control import Directive, OrderedRate
from shared.runtime.layers import WHOLE, Part
from shared.runtime.settings import ByteRate, LimitRow, Rate, Settings

S = 1_000_000_000

CONFIG = """
[kafka]
slots = 16
[sources.ip-1]
slot = 0
kind = "bind"
address = "192.0.2.10"
ehlo = "m1.example.com"
warmup = "none"
[sources.ip-2]
slot = 1
kind = "bind"
address = "192.0.2.11"
ehlo = "m2.example.com"
warmup = "none"
[pools]
bulk.sources = { ip-1 = 1, ip-2 = 1 }
cold.sources = { ip-2 = 1 }
[tenants.acme]
domains = ["acme.example"]
unsigned = true
pools = { transactional = "bulk", bulk = "bulk" }
[limits.gmail]
rate = "600+5/min"
[limits."gmail/pool:cold"]
connections = 2
[limits."gmail/ip-1"]
rate = "50/h"
"""


@pytest.fixture
def config(tmp_path: Path) -> str:
    file = tmp_path / "postyard.toml"
    file.write_text(CONFIG)
    return str(file)


def shown(config: str, *words: str) -> dict[tuple[object, object], tuple[object, object, object]]:
    result = CliRunner().invoke(limits, ["show", *words, "--config", config, "--json"])
    assert result.exit_code == 0, result.output
    return {
        (line["source"], line["field"]): (line["value"], line["layer"], line["row"])
        for line in json.loads(result.output)
    }


def test_each_value_names_the_layer_and_the_row_that_says_it(config: str) -> None:
    found = shown(config, "gmail", "--source", "ip-1")
    assert found["ip-1", "connections"] == (5, "provider", "gmail")
    assert found["ip-1", "rate"] == ("50/h", "source", "gmail/ip-1")
    assert found["ip-1", "total_rate"] == (None, None, None)
    assert ("ip-1", "start_rate") not in found


def test_a_pool_is_answered_for_each_of_its_sources(config: str) -> None:
    found = shown(config, "gmail", "--pool", "bulk")
    assert found["ip-1", "connections"] == (5, "provider", "gmail")
    assert found["ip-2", "connections"] == (2, "pool", "gmail/pool:cold")
    assert found["ip-2", "rate"] == ("600+5/min", "provider", "gmail")


def test_a_site_that_nobody_knows_has_what_it_begins_with(config: str) -> None:
    found = shown(config, "mx.nobody.example")
    assert found[None, "start_rate"] == ("60+10/min", "default", "default")


def test_people_are_told_where_a_shipped_figure_is_from(config: str) -> None:
    result = CliRunner().invoke(limits, ["show", "comcast", "--config", config])
    (line,) = [line for line in result.output.splitlines() if line.startswith("connections (")]
    assert line.split() == [
        *("connections", "(each", "source)", "25", "provider:", "shipped,"),
        *["postmaster.comcast.net:", "25", "at", "the", "same", "time", "from", "an", "address"],
    ]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["gmial"], "no such destination: gmial; did you mean gmail?"),
        (["gmail", "--source", "ip-7"], "no such source: ip-7; did you mean ip-"),
        (["gmail", "--pool", "cold", "--source", "ip-1"], "ip-1 is not in the pool cold"),
        (["gmail", "--tenant", "acne"], "no such tenant: acne; did you mean acme?"),
    ],
)
def test_a_name_that_is_not_there_is_refused(config: str, words: list[str], says: str) -> None:
    result = CliRunner().invoke(limits, ["show", *words, "--config", config])
    assert result.exit_code == 2
    assert says in result.output


def test_an_order_stands_above_all_layers_and_says_which_it_is() -> None:
    settings = Settings(limits={"default": LimitRow(10, 100, Rate(60, 60 * S))})
    limit = Directive(
        id="limit-1", action="limit", provider="gmail", connections=3, reason="r", author="a"
    )
    slow = Directive(
        id="slow-1", action="slow", provider="gmail", percent=50, reason="r", author="a"
    )
    other = Directive(
        id="limit-2", action="limit", source="ip-2", connections=1, reason="r", author="a"
    )
    orders = [limit, slow, other]
    lines = {line.field: line for line in answer(settings, "gmail", "ip-1", WHOLE, orders)}
    assert (lines["connections"].text, lines["connections"].origin) == (
        "1",
        "directive: slow to 50% of directive limit-1",
    )
    assert lines["rate"].text == "60/120s"
    assert lines["rate"].origin == "directive: slow to 50% of default default"


def test_bytes_are_shown_as_they_are_written_ordered_and_slowed() -> None:
    configured = Settings(
        limits={
            "default": LimitRow(connections=5, messages_per_connection=20),
            "gmail": LimitRow(bytes=ByteRate(50 << 20, 60 * S)),
        }
    )

    def shown(*orders: Directive) -> tuple[str, str]:
        lines = {line.field: line for line in answer(configured, "gmail", "", WHOLE, orders)}
        return lines["bytes"].text, lines["bytes"].origin

    said: dict[str, Any] = {"provider": "gmail", "reason": "why", "author": "ada"}
    rate = OrderedRate(count=1 << 20, period_ns=3600 * S)
    limited = Directive(id="limit-1", action="limit", bytes=rate, **said)
    slowed = Directive(id="slow-1", action="slow", percent=50, **said)
    assert shown() == ("50MiB/min", "site: [limits.gmail]")
    assert shown(limited) == ("1MiB/h", "directive: limit-1")
    assert shown(slowed) == ("50MiB/120s", "directive: slow to 50% of site gmail")


def test_what_is_ordered_of_a_tenant_stands_in_the_place_of_its_row() -> None:
    rows = {
        "default": LimitRow(connections=5, messages_per_connection=20),
        "gmail/tenant:acme": LimitRow(total_rate=Rate(100, 60 * S)),
        "tenant:acme": LimitRow(total_rate=Rate(900, 60 * S)),
    }
    ordered = Directive(
        id="limit-1",
        action="limit",
        tenant="acme",
        provider="gmail",
        total_rate=OrderedRate(count=30, period_ns=60 * S),
        reason="why",
        author="ada",
    )
    found = [
        (line.row, line.text, line.layer, line.of)
        for line in answer(Settings(limits=rows), "gmail", "", Part(tenant="acme"), [ordered])
        if line.of
    ]
    assert found == [
        ("tenant:acme", "900/min", "tenant", "tenant acme"),
        ("limit-1", "30/min", "directive", "tenant acme"),
    ]
    # It says nothing of anybody else's mail.
    for part in (WHOLE, Part(tenant="other")):
        lines = answer(Settings(limits=rows), "gmail", "", part, [ordered])
        assert not [line for line in lines if line.layer == "directive"]
