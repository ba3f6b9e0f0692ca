"""When the gate lets an attempt begin: before its lease ends, and before its delivery's own time is over."""

from dataclasses import dataclass

import pytest

from services.sender.attempt import Answer, AttemptGate, Go, Hold, Stop
from services.sender.ownership import Now
from tests.support.grants import grant


@dataclass
class Owner:
    """Owns the slot, and may."""

    epoch: int = 1
    beat_stamp_ns: int = 0

    def acting(self, mono_ns: int) -> bool:
        return True

    def may_start(self, mono_ns: int) -> bool:
        return True


def gate(expires_ns: int) -> AttemptGate:
    permitted = grant(epoch=1, t0_ns=10, t1_ns=60, expires_ns=expires_ns)
    return AttemptGate(permitted, Owner(), fresh_ns=5, attempt_max_ns=1_000)


@pytest.mark.parametrize(
    ("expires_ns", "now_ns", "answer"),
    [
        (40, 9, Hold()),
        (40, 39, Go()),
        (40, 40, Stop("over", hand_back=True)),
        (5, 9, Stop("over", hand_back=True)),
        (40, 60, Stop("expired", hand_back=False)),
        (100, 59, Go()),
        (0, 59, Go()),
    ],
)
def test_a_grant_is_not_taken_once_its_delivery_has_expired(
    expires_ns: int, now_ns: int, answer: Answer
) -> None:
    assert gate(expires_ns).may_take(Now(0, now_ns)) == answer


def test_mail_is_not_written_once_the_delivery_has_expired() -> None:
    one = gate(40)
    assert one.may_take(Now(0, 39)) == Go()
    assert one.may_mail(Now(0, 39)) == Go()
    assert one.may_mail(Now(0, 40)) == Stop("over", hand_back=True)
