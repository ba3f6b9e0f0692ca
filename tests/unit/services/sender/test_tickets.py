"""A handshake is resumed where it proves the same as a full one would, and no longer than that."""

import datetime as dt
import ssl
from dataclasses import dataclass, field

import pytest
import trustme

from services.sender.smtp.connect import ConnectFailed, Endpoint, Tls, TlsFailed
from services.sender.smtp.reply import Reply
from services.sender.tickets import REUSE_NS, Ticket, Tickets, Way
from services.sender.tlspolicy import TlsPolicy
from shared.net.tls import ResumingContext, context, offering
from shared.records.tlslevel import TlsLevel
from shared.runtime.settings import Source

S = 1_000_000_000
NOW = 1_800_000_000 * S
NAME = "mx.example.net"
WAY = Way("ip-1", NAME, "192.0.2.7", 25, "verified", NAME)
HOST = Endpoint(NAME, "192.0.2.7")
SOURCE = Source("ip-1", 0, "bind", "none")
VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)
LEVELS: tuple[TlsLevel, ...] = ("opportunistic", "encrypted", "verified")


@dataclass
class Host:
    """A host's side of TLS, and a client that trusts it."""

    authority: trustme.CA
    server: ssl.SSLContext
    client: ResumingContext
    tickets: Tickets = field(default_factory=Tickets)

    def handshake(self, ticket: Ticket | None = None) -> ssl.SSLObject:
        """Shake hands over memory, and let the host's first words, and its tickets, come through."""
        to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
        with offering(ticket.session if ticket is not None else None):
            ours = self.client.wrap_bio(to_client, to_server, server_hostname=NAME)
        theirs = self.server.wrap_bio(to_server, to_client, server_side=True)
        open_ends = [ours, theirs]
        for _ in range(10):
            for end in list(open_ends):
                try:
                    end.do_handshake()
                    open_ends.remove(end)
                except ssl.SSLWantReadError:
                    continue
        assert not open_ends
        theirs.write(b"250 hello\r\n")
        assert ours.read(100) == b"250 hello\r\n"
        return ours

    def visit(self, now_ns: int) -> bool:
        """Connect as a sender does; tells whether it resumed."""
        ticket = self.tickets.offer(WAY, now_ns)
        made = self.handshake(ticket)
        self.tickets.keep(WAY, made, now_ns)
        return bool(made.session_reused)


def host(version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3, *, not_after: int = 0) -> Host:
    authority = trustme.CA()
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.maximum_version = version
    until = dt.datetime.fromtimestamp(not_after, dt.UTC) if not_after else None
    authority.issue_cert(NAME, not_after=until).configure_cert(server)
    client = context("verified")
    authority.configure_trust(client)
    return Host(authority, server, client)


@pytest.fixture(params=VERSIONS, ids=["1.2", "1.3"])
def at(request: pytest.FixtureRequest) -> Host:
    return host(request.param)


def test_the_second_connection_resumes_and_so_does_each_after_it(at: Host) -> None:
    assert [at.visit(NOW + n) for n in range(4)] == [False, True, True, True]


def test_a_full_handshake_is_made_again_in_time_however_often_it_was_resumed(at: Host) -> None:
    steps = [REUSE_NS * n // 4 for n in range(9)]
    assert [at.visit(NOW + step) for step in steps] == [
        False, True, True, True,
        False, True, True, True,
        False,
    ]  # fmt: skip


def test_a_host_that_forgot_its_keys_gets_a_full_handshake(at: Host) -> None:
    assert [at.visit(NOW), at.visit(NOW)] == [False, True]
    other = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    at.authority.issue_cert(NAME).configure_cert(other)
    at.server = other
    assert [at.visit(NOW), at.visit(NOW)] == [False, True]


def test_a_verified_certificate_that_ends_takes_its_ticket_along() -> None:
    # Of now, because TLS reads the clock of the machine for what it verifies.
    ends = int(dt.datetime.now(dt.UTC).timestamp()) + 600
    at = host(not_after=ends)
    now = (ends - 600) * S
    assert not at.visit(now)
    assert at.tickets.offer(WAY, ends * S - 1) is not None
    assert at.tickets.offer(WAY, ends * S) is None
    assert at.tickets.offer(WAY, now) is None, "it is gone"


@pytest.mark.parametrize(
    "other",
    [
        WAY._replace(source="ip-2"),
        WAY._replace(host="mx2.example.net"),
        WAY._replace(address="192.0.2.8"),
        WAY._replace(port=465),
        WAY._replace(level="encrypted"),
        WAY._replace(name="other.example.net"),
    ],
)
def test_a_ticket_is_for_the_way_on_which_it_was_given(other: Way) -> None:
    at = host()
    at.visit(NOW)
    assert at.tickets.offer(other, NOW) is None
    assert at.tickets.offer(WAY, NOW) is not None


def test_what_another_level_made_cannot_be_resumed_even_if_it_is_offered() -> None:
    at, lax = host(), context("encrypted")
    strict, at.client = at.client, lax
    at.visit(NOW)
    at.client = strict
    with pytest.raises(ValueError, match="different SSLContext"):
        at.visit(NOW)


def test_memory_is_bounded_and_the_oldest_go_first() -> None:
    at = host()
    at.tickets = Tickets(bound=2)
    made = at.handshake()
    ways = [WAY._replace(port=port) for port in (1, 2, 3)]
    for way in ways:
        at.tickets.keep(way, made, NOW)
    assert [at.tickets.offer(way, NOW) is not None for way in ways] == [False, True, True]


def test_without_a_ticket_there_is_nothing_to_keep() -> None:
    at = host()
    at.server.num_tickets = 0
    assert [at.visit(NOW), at.visit(NOW)] == [False, False]


def test_only_the_ticket_that_failed_is_forgotten() -> None:
    at = host()
    at.visit(NOW)
    old = at.tickets.offer(WAY, NOW)
    at.tickets.keep(WAY, at.handshake(), NOW)
    new = at.tickets.offer(WAY, NOW)
    assert old is not None
    assert new is not None
    at.tickets.forget(old)
    assert at.tickets.offer(WAY, NOW) is new
    at.tickets.forget(new)
    assert at.tickets.offer(WAY, NOW) is None


# -- what the policy makes of it


def shown(level: TlsLevel) -> tuple[TlsPolicy, Tls]:
    """A policy that has a ticket, and what it says of the next connection."""
    policy, at = TlsPolicy(), host()
    first = policy.first(HOST, level, SOURCE, NOW)
    assert (first.ticket, first.keep is not None) == (None, True)
    assert first.keep is not None
    first.keep(at.handshake(), NOW)
    tls = policy.first(HOST, level, SOURCE, NOW)
    assert tls.ticket is not None
    return policy, tls


def failing(kind: type[ConnectFailed], *, reply: Reply | None = None, shown: bool) -> ConnectFailed:
    failure = kind(HOST, "starttls", "it broke", reply)
    failure.resuming = shown
    return failure


@pytest.mark.parametrize("kind", [TlsFailed, ConnectFailed])
@pytest.mark.parametrize("level", LEVELS)
def test_what_failed_with_a_ticket_is_tried_without_before_anything_is_made_of_it(
    level: TlsLevel, kind: type[ConnectFailed]
) -> None:
    policy, tls = shown(level)
    again = policy.another(tls, failing(kind, shown=True))
    assert again is not None
    assert (again.mode, again.context, again.ticket) == (tls.mode, tls.context, None)
    assert policy.first(HOST, level, SOURCE, NOW).ticket is None
    after = policy.another(again, failing(kind, shown=False))
    if kind is TlsFailed and level == "opportunistic":
        assert after is not None
        assert after.mode == "none"
    else:
        assert after is None


@pytest.mark.parametrize("level", ["encrypted", "verified"])
def test_a_ticket_that_was_not_shown_yet_changes_nothing(level: TlsLevel) -> None:
    policy, tls = shown(level)
    assert policy.another(tls, failing(TlsFailed, shown=False)) is None
    # Nor does one that the host answered in words: they are about something else.
    assert policy.another(tls, failing(TlsFailed, reply=Reply(454, "4.7.0"), shown=True)) is None
    assert policy.first(HOST, level, SOURCE, NOW).ticket is tls.ticket
