"""A required level never downgrades, and nothing that was broken once is plain for ever."""

import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.net.tls import REMEMBER_NS, BrokenTls, context
from shared.records.tlslevel import TlsLevel, strictest

LEVELS: list[TlsLevel] = ["opportunistic", "encrypted", "verified"]


@given(st.lists(st.sampled_from(LEVELS)))
def test_the_strictest_of_all_requirements_holds(levels: list[TlsLevel]) -> None:
    found = strictest(levels)
    assert all(LEVELS.index(level) <= LEVELS.index(found) for level in levels)
    assert found in levels or (not levels and found == "opportunistic")


def test_only_verified_looks_at_certificate_and_name() -> None:
    verified = context("verified")
    assert verified.verify_mode == ssl.CERT_REQUIRED
    assert verified.check_hostname
    for level in LEVELS[:2]:
        assert context(level).verify_mode == ssl.CERT_NONE


@pytest.mark.parametrize("level", LEVELS)
def test_nothing_older_than_tls_1_2_is_spoken(level: TlsLevel) -> None:
    assert context(level).minimum_version == ssl.TLSVersion.TLSv1_2


@pytest.mark.parametrize("level", LEVELS)
def test_no_level_has_a_cipher_without_encryption_or_without_keys(level: TlsLevel) -> None:
    assert not [
        cipher
        for cipher in context(level).get_ciphers()
        if "NULL" in cipher["name"] or cipher["name"].startswith("ADH")
    ]


def test_broken_tls_is_remembered_for_three_days() -> None:
    broken = BrokenTls()
    broken.remember("mx.example", 10)
    assert broken.is_broken("mx.example", 10 + REMEMBER_NS - 1)
    assert not broken.is_broken("mx.example", 10 + REMEMBER_NS)
    assert not broken.is_broken("other.example", 11)


def test_a_host_may_get_its_chance_again() -> None:
    broken = BrokenTls()
    broken.remember("mx.example", 10)
    broken.forget("mx.example")
    broken.forget("unheard.example")
    assert not broken.is_broken("mx.example", 11)


def test_the_oldest_is_forgotten_when_there_are_too_many() -> None:
    broken = BrokenTls(bound=2)
    for at, host in enumerate(["a", "b", "a", "c"]):
        broken.remember(host, at)
    assert [host for host in "abc" if broken.is_broken(host, 5)] == ["a", "c"]
