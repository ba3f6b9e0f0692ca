"""A configuration is said once, by one partition, over restarts too."""

from services.scheduler.policy.audit import Audit
from shared.records.event import Configured

NOW = 1_700_000_000_000_000_000
ADA = Configured(fingerprint="f2", author="ada", reason="too fast", changed=("limits.gmail.rate",))


def test_it_is_said_once_by_the_first_partition() -> None:
    audit = Audit(0, ADA)
    (event,) = audit.take(NOW)
    assert (event.type, event.final, event.reason, event.configured) == (
        "configured",
        False,
        "too fast",
        ADA,
    )
    assert audit.take(NOW) == []
    assert Audit(1, ADA).take(NOW) == []
    assert Audit(0, None).take(NOW) == []


def test_who_runs_next_says_only_what_is_new() -> None:
    audit = Audit(0, ADA)
    audit.said = "f2"
    assert audit.take(NOW) == []
    newer = Audit(0, Configured(fingerprint="f3", author="ada"))
    newer.said = "f2"
    assert len(newer.take(NOW)) == 1
