"""What `config check` says of a configuration that allows less than it looks like."""

from dataclasses import replace

from services.cli.remarks import remarks
from shared.runtime import defaults
from shared.runtime.settings import LimitRow, Pool, Rate, Route, Settings, Source, Spill
from shared.runtime.workings import Net

S = 1_000_000_000
PLAIN = Settings(
    sources={
        f"ip-{slot}": Source(f"ip-{slot}", slot, "bind", "none", address=f"192.0.2.{slot + 1}")
        for slot in range(20)
    },
    pools={"main": Pool("main", {"ip-0": 1})},
    limits={"default": LimitRow(10, 100)},
)


CLASSES = defaults.CLASSES


def spilling(daily: int) -> Settings:
    pool = replace(PLAIN.pools["main"], spill=Spill("relay", S, daily))
    return replace(PLAIN, pools={"main": pool})


def test_it_has_nothing_to_say_of_a_plain_configuration() -> None:
    assert list(remarks(PLAIN)) == []
    assert list(remarks(spilling(8))) == []


def test_it_says_of_how_many_buckets_nothing_spills() -> None:
    (said,) = remarks(spilling(5))
    assert said.startswith("pools.main.spill.daily: ")
    assert "of 3 of these nothing spills: that takes 8 a day" in said


def test_it_says_what_is_left_of_a_total_of_seconds_that_cannot_be_divided() -> None:
    row = LimitRow(total_rate=Rate(10, S))
    limited = replace(PLAIN, limits={**PLAIN.limits, "gmail": row})
    (said,) = remarks(limited)
    assert said.startswith(
        "limits.gmail.total_rate: 10/s is less than one for each of 20 addresses"
    )
    assert "about 60 a minute" in said
    enough = LimitRow(total_rate=Rate(20, S))
    assert list(remarks(replace(PLAIN, limits={"gmail": enough}))) == []


def test_it_says_that_nothing_is_tried_again_and_that_all_is_urgent() -> None:
    bulk = replace(CLASSES["bulk"], retry=(3600 * S,), expires_ns=600 * S, urgent_ns=600 * S)
    first, second = remarks(replace(PLAIN, classes={**CLASSES, "bulk": bulk}))
    assert first.startswith("classes.bulk.retry: ")
    assert second.startswith("classes.bulk.urgent: ")


def test_it_says_that_nothing_goes_where_a_route_leads() -> None:
    routed = replace(PLAIN, routes={"*": Route("*", (("10.0.0.1", 25),))})
    (said,) = remarks(routed)
    assert said.startswith('routes."*".to: nothing goes there unless net.allow says so: 10.0.0.1')
    assert list(remarks(replace(routed, net=Net(allow=("10.0.0.0/8",))))) == []
    by_name = Route("*", (("10.0.0.1", 25), ("mx.example", 25)))
    assert list(remarks(replace(PLAIN, routes={"*": by_name}))) == []
