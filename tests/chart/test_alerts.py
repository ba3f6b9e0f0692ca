"""The alerts fire for what they are named for, and no other fires with them: Prometheus' own engine says so."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.chart import manifests, of_kind

RULES: dict[str, Any] = of_kind("PrometheusRule", manifests("production-strimzi"))["postyard"]["spec"]  # fmt: skip
ALERTS = {rule["alert"] for group in RULES["groups"] for rule in group["rules"]}
QUERY = 'count by (alertname, pool, provider, source, class, partition, pod) (ALERTS{alertstate="firing"})'

Series = dict[str, str]


def pool(ready: int, vacant: int, pod: str = "s-0") -> Series:
    """Give what a scheduler sees of a pool's sources, for five hours."""
    name = 'postyard_pool_sources{pool="bulk",state="%s",pod="%s"}'
    return {name % ("ready", pod): f"{ready}x300", name % ("vacant", pod): f"{vacant}x300"}


def waiting(count: int, reason: str, grantable: int) -> Series:
    """Give what so many deliveries look like that have waited since the first minute, for one reason."""
    which = f'{{class="bulk",provider="gmail",reason="{reason}",pod="s-0"}}'
    return {
        f"postyard_deliveries{which}": f"{count}x300",
        f"postyard_deliveries_oldest_age_seconds{which}": "0+60x300",
        'postyard_grantable{pool="bulk",pod="s-0"}': f"{grantable}x300",
    }


#: series -> after so many minutes -> the alerts that fire then, with their labels
CASES: dict[str, tuple[Series, dict[int, dict[str, Series]]]] = {
    "all is well": (pool(2, 0) | waiting(50, "due", 50), {300: {}}),
    "mail that waits for a provider's limit wants addresses and no pods": (
        pool(2, 0) | waiting(40_000, "rate", 0),
        {140: {}, 152: {"PostyardAddAddresses": {"provider": "gmail"}}},
    ),
    "and so does mail that waits for a warm-up's budget": (
        pool(2, 0) | waiting(40_000, "warmup", 0),
        {152: {"PostyardAddAddresses": {"provider": "gmail"}}},
    ),
    "mail that only lacks room in a sender wants pods and no addresses": (
        pool(2, 0) | waiting(40_000, "credit", 40_000),
        {14: {}, 16: {"PostyardAddPods": {"pool": "bulk"}}, 300: {"PostyardAddPods": {"pool": "bulk"}}},
    ),
    "an operator's pause wants neither": (
        pool(2, 0) | waiting(40_000, "directive", 0),
        {300: {}},
    ),
    "where a source has no sender that comes first": (
        pool(1, 1)
        | waiting(40_000, "credit", 40_000)
        | {'postyard_slot_vacant{source="ip-2",pod="s-0"}': "1x300"},
        {14: {}, 16: {"PostyardSlotVacant": {"source": "ip-2"}}},
    ),
    "a source without a sender in one pool does not hide that another pool lacks pods": (
        pool(2, 0)
        | waiting(40_000, "credit", 40_000)
        | {'postyard_pool_sources{pool="tx",state="vacant",pod="s-0"}': "1x300"},
        {16: {"PostyardAddPods": {"pool": "bulk"}}},
    ),
    "a pool whose slots are all vacant is critical although no mail waits": (
        pool(0, 2),
        {1: {}, 3: {"PostyardPoolVacant": {"pool": "bulk"}}},
    ),
    "a scheduler that has only just begun and has heard nobody is no reason": (
        pool(2, 0) | pool(0, 2, "s-1"),
        {300: {}},
    ),
    "mail that no source can take": (
        pool(2, 0) | waiting(3, "no_source", 3),
        {4: {}, 6: {"PostyardNoSource": {}}},
    ),
    "an address that is not there": (
        {'postyard_source_usable{source="ip-1",pod="p-0"}': "0x300"},
        {11: {"PostyardSourceUnusable": {"source": "ip-1"}}},
    ),
    "a configuration that is refused": (
        {'postyard_config_refused{pod="p-0"}': "1x300", 'postyard_config_refused{pod="p-1"}': "0x300"},
        {3: {"PostyardConfigRefused": {"pod": "p-0"}}},
    ),
    "a clock that is slow": (
        {'postyard_clock_offset_seconds{pod="p-0",source="ip-1"}': "-1.5x300"},
        {3: {"PostyardClockOff": {"pod": "p-0"}}},
    ),
    "submissions that nobody reads": (
        {'postyard_lag_seconds{class="bulk",partition="1",pod="p-0"}': "400x300"},
        {11: {"PostyardIngestBehind": {"class": "bulk"}}},
    ),
    "a partition that commits nothing while mail could go": (
        waiting(5, "due", 5) | {'postyard_commit_age_seconds{partition="1",pod="p-0"}': "0+60x300"},
        {9: {"PostyardNotCommitting": {"partition": "1"}}},
    ),
    "and one that has nothing to commit": (
        {'postyard_commit_age_seconds{partition="1",pod="p-0"}': "0+60x300"},
        {300: {}},
    ),
    "outcomes that Kafka does not acknowledge": (
        {'postyard_outcomes_unacknowledged{source="ip-1",pod="p-0"}': "4x300"},
        {3: {"PostyardOutcomesUnacknowledged": {"source": "ip-1"}}},
    ),
    "unknown outcomes that grow": (
        {'postyard_deliveries_unknown{pod="p-0"}': "0+1x300"},
        {60: {"PostyardUnknownGrowing": {"pod": "p-0"}}},
    ),
}  # fmt: skip


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not here")
@pytest.mark.parametrize("case", CASES)
def test_these_fire_and_no_others(case: str, tmp_path: Path) -> None:
    series, expected = CASES[case]
    (tmp_path / "rules.json").write_text(json.dumps(RULES))
    test = {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [
            {"expr": QUERY, "eval_time": f"{minutes}m", "exp_samples": [sample(*one) for one in firing.items()]}
            for minutes, firing in expected.items()
        ],
    }  # fmt: skip
    whole = {"rule_files": ["rules.json"], "evaluation_interval": "1m", "tests": [test]}
    (tmp_path / "test.json").write_text(json.dumps(whole))
    done = subprocess.run(
        ["promtool", "test", "rules", "test.json"], cwd=tmp_path, capture_output=True, text=True, check=False
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def sample(alert: str, labels: Series) -> dict[str, Any]:
    shown = ",".join(f'{name}="{value}"' for name, value in ({"alertname": alert} | labels).items())
    return {"labels": f"{{{shown}}}", "value": 1}


def test_every_alert_is_tried() -> None:
    tried = {alert for _, expected in CASES.values() for each in expected.values() for alert in each}  # fmt: skip
    assert tried == ALERTS
