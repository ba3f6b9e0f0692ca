import random

from services.scheduler.simulation.forecasts import Asked, Forecasts

S = 1_000_000_000


def test_an_error_is_a_part_of_the_wait_and_short_waits_say_nothing() -> None:
    forecasts = Forecasts(random.Random(1))
    for id_ in ("late", "right", "soon"):
        forecasts._asked[id_] = Asked(
            at_ns=0, eta_ns=100 * S, reason="rate", key="big", probed=False
        )
    forecasts.went("late", 200 * S)
    forecasts.went("right", 100 * S)
    forecasts.went("soon", 59 * S)
    forecasts.went("late", 500 * S)
    assert forecasts.errors == {"rate": [0.5, 0.0]}


def test_what_rests_on_a_probe_that_is_refused_is_not_judged() -> None:
    forecasts = Forecasts(random.Random(1))
    for id_, key, probed in (("a", "big", True), ("b", "big", False), ("c", "small", True)):
        forecasts._asked[id_] = Asked(0, 100 * S, "paused", key, probed)
    forecasts.refused("big")
    for id_ in ("a", "b", "c"):
        forecasts.went(id_, 200 * S)
    assert forecasts.errors == {"paused": [0.5, 0.5]}
    assert forecasts.unfounded == {"paused": 1}
