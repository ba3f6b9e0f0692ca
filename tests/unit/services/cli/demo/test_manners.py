"""Whoever writes an address knows what becomes of the mail to it."""

import pytest

from services.cli.demo.receiver.manners import Doorman, Manners

S = 1_000_000_000


@pytest.mark.parametrize(
    ("rcpt", "codes"),
    [
        ("ann@a.test", ["", "", ""]),
        ("unknown.ann@a.test", ["550", "550", "550"]),
        ("full.ann@a.test", ["452", "452", "452"]),
        ("defer2.ann@a.test", ["451", "451", ""]),
        ("defer0.ann@a.test", ["", "", ""]),
        ("unknownann@a.test", ["", "", ""]),
    ],
)
def test_the_local_part_decides_each_try(rcpt: str, codes: list[str]) -> None:
    doorman = Doorman(Manners())
    tries = [doorman.at_rcpt("127.0.0.11", "a@b", rcpt, at) for at in range(3)]
    assert [(reply or "")[:3] for reply in tries] == codes


def test_greylisting_lets_the_second_try_in_only_after_its_time_and_from_the_same_address() -> None:
    doorman = Doorman(Manners(greylist_s=5))
    for at_s, peer, welcome in (
        (0, "127.0.0.11", False),
        (4.9, "127.0.0.11", False),
        (4.9, "127.0.0.12", False),
        (5, "127.0.0.11", True),
        (6, "127.0.0.12", False),
        (60, "127.0.0.11", True),
    ):
        refusal = doorman.at_rcpt(peer, "a@b", "c@d", int(at_s * S))
        assert (refusal is None) == welcome, (at_s, peer)


def test_greylisted_tries_do_not_count_as_deferred_ones() -> None:
    doorman = Doorman(Manners(greylist_s=5))
    tries = [doorman.at_rcpt("ip", "a@b", "defer1.c@d", at * S) for at in (0, 5, 6)]
    assert tries == [
        "451 4.7.1 greylisted, try again later",
        "451 4.3.0 try again later",
        None,
    ]


def test_no_second_has_more_messages_than_the_rate() -> None:
    doorman = Doorman(Manners(rate=3))
    at = [0, 1, 2, S - 1, S, S + 1, S + 1]
    assert [doorman.too_many(now) for now in at] == [False] * 3 + [True, False, False, True]


def test_after_the_dot_a_message_is_taken_refused_or_dropped_once() -> None:
    doorman = Doorman(Manners(dot_delay_s=1))
    assert doorman.after_dot("a@b").taken
    assert doorman.after_dot("a@b").delay_s == 1
    assert doorman.after_dot("slow.a@b").delay_s == 3
    assert not doorman.after_dot("refuse.a@b").taken
    assert [doorman.after_dot("drop.a@b").dropped for _ in range(3)] == [True, False, False]
    assert doorman.after_dot("drop.other@b").taken


def test_without_users_everybody_is_known_and_with_some_only_they() -> None:
    assert Doorman(Manners()).knows("anybody", "")
    strict = Doorman(Manners(users={"ann": "secret"}))
    assert strict.knows("ann", "secret")
    assert not strict.knows("ann", "")
    assert not strict.knows("bob", "secret")


def test_one_command_may_be_slower_than_the_others() -> None:
    manners = Manners(delay_s=1, delays_s={"RCPT": 5})
    assert (manners.before("RCPT"), manners.before("MAIL")) == (5, 1)
