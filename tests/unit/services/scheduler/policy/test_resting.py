"""What rests comes back as it was, and is one object for all who have it."""

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from services.scheduler.policy.resting import Entries
from shared.records.state import DeliveryState, Open

names = st.text(max_size=12)
times = st.integers(0, (1 << 63) - 1)
states = st.builds(
    DeliveryState,
    id=names,
    submission=names,
    tenant=names,
    class_=st.sampled_from(["transactional", "bulk"]),
    from_=names,
    to=names | st.just("u@x.example"),
    domain=names | st.just("x.example"),
    provider=st.none() | names,
    site=st.none() | names,
    pool=names,
    accepted_ns=times,
    not_before_ns=times,
    expires_ns=times,
    size_bytes=times,
    offset=times,
    due_ns=times,
    stream=names,
    tags=st.lists(names, max_size=3).map(tuple),
    n=st.integers(0, 1 << 20),
    pinned=st.none() | st.integers(0, 127),
    gone_ns=st.none() | times,
    held=st.booleans(),
)


@settings(max_examples=40)
@given(st.lists(states, max_size=3, unique_by=lambda state: state.id))
def test_what_rests_comes_back_as_it_was(given_: list[DeliveryState]) -> None:
    entries = Entries()
    wanted = {}
    for state in given_:
        wanted[state.id] = msgspec.structs.replace(state)
        entries.add(state)
        entries.rest(state)
    # Only equal objects are left to compare with.
    del given_
    assert entries == wanted
    assert len(entries) == len(wanted)


def make(id_: str = "d1", **more: object) -> DeliveryState:
    said: dict[str, object] = {
        "id": id_,
        "submission": "s",
        "tenant": "acme",
        "class_": "bulk",
        "from_": "b@acme.example",
        "to": "u@x.example",
        "domain": "x.example",
        "pool": "main",
        "accepted_ns": 1,
        "not_before_ns": 2,
        "expires_ns": 3,
        "size_bytes": 4,
        "offset": 5,
        "due_ns": 6,
    }
    return DeliveryState(**said | more)  # type: ignore[arg-type]


def test_as_long_as_somebody_has_it_there_is_one_object() -> None:
    entries = Entries()
    first = make()
    entries.add(first)
    entries.rest(first)
    assert entries["d1"] is first
    del first
    again = entries["d1"]
    assert next(iter(entries.values())) is again
    again.steps = 7
    entries.keep(again)
    del again
    assert entries["d1"].steps == 7
    entries.rest(entries["d1"])
    assert entries["d1"].steps == 7


def test_an_open_one_does_not_rest() -> None:
    entries = Entries()
    entry = make(open=Open(n=1, slot=0, epoch=1, t0_ns=0, t1_ns=1))
    entries.add(entry)
    entries.rest(entry)
    assert entries._awake == {"d1": entry}
    entry.open = None
    entries.rest(entry)
    assert entries._awake == {}
    assert entries["d1"] is entry


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["add", "restore", "rest", "keep", "sleep", "wake", "drop"]),
            st.sampled_from("abc"),
        ),
        max_size=30,
    )
)
def test_whether_it_sleeps_is_known_whatever_else_becomes_of_it(
    steps: list[tuple[str, str]],
) -> None:
    entries, sleeping = Entries(), set[str]()
    for step, id_ in steps:
        if step in ("add", "restore"):
            if id_ not in entries:
                getattr(entries, step)(make(id_))
        elif id_ not in entries:
            continue
        elif step == "rest":
            entries.keep(entries[id_])
            entries.rest(entries[id_])
        elif step == "keep":
            entries.keep(entries[id_])
        elif step == "drop":
            entries.drop(id_)
            sleeping.discard(id_)
        else:
            getattr(entries, step)(id_)
            (sleeping.add if step == "sleep" else sleeping.discard)(id_)
        assert {each for each in "abc" if entries.sleeps(each)} == sleeping
        assert all(entry == make(each) for each, entry in entries.items())


def test_what_was_dropped_is_gone_and_is_not_kept_again() -> None:
    entries = Entries()
    for id_, rests in (("a", True), ("b", False)):
        entry = make(id_)
        entries.add(entry)
        if rests:
            entries.rest(entry)
        entries.drop(id_)
        entries.keep(entry)
        assert id_ not in entries
        assert entries.get(id_) is None
    assert len(entries) == 0
    assert list(entries) == []


def test_more_names_than_a_table_holds_are_kept_as_they_are() -> None:
    entries = Entries(names=3)
    for made in (make(str(at), site=f"mx{at}.example", stream="news") for at in range(5)):
        entries.add(made)
        entries.rest(made)
    for at in range(5):
        assert entries[str(at)].site == f"mx{at}.example"
        assert entries[str(at)].stream == "news"
    assert max(len(names) for _, names, _ in entries._tables) == 3
