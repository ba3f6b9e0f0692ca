"""What may be ordered of rates and connections, before anything is asked of Kafka."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from services.cli.orders.limiting import limit, slow

CONFIG = """
[sources.ip-1]
slot = 0
kind = "bind"
address = "192.0.2.10"
ehlo = "m1.example.com"
warmup = "none"
[sources.relay]
slot = 1
kind = "smarthost"
host = "smtp.relay.example"
warmup = "none"
[pools.bulk]
sources = { ip-1 = 1 }
[tenants.acme]
domains = ["acme.example"]
unsigned = true
pools = { transactional = "bulk", bulk = "bulk" }
"""


@pytest.fixture
def config(tmp_path: Path) -> str:
    file = tmp_path / "postyard.toml"
    file.write_text(CONFIG)
    return str(file)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--rate", "5/s"], "expected a rate per min, h or d"),
        (["--rate", "5/h", "--source", "ip-1"], "counted over all sources"),
        (["--rate", "5/h", "--connections", "2"], "counted over all sources"),
    ],
)
def test_an_order_refuses_what_a_tenant_cannot_have(
    config: str, words: list[str], said: str
) -> None:
    options = ["--tenant", "acme", *words, "--reason", "why", "--config", config]
    result = CliRunner().invoke(limit, options)
    assert result.exit_code == 2
    assert said in result.output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--rate", "fast"], "expected a rate such as"),
        (["--rate", "0/min"], "use a pause instead"),
        (["--bytes", "1KiB/min"], "expected at least 64KiB"),
        (["--connections", "0"], "--connections"),
        (["--connections", "10001"], "1<=x<=10000"),
        ([], "name at least one of --rate, --connections, --bytes"),
    ],
)
def test_a_limit_that_would_never_send_or_says_nothing_is_refused(
    config: str, words: list[str], said: str
) -> None:
    options = ["--provider", "gmail", *words, "--reason", "why", "--config", config]
    result = CliRunner().invoke(limit, options)
    assert result.exit_code == 2
    assert said in result.output


def test_what_goes_through_a_smart_host_has_no_limit_at_a_provider(config: str) -> None:
    about = ["--provider", "gmail", "--source", "relay", "--reason", "why", "--config", config]
    for command, more in ((limit, ["--rate", "5/h"]), (slow, ["--to", "50"])):
        result = CliRunner().invoke(command, [*about, *more])
        assert result.exit_code == 2
        assert "relay is a smart host" in result.output
