"""All of a domain's MX hosts decide who runs it; whoever nobody knows is a site of its own."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.runtime.defaults import PROVIDERS
from shared.runtime.providers import provider_of, site_of
from shared.runtime.settings import Provider

HOSTS = st.lists(st.from_regex(r"[a-z0-9]{1,12}(\.[a-z0-9]{1,12}){1,3}", fullmatch=True))


@pytest.mark.parametrize(
    ("domain", "hosts", "provider"),
    [
        ("gmail.com", ["gmail-smtp-in.l.google.com", "alt1.gmail-smtp-in.l.google.com"], "gmail"),
        ("a.example", ["aspmx.l.google.com", "alt4.aspmx.l.google.com"], "gmail"),
        ("a.example", ["aspmx.l.google.com", "backup.a.example"], None),
        ("outlook.com", ["outlook-com.olc.protection.outlook.com"], "microsoft"),
        ("a.example", ["a-example.mail.protection.outlook.com"], "microsoft365"),
        ("comcast.net", ["mx1.comcast.net"], "comcast"),
        ("a.example", ["notgoogle.com"], None),
        ("a.example", ["mx.google.com.evil.example"], None),
        ("a.example", [], None),
    ],
)
def test_all_hosts_must_match_or_the_domain_be_listed(
    domain: str, hosts: list[str], provider: str | None
) -> None:
    assert provider_of(domain, hosts, PROVIDERS) == provider


def test_a_listed_domain_wins_over_where_its_hosts_are() -> None:
    table = {
        "big": Provider("big", mx=(".big.example",)),
        "own": Provider("own", domains=("own.example",)),
    }
    assert provider_of("own.example", ["mx.big.example"], table) == "own"


def test_a_suffix_without_a_dot_is_one_host() -> None:
    table = {"one": Provider("one", mx=("mx.one.example",))}
    assert provider_of("a.example", ["mx.one.example"], table) == "one"
    assert provider_of("a.example", ["2.mx.one.example"], table) is None


@given(HOSTS.flatmap(lambda hosts: st.tuples(st.just(hosts), st.permutations(hosts))))
def test_a_site_is_a_set_whatever_its_order_case_or_final_dots(
    both: tuple[list[str], list[str]],
) -> None:
    hosts, other = both
    assert site_of(hosts) == site_of([f"{host.upper()}." for host in other])


@given(HOSTS, HOSTS)
def test_two_sites_have_the_same_name_only_if_they_are_the_same(
    left: list[str], right: list[str]
) -> None:
    assert (site_of(left) == site_of(right)) == (set(left) == set(right))


def test_a_site_of_many_hosts_has_a_short_name_of_its_own() -> None:
    many = [f"mx{at}.somewhere.example" for at in range(20)]
    assert len(site_of(many)) < 100
    assert site_of(many) != site_of(many[1:])
    assert site_of(many).startswith("mx0.somewhere.example,")
