import random
from collections import defaultdict
from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from services.scheduler.simulation import answers
from services.scheduler.simulation.agenda import Agenda
from services.scheduler.simulation.models import Model, Quota
from services.scheduler.simulation.receiving import Receiver, Window
from services.scheduler.simulation.senders import Said, Senders, World
from shared.records.grant import Grant
from shared.records.outcome import Handback, Outcome, Started
from tests.support.grants import grant as made

S = 1_000_000_000


def grant(number: int, **more: Any) -> Grant:
    said: dict[str, Any] = {"id": f"d{number}", "t1_ns": 60 * S, "limit_key": "mx.y"}
    return made(**said | more)


class Stage:
    """Senders, one receiver, and all that was said."""

    def __init__(self, **model: Any) -> None:
        self.agenda = Agenda(0)
        self.said: list[tuple[int, Said]] = []
        self.begun: list[tuple[int, Grant]] = []
        self.most = 0
        self.receiver = Receiver("mx.y", Model(source="test", **model), 0, random.Random(3))
        world = World(self.agenda, self._say, self._began, 10 * S, 64 * S)
        self.senders = Senders(world, lambda _: self.receiver, 0)

    def _say(self, now_ns: int, said: Said, window: Window | None) -> None:
        self.said.append((now_ns, said))

    def _began(self, now_ns: int, receiver: Receiver, grant: Grant) -> None:
        self.begun.append((now_ns, grant))
        self.most = max(self.most, self.receiver._open[0])

    def run(self, grants: list[Grant]) -> None:
        self.agenda.at(0, self.senders.offer, [(each, 0) for each in grants])
        while self.agenda.next_ns() < 3600 * S:
            self.agenda.step()


SPACINGS = st.sampled_from([0, S // 10, S, 5 * S])


@settings(max_examples=60)
@given(st.lists(st.integers(0, 90 * S), min_size=1, max_size=30), SPACINGS, st.integers(1, 4))
def test_obeys_what_grants_carry(starts: list[int], spacing: int, connections: int) -> None:
    stage = Stage()
    stage.run(
        [
            grant(
                number,
                t0_ns=t0,
                t1_ns=t0 + 20 * S,
                spacing_ns=spacing,
                connections=connections,
                messages_per_connection=3,
            )
            for number, t0 in enumerate(sorted(starts))
        ]
    )
    assert all(each.t0_ns <= at <= each.t1_ns for at, each in stage.begun)
    times = [at for at, _ in stage.begun]
    assert all(later - before >= spacing for before, later in pairwise(times))
    assert stage.most <= connections
    # Each grant is settled once: by an outcome, or handed back.
    settled: defaultdict[str, int] = defaultdict(int)
    for _, said in stage.said:
        settled[said.id] += not isinstance(said, Started)
    assert dict(settled) == {f"d{number}": 1 for number in range(len(starts))}


def test_what_a_warning_leaves_behind_goes_back_until_the_scheduler_has_heard_it() -> None:
    stage = Stage(quotas=(Quota(1, 3600 * S, answers.GMAIL_SOURCE, stop_ns=600 * S),))
    stage.run([grant(number, connections=1) for number in range(5)])
    outcomes = [said for _, said in stage.said if isinstance(said, Outcome)]
    assert [said.category for said in outcomes] == ["", "rate"]
    assert len([said for _, said in stage.said if isinstance(said, Handback)]) == 3
    warned_ns = outcomes[-1].warned_ns
    stage.senders.offer(stage.agenda.now_ns, [(grant(5), 0), (grant(6, heard_ns=warned_ns), 0)])
    back = [said.id for _, said in stage.said if isinstance(said, Handback)]
    assert back[3:] == ["d5"]


def test_nothing_begins_after_its_delivery_has_expired() -> None:
    stage = Stage()
    stage.run([grant(number, spacing_ns=S, expires_ns=5 * S) for number in range(20)])
    assert stage.begun
    assert all(at < 5 * S for at, _ in stage.begun)


def test_connections_begin_with_two_and_grow_as_mail_is_taken() -> None:
    stage = Stage(unknown_permille=0, full_permille=0)
    stage.run([grant(number, connections=10) for number in range(40)])
    first = min(at for at, said in stage.said if isinstance(said, Outcome))
    assert sum(at < first for at, _ in stage.begun) <= 2
    assert stage.most > 4


def test_one_connection_that_fails_lets_what_waits_behind_it_go_back() -> None:
    stage = Stage(down=((0, 3600 * S),))
    stage.run([grant(number, connections=1) for number in range(5)])
    outcomes = [said for _, said in stage.said if isinstance(said, Outcome)]
    assert [(said.result, said.scope) for said in outcomes] == [("pair_failed", "pair")]
    back = [said.reason for _, said in stage.said if isinstance(said, Handback)]
    assert back == ["pair"] * 4
    assert stage.begun == []


def test_a_connection_that_the_host_has_closed_costs_only_the_way_back() -> None:
    stage = Stage(messages_per_connection=2)
    stage.run([grant(number, connections=1, messages_per_connection=50) for number in range(5)])
    back = [said.reason for _, said in stage.said if isinstance(said, Handback)]
    assert back == ["stale_connection"]
    assert len(stage.begun) == 4
