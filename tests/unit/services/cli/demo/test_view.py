"""The view shows what the metrics say, and no more."""

from rich.console import Console

from services.cli.demo.view import View, read

S = 1_000_000_000


def page(delivered: int) -> str:
    return f"""\
# HELP postyard_deliveries Deliveries without a final event, by what they wait for
# TYPE postyard_deliveries gauge
postyard_deliveries{{class="bulk",provider="gmail",reason="rate"}} 7.0
postyard_deliveries{{class="transactional",provider="gmail",reason="retry"}} 2.0
postyard_deliveries{{class="bulk",provider="gmail",reason="granted"}} 3.0
postyard_deliveries{{class="bulk",provider="gmail",reason="started"}} 1.0
postyard_deliveries{{class="bulk",provider="other",reason="due"}} 5.0
# HELP postyard_events_total Events said, by type
# TYPE postyard_events_total counter
postyard_events_total{{class="bulk",provider="gmail",source="ip-1",type="delivered"}} {delivered}.0
postyard_events_total{{class="bulk",provider="gmail",source="ip-2",type="delivered"}} 10.0
postyard_events_total{{class="bulk",provider="gmail",source="ip-2",type="deferred"}} 4.0
postyard_events_total{{class="bulk",provider="gmail",source="ip-1",type="bounced"}} 2.0
postyard_events_total{{class="bulk",provider="other",source="",type="expired"}} 1.0
# HELP postyard_pair_paused_until_seconds When a paused pair is probed, epoch seconds
# TYPE postyard_pair_paused_until_seconds gauge
postyard_pair_paused_until_seconds{{limit_key="gmail",source="ip-1"}} 1.7e+09
# HELP process_cpu_seconds_total Somebody else's
# TYPE process_cpu_seconds_total counter
process_cpu_seconds_total 1.0
"""


def test_waiting_flying_and_ended_are_told_apart() -> None:
    found = read(page(30))
    assert found.waiting == {"gmail": 9, "other": 5}
    assert found.flying == {"gmail": 4}
    assert found.ended == 43
    assert found.providers() == ["gmail", "other"]
    assert found.shares() == "ip-1 75 %  ip-2 25 %"
    assert found.paused == 1


def test_the_rate_is_what_was_delivered_in_the_last_seconds() -> None:
    view = View()
    assert view.rate("gmail") == 0
    for second, delivered in enumerate([0, 50, 80, 100, 120, 140], start=1):
        view.look(page(delivered), second * S)
    assert view.rate("gmail") == 20


def test_a_service_that_does_not_answer_leaves_the_last_picture() -> None:
    view = View()
    view.look(page(30), S)
    view.look("", 2 * S)
    assert view.now.ended == 43


def test_the_table_and_the_line_say_the_same() -> None:
    view = View()
    view.look(page(30), S)
    console = Console(width=120, record=True, file=None, quiet=False)
    with console.capture() as drawn:
        console.print(view.table())
    row = next(line for line in drawn.get().splitlines() if "gmail" in line)
    assert [cell.strip() for cell in row.strip("│").split("│")] == [
        *("gmail", "9", "4", "40", "4", "2", "0", "0/s")
    ]
    assert view.line() == (
        "gmail: 9 waiting, 4 in flight, 40 delivered, 4 deferred, 2 bounced, 0 expired, 0/s"
        " | other: 5 waiting, 0 in flight, 0 delivered, 0 deferred, 0 bounced, 1 expired, 0/s"
        " | sources: ip-1 75 %  ip-2 25 %"
    )
