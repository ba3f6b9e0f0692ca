"""What destinations have taught, as it is told."""

from services.cli.learnt import lessens, told
from shared.records.answers import Learnt

S = 1_000_000_000


def test_a_warning_that_lessens_nothing_is_told_apart() -> None:
    warned = Learnt(partition=0, key="gmail", source="ip-1")
    assert not lessens(warned)
    assert told(warned) == "gmail from ip-1: warned, nothing is less for it"
    stopped = Learnt(partition=0, key="gmail", domain="acme.example", stopped_ns=1_800_000_000 * S)
    assert lessens(stopped)
    assert told(stopped) == "gmail of acme.example: stopped until 2027-01-15T08:00:00.000Z"
