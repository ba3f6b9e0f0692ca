"""Each field of a limit comes from the last layer that says it, and is said to."""

from dataclasses import fields, replace

from hypothesis import given
from hypothesis import strategies as st

from shared.runtime import defaults, layers
from shared.runtime.layers import FIELDS, Order, Part, resolve, stricter
from shared.runtime.settings import (
    ByteRate,
    LimitRow,
    Pool,
    Provider,
    Rate,
    Route,
    Settings,
    Source,
)

S = 1_000_000_000
SITE = "mx1.big.example,mx2.big.example"
NOBODY = "mx.nobody.example"
#: In the order in which they lie on each other.
ROWS = ("default", "big", "big/pool:main", "big/ip-0")
RATES = st.builds(Rate, st.integers(2, 90), st.sampled_from([S, 60 * S, 3600 * S]), st.just(1))
ROW = st.builds(
    LimitRow,
    connections=st.none() | st.integers(1, 50),
    messages_per_connection=st.none() | st.integers(1, 50),
    rate=st.none() | RATES,
    total_rate=st.none() | RATES,
    connection_rate=st.none() | RATES,
    bytes=st.none()
    | st.builds(ByteRate, st.integers(65536, 1 << 30), st.sampled_from([60 * S, 3600 * S])),
)


def settings(**limits: LimitRow) -> Settings:
    return Settings(
        sources={
            name: Source(name, slot, "bind", "none", address=f"192.0.2.{slot}")
            for slot, name in enumerate(("ip-0", "ip-1"))
        },
        pools={"main": Pool("main", {"ip-0": 1}), "more": Pool("more", {"ip-0": 1, "ip-1": 1})},
        providers={"big": Provider("big", (".big.example",))},
        limits={"default": LimitRow(connections=10, messages_per_connection=100), **limits},
        routes={"*.test": Route("*.test", (("127.0.0.1", 2525),))},
    )


@given(st.fixed_dictionaries(dict.fromkeys(ROWS, ROW)))
def test_each_field_is_of_the_last_layer_that_says_it(rows: dict[str, LimitRow]) -> None:
    said = resolve(settings(**rows), "big", "ip-0").said
    for field in FIELDS:
        saying = [name for name in ROWS if getattr(rows[name], field) is not None]
        if not saying:
            assert field not in said
            continue
        assert said[field].row == saying[-1]
        assert said[field].value == getattr(rows[saying[-1]], field)


@given(ROW, ROW)
def test_a_source_in_several_pools_keeps_the_strictest_of_their_rows(
    one: LimitRow, other: LimitRow
) -> None:
    config = settings(**{"big/pool:main": one, "big/pool:more": other})
    said = resolve(config, "big", "ip-0").said
    for field in FIELDS:
        given_ = [v for row in (one, other) if (v := getattr(row, field)) is not None]
        if given_:
            assert said[field].layer == "pool"
            assert not any(stricter(value, said[field].value) for value in given_)
    alone = resolve(config, "big", "ip-1").said
    assert {name for name, each in alone.items() if each.layer == "pool"} == {
        field for field in FIELDS if getattr(other, field) is not None
    }


@given(ROW, st.sampled_from([SITE, "big/tenant:acme", "tenant:acme", "big/domain:a.example"]), ROW)
def test_a_part_of_the_mail_can_only_be_given_less(
    whole: LimitRow, name: str, part: LimitRow
) -> None:
    config = settings(**{"big": whole, name: part})
    of_all = resolve(config, "big", "ip-0").said
    of_part = resolve(config, "big", "ip-0", Part(SITE, "acme", "a.example")).said
    for field, said in of_part.items():
        if field in of_all and said != of_all[field]:
            assert stricter(said.value, of_all[field].value)
            assert said.row == name


@given(ROW, ROW)
def test_a_directive_replaces_what_it_says_and_nothing_else(
    whole: LimitRow, order: LimitRow
) -> None:
    config = settings(big=whole)
    before = resolve(config, "big", "ip-0").said
    said = resolve(config, "big", "ip-0", order=Order("slow:1", order)).said
    for field in FIELDS:
        value = getattr(order, field)
        if value is None:
            assert said.get(field) == before.get(field)
        else:
            assert (said[field].value, said[field].layer, said[field].row) == (
                value,
                "directive",
                "slow:1",
            )


def test_only_a_destination_that_nobody_knows_has_a_rate_to_start_with() -> None:
    start = Rate(60, 60 * S, 10)
    config = settings(
        default=LimitRow(10, 100, start_rate=start),
        **{
            "mx.known.example": LimitRow(rate=Rate(9, S)),
            "mx.both.example": LimitRow(rate=Rate(9, S), start_rate=Rate(1, S)),
        },
    )
    begins = {
        key: resolve(config, key, "ip-0").limit().start_rate
        for key in (
            NOBODY,
            "big",
            "smarthost:relay",
            "127.0.0.1:2525",
            "mx.known.example",
            "mx.both.example",
        )
    }
    assert begins == {
        NOBODY: start,
        "big": None,
        "smarthost:relay": None,
        "127.0.0.1:2525": None,
        "mx.known.example": None,
        "mx.both.example": Rate(1, S),
    }


def test_a_rate_is_stricter_by_what_it_allows_in_the_long_run() -> None:
    assert stricter(Rate(50, 3600 * S), Rate(1, S))
    assert not stricter(Rate(60, 60 * S), Rate(1, S))
    assert stricter(3, 4)


def test_every_shipped_figure_has_its_source_and_no_source_is_left_over() -> None:
    assert len(defaults.PROVIDERS) >= 20
    for name, row in defaults.LIMITS.items():
        provider = defaults.PROVIDERS.get(name, Provider(name))
        changed = {
            each.name
            for each in fields(Provider)
            if each.name != "name" and getattr(provider, each.name) != each.default
        }
        said = changed | {field for field in FIELDS if getattr(row, field) is not None}
        assert set(defaults.SOURCES[name]) == said, name
        assert all(text.strip() for text in defaults.SOURCES[name].values())


def test_every_shipped_provider_can_be_known_by_its_mx_or_its_domains() -> None:
    seen: set[str] = set()
    for provider in defaults.PROVIDERS.values():
        assert provider.mx or provider.domains
        assert not seen & {*provider.mx, *provider.domains}
        seen |= {*provider.mx, *provider.domains}


def test_a_value_is_shipped_only_where_nobody_has_changed_it() -> None:
    rows = defaults.LIMITS
    assert layers.shipped(rows, "gmail", "connections", 5)
    assert not layers.shipped(rows, "gmail", "connections", 6)
    assert not layers.shipped(rows, "gmail/ip-1", "connections", 5)
    assert replace(rows["gmail"], connections=6) != rows["gmail"]
