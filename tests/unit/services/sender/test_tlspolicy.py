"""One object decides what TLS must be, and whose fault it is where it cannot be had."""

import itertools
import ssl

import msgspec
import pytest

from services.sender.smtp.connect import Endpoint, TlsFailed
from services.sender.tlspolicy import Required, TlsPolicy
from shared.net.tls import REMEMBER_NS
from shared.records.grant import Grant
from shared.records.tlslevel import TlsLevel, strictest
from shared.runtime.settings import Provider, Source
from tests.support.grants import grant

LEVELS: tuple[TlsLevel, ...] = ("opportunistic", "encrypted", "verified")
HOST = Endpoint("mx.example.net", "192.0.2.7")
BOUND = Source("ip-1", 0, "bind", "none")
RELAY = Source("relay", 1, "smarthost", "none", host="relay.example.net", tls="encrypted")
GRANT = grant()


def granted(level: TlsLevel) -> Grant:
    return msgspec.structs.replace(GRANT, tls=level)


@pytest.mark.parametrize(("row", "grant"), list(itertools.product(LEVELS, LEVELS)))
def test_the_strictest_holds_and_what_only_the_domain_wants_is_its_own_trouble(
    row: TlsLevel, grant: TlsLevel
) -> None:
    required = TlsPolicy().required(granted(grant), BOUND, Provider("big", tls=row))
    assert required.level == strictest((row, grant))
    assert required.blame == ("domain" if LEVELS.index(grant) > LEVELS.index(row) else "pair")


def test_without_a_row_nobody_requires_anything() -> None:
    assert TlsPolicy().required(GRANT, BOUND, None) == Required("opportunistic", "opportunistic")


def test_of_a_smart_host_its_own_setting_counts_and_not_the_provider_behind_it() -> None:
    policy, row = TlsPolicy(), Provider("big", tls="verified")
    assert policy.required(GRANT, RELAY, row) == Required("encrypted", "encrypted")
    assert policy.required(granted("verified"), RELAY, row) == Required("verified", "encrypted")


@pytest.mark.parametrize("level", LEVELS)
def test_a_level_has_one_context_and_only_verified_looks_at_the_certificate(
    level: TlsLevel,
) -> None:
    policy = TlsPolicy()
    tls = policy.first(HOST, level, BOUND, 0)
    assert tls.context is policy.first(HOST, level, BOUND, 0).context
    assert tls.context is not None
    assert (tls.context.verify_mode == ssl.CERT_REQUIRED) == (level == "verified")
    assert tls.mode == ("opportunistic" if level == "opportunistic" else "required")


@pytest.mark.parametrize("level", LEVELS)
def test_only_opportunistic_has_a_second_try_in_the_clear(level: TlsLevel) -> None:
    policy = TlsPolicy()
    tried = policy.first(HOST, level, BOUND, 0)
    second = policy.another(tried, TlsFailed(HOST, "starttls", "it broke"))
    if level != "opportunistic":
        assert second is None
        return
    assert second is not None
    assert (second.mode, second.fallen_back) == ("none", "it broke")
    assert policy.another(second, TlsFailed(HOST, "starttls", "it broke")) is None


@pytest.mark.parametrize("level", LEVELS)
def test_a_broken_host_is_greeted_in_the_clear_for_three_days_where_nobody_minds(
    level: TlsLevel,
) -> None:
    policy = TlsPolicy()
    policy.fell_back(HOST.host, 5)
    for at, remembered in ((5 + REMEMBER_NS - 1, True), (5 + REMEMBER_NS, False)):
        tls = policy.first(HOST, level, BOUND, at)
        assert (tls.mode == "none") == (remembered and level == "opportunistic")
        assert bool(tls.fallen_back) == (tls.mode == "none")


def test_a_host_that_asks_for_tls_is_not_broken_any_more() -> None:
    policy = TlsPolicy()
    policy.fell_back(HOST.host, 5)
    policy.asked_for(HOST.host)
    assert policy.first(HOST, "opportunistic", BOUND, 6).mode == "opportunistic"


def test_port_465_of_a_smart_host_speaks_tls_from_the_first_byte() -> None:
    endpoint = Endpoint("relay.example.net", "192.0.2.7", 465)
    for level in LEVELS:
        tls = TlsPolicy().first(endpoint, level, RELAY, 0)
        assert (tls.mode, tls.implicit) == ("required", True)
    assert not TlsPolicy().first(endpoint, "encrypted", BOUND, 0).implicit
