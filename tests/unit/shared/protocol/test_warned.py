from shared.protocol.warned import Warned
from tests.support.grants import grant

S = 1_000_000_000


def test_after_a_warning_only_grants_that_know_it_begin() -> None:
    warning = Warned()
    assert warning.lets(grant(), 0)
    first = warning.take(1_000, 5 * S, 60 * S)
    # The wall clock went back, and still the second is later than the first.
    second = warning.take(900, 6 * S, 60 * S)
    assert first < second
    assert not warning.lets(grant(), 6 * S)
    assert not warning.lets(grant(heard_ns=first), 6 * S)
    assert warning.lets(grant(heard_ns=second), 6 * S)
    # By then every lease that was granted before is over.
    assert warning.lets(grant(), 66 * S)
