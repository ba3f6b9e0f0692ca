"""Which sections of the configuration each service takes over while running: all that it uses, but those that need a new process."""

import dataclasses

import pytest

from services.ingest.service import HOT as INGEST
from services.scheduler.service import HOT as SCHEDULER
from services.sender.service import HOT as SENDER
from shared.runtime.settings import Settings

ALL = {field.name for field in dataclasses.fields(Settings)}
#: Connections, ports and logs are made once; the protocol's times must not change under an epoch; lanes go by `config apply`.
OFTEN = {"kafka", "http", "log", "timing", "lanes", "configuration", "net"}


def test_a_section_is_hot_or_there_is_a_reason() -> None:
    assert ALL - set(SCHEDULER) == OFTEN | {"ingest", "sender"}
    assert ALL - set(INGEST) == OFTEN | {"backoff", "limits", "scheduler", "sender", "warmups"}
    assert ALL - set(SENDER) == (OFTEN - {"net"}) | {
        "backoff",
        "ingest",
        "scheduler",
        "sender",
        "warmups",
    }


@pytest.mark.parametrize("hot", [INGEST, SCHEDULER, SENDER])
def test_what_refers_to_each_other_changes_together(hot: tuple[str, ...]) -> None:
    assert {"sources", "pools", "tenants", "classes", "providers", "routes"} <= set(hot)
