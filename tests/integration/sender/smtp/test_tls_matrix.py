"""Every level of TLS against every way in which a host can have it, or not: what is required never downgrades."""

import asyncio
import contextlib
import dataclasses
import datetime as dt
import random
import socket
import ssl
import threading
import warnings
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import msgspec
import pytest
import structlog
import trustme

from services.sender.outcomes import failed_connection, of_report
from services.sender.reach import Common, Reach, Unreachable
from services.sender.smtp.connect import Endpoint, Origin, Tls, TlsFailed, connect
from services.sender.smtp.connection import Connection
from services.sender.smtp.envelope import Transaction
from services.sender.smtp.timeouts import Timeouts
from services.sender.sources.outlet import Outlet
from services.sender.sources.paths import Open
from services.sender.tlspolicy import TlsPolicy
from shared.net.destinations import Destinations
from shared.net.guard import Guard
from shared.net.tls import context
from shared.records.grant import Grant
from shared.records.outcome import Outcome, Wire
from shared.records.tlslevel import TlsLevel
from shared.runtime.clock import SystemClock
from shared.runtime.settings import Provider, Route, Settings, Source
from shared.runtime.workings import Net
from tests.support.grants import grant as a_grant
from tests.support.sending import hung_up, send

S = 1_000_000_000
LEVELS: tuple[TlsLevel, ...] = ("verified", "encrypted", "opportunistic")
FIT = ("good certificate", "answers injected before the handshake")
UNFIT = ("wrong name", "expired", "self-signed")
NONE = ("no STARTTLS", "STARTTLS that breaks", "STARTTLS that is refused", "TLS 1.0 only")
IMPLICIT = ("TLS from the first byte", "TLS from the first byte, self-signed")
HOSTS = (*FIT, *UNFIT, *NONE)
CANNOT_RESUME = "goes when it is shown its own ticket"
IN_THE_CLEAR = b"MAIL FROM:<b@acme.example>\r\n"


async def admitted() -> bool:
    """Wait for no turn."""
    return True


class Certificates:
    """One authority that is trusted, and a context for every kind of host."""

    def __init__(self) -> None:
        authority = trustme.CA()
        self.trusting = context("verified")
        authority.configure_trust(self.trusting)
        past = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
        day = dt.timedelta(days=1)
        self.good = self._context(authority.issue_cert("127.0.0.1"))
        self._of = {
            "wrong name": self._context(authority.issue_cert("mx.example.org")),
            "expired": self._context(
                authority.issue_cert("127.0.0.1", not_before=past, not_after=past + day)
            ),
            "self-signed": self._context(trustme.CA().issue_cert("127.0.0.1")),
            IMPLICIT[1]: self._context(trustme.CA().issue_cert("127.0.0.1")),
            "TLS 1.0 only": self._context(authority.issue_cert("127.0.0.1"), old=True),
            "TLS 1.2 only": self._context(authority.issue_cert("127.0.0.1")),
        }
        self._of["TLS 1.2 only"].maximum_version = ssl.TLSVersion.TLSv1_2

    def of(self, host: str) -> ssl.SSLContext:
        return self._of.get(host, self.good)

    def _context(self, issued: trustme.LeafCert, *, old: bool = False) -> ssl.SSLContext:
        made = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        issued.configure_cert(made)
        if old:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                made.minimum_version = made.maximum_version = ssl.TLSVersion.TLSv1
            made.set_ciphers("DEFAULT:@SECLEVEL=0")
        return made


@pytest.fixture(scope="module")
def certificates() -> Certificates:
    return Certificates()


@dataclass
class Host:
    """A mail host of one kind, in a thread: what it heard, by connection, in the clear and over TLS."""

    kind: str
    context: ssl.SSLContext
    listener: socket.socket = field(default_factory=lambda: socket.create_server(("127.0.0.1", 0)))
    clear: list[bytes] = field(default_factory=list)
    secret: list[bytes] = field(default_factory=list)

    @property
    def port(self) -> int:
        return int(self.listener.getsockname()[1])

    def run(self) -> None:
        """Serve one connection after the other until the listener is shut down."""
        while True:
            try:
                plain, _ = self.listener.accept()
            except OSError:
                return
            plain.settimeout(30)
            self.clear.append(b"")
            self.secret.append(b"")
            # Whatever ends a connection, the client says what it made of it.
            with contextlib.suppress(OSError), plain:
                if self.kind in IMPLICIT:
                    with self.context.wrap_socket(plain, server_side=True) as encrypted:
                        encrypted.sendall(b"220 host\r\n")
                        self._talk(encrypted, self.secret)
                    continue
                plain.sendall(b"220 host\r\n")
                if self._talk(plain, self.clear):
                    with self.context.wrap_socket(plain, server_side=True) as encrypted:
                        if self.kind != CANNOT_RESUME or not encrypted.session_reused:
                            self._talk(encrypted, self.secret)

    def _talk(self, sock: socket.socket, heard: list[bytes]) -> bool:
        """Serve until the end, or until TLS begins (True)."""
        while line := _read(sock, b"\r\n"):
            heard[-1] += line
            match line[:4]:
                case b"EHLO":
                    bare = heard is self.secret or self.kind == "no STARTTLS"
                    offer = b"" if bare else b"250-STARTTLS\r\n"
                    sock.sendall(b"250-host\r\n" + offer + b"250 8BITMIME\r\n")
                case b"STAR":
                    return self._may_upgrade(sock)
                case b"DATA":
                    sock.sendall(b"354 go\r\n")
                    heard[-1] += _read(sock, b"\r\n.\r\n")
                    sock.sendall(b"250 taken\r\n")
                case _:
                    sock.sendall(b"250 ok\r\n")
        return False

    def _may_upgrade(self, sock: socket.socket) -> bool:
        match self.kind:
            case "STARTTLS that is refused":
                sock.sendall(b"454 4.7.0 not now\r\n")
                return False
            case "STARTTLS that breaks":
                sock.sendall(b"220 go\r\n")
                return False
            case "host that goes at STARTTLS":
                self.listener.shutdown(socket.SHUT_RDWR)
                return False
            case "answers injected before the handshake":
                # Who sits between adds answers behind the last one in the clear (CVE-2021-38371 and its kin).
                sock.sendall(b"220 go\r\n250-evil\r\n250-PIPELINING\r\n250 AUTH PLAIN\r\n")
            case _:
                sock.sendall(b"220 go\r\n")
        return True


def _read(sock: socket.socket, end: bytes) -> bytes:
    data = b""
    while not data.endswith(end):
        byte = sock.recv(1)
        if not byte:
            return b""
        data += byte
    return data


@contextlib.asynccontextmanager
async def host(kind: str, certificates: Certificates) -> AsyncIterator[Host]:
    made = Host(kind, certificates.of(kind))
    thread = threading.Thread(target=made.run)
    thread.start()
    try:
        yield made
    finally:
        with contextlib.suppress(OSError):
            made.listener.shutdown(socket.SHUT_RDWR)
        # The client's end closes in a later turn of the loop.
        await asyncio.to_thread(thread.join)
        made.listener.close()


async def reach(host: Host, certificates: Certificates, row: TlsLevel) -> tuple[Reach, Common]:
    settings = Settings(
        routes={"x.example": Route("x.example", (("127.0.0.1", host.port),), "big")},
        providers={"big": Provider("big", tls=row)},
    )
    clock = SystemClock()
    common = Common(
        settings,
        Destinations(settings, clock),
        Guard.of(Net(("127.0.0.0/8",)), []),
        clock,
        random.Random(7),
        structlog.get_logger(),
        tls=TlsPolicy(contexts={"verified": certificates.trusting}),
    )
    source = Source("ip-1", 0, "bind", "none", ehlo="m1.acme.example", address="127.0.0.1")
    outlet = Outlet(source, settings.sender, None, clock, common.log)
    looking = asyncio.create_task(outlet.run())
    while not outlet.known:
        await asyncio.sleep(0)
    looking.cancel()
    return Reach(source, outlet, common), common


async def grant(common: Common, level: TlsLevel = "opportunistic") -> Grant:
    destination = await common.destinations.resolve("x.example")
    return a_grant(
        site=destination.site,  # type: ignore[union-attr]
        provider="big",
        tls=level,
    )


async def yes() -> bool:
    return True


async def delivered(connection: Connection, granted: Grant) -> Wire:
    """Send one message; gives what the outcome says of the wire."""
    what = Transaction(granted.from_, granted.to, 20)
    report = await send(connection, what, [b"Subject: x\r\n\r\nhi\r\n"], yes, yes, within_ns=30 * S)
    outcome = of_report(granted, report)
    assert isinstance(outcome, Outcome), outcome
    assert (outcome.result, outcome.wire is not None) == ("delivered", True)
    await hung_up(connection)
    return outcome.wire or Wire()


@pytest.mark.parametrize("kind", HOSTS)
@pytest.mark.parametrize("level", LEVELS)
async def test_the_matrix(level: TlsLevel, kind: str, certificates: Certificates) -> None:
    async with host(kind, certificates) as at:
        way, common = await reach(at, certificates, level)
        granted = await grant(common)
        if level != "opportunistic" and (kind in NONE or (level == "verified" and kind not in FIT)):
            with pytest.raises(Unreachable) as caught:
                await way.connect(granted, admitted)
            outcome = failed_connection(granted, caught.value)
            assert (outcome.result, outcome.category) == ("pair_failed", "tls")
            assert outcome.wire is not None
            assert outcome.wire.tls.startswith("failed: ")
            assert not any(b"MAIL" in heard for heard in at.clear + at.secret)
            # One connection, and never a second one in the clear.
            assert len(at.clear) == 1
            return
        wire = await delivered(await way.connect(granted, admitted), granted)
        if kind in NONE:
            assert wire.tls.startswith("none: ")
            assert (wire.tls_cipher, wire.tls_verified) == ("", False)
            assert IN_THE_CLEAR in at.clear[-1]
            # Falling back takes a new connection; a host that offers nothing has not broken anything.
            assert len(at.clear) == (1 if kind == "no STARTTLS" else 2)
            assert not any(b"MAIL" in heard for heard in at.clear[:-1])
            return
        assert wire.tls == "TLSv1.3"
        assert wire.tls_cipher.startswith("TLS_")
        assert wire.tls_verified == (level == "verified")
        assert not any(b"MAIL" in heard for heard in at.clear)
        # Nothing that was offered before the handshake holds after it: MAIL went alone, so no PIPELINING was believed in.
        assert at.secret == [at.secret[0]]
        assert at.secret[0].startswith(b"EHLO m1.acme.example\r\n" + IN_THE_CLEAR)


@pytest.mark.parametrize("kind", [kind for kind in NONE if kind != "no STARTTLS"])
async def test_what_broke_is_remembered_until_the_host_asks_for_tls(
    kind: str, certificates: Certificates
) -> None:
    async with host(kind, certificates) as at:
        way, common = await reach(at, certificates, "opportunistic")
        granted = await grant(common)
        await delivered(await way.connect(granted, admitted), granted)
        connection = await way.connect(granted, admitted)
        assert (
            await delivered(connection, granted)
        ).tls == "none: TLS was broken here not long ago"
        assert [b"STARTTLS" in heard for heard in at.clear] == [True, False, False]
        common.tls.asked_for("127.0.0.1")
        await hung_up(await way.connect(granted, admitted))
        assert b"STARTTLS" in at.clear[3]


async def test_a_host_that_is_gone_is_not_remembered_as_broken(certificates: Certificates) -> None:
    async with host("host that goes at STARTTLS", certificates) as at:
        way, common = await reach(at, certificates, "opportunistic")
        granted = await grant(common)
        with pytest.raises(Unreachable) as caught:
            await way.connect(granted, admitted)
        assert (len(at.clear), caught.value.stage) == (1, "connect")
    assert not common.tls.broken.is_broken("127.0.0.1", common.clock.now_ns())


@pytest.mark.parametrize("kind", [*UNFIT, "no STARTTLS", "TLS 1.0 only"])
async def test_what_only_a_tenant_wants_is_not_the_pairs_trouble(
    kind: str, certificates: Certificates
) -> None:
    async with host(kind, certificates) as at:
        way, common = await reach(at, certificates, "opportunistic")
        careful = await grant(common, "verified")
        with pytest.raises(Unreachable) as caught:
            await way.connect(careful, admitted)
        outcome = failed_connection(careful, caught.value)
        assert (outcome.result, outcome.category, outcome.scope) == ("deferred", "tls", "domain")
        # Nor is the host asked again for each of the tenant's messages.
        with pytest.raises(Unreachable) as again:
            await way.connect(careful, admitted)
        assert (again.value.scope, again.value.why) == ("domain", caught.value.why)
        assert len(at.clear) == 1
        granted = await grant(common)
        await delivered(await way.connect(granted, admitted), granted)


@pytest.mark.parametrize("made", LEVELS)
@pytest.mark.parametrize("needed", LEVELS)
async def test_a_connection_serves_what_is_as_strict_as_itself_or_less(
    made: TlsLevel, needed: TlsLevel, certificates: Certificates
) -> None:
    async with host("good certificate", certificates) as at:
        way, common = await reach(at, certificates, "opportunistic")
        connection = await way.connect(await grant(common, made), admitted)
        assert connection.peer.level == made
        wanted = msgspec.structs.replace(await grant(common), tls=needed)
        assert way.serves(connection, wanted) == (LEVELS.index(made) <= LEVELS.index(needed))
        await hung_up(connection)


@pytest.mark.parametrize("kind", [*IMPLICIT, "no STARTTLS"])
@pytest.mark.parametrize("level", LEVELS)
async def test_tls_from_the_first_byte_has_no_second_try(
    level: TlsLevel, kind: str, certificates: Certificates
) -> None:
    async with host(kind, certificates) as at:
        _, common = await reach(at, certificates, level)
        verify = context(level) if level != "verified" else certificates.trusting
        opening = connect(
            Endpoint("127.0.0.1", "127.0.0.1", at.port),
            Origin("m1.acme.example", Open().open),
            Tls("required", verify, implicit=True),
            timeouts=Timeouts(),
            clock=common.clock,
        )
        if kind == "no STARTTLS" or (level == "verified" and kind == IMPLICIT[1]):
            with pytest.raises(TlsFailed):
                await opening
            return
        connection = await opening
        assert (connection.peer.tls, connection.peer.level == "verified") == (
            "TLSv1.3",
            level == "verified",
        )
        await delivered(connection, await grant(common))
    assert at.clear == [b""]


@pytest.mark.parametrize("kind", ["good certificate", "TLS 1.2 only"])
@pytest.mark.parametrize("level", LEVELS)
async def test_the_next_connection_resumes_and_is_worth_the_same(
    level: TlsLevel, kind: str, certificates: Certificates
) -> None:
    async with host(kind, certificates) as at:
        way, common = await reach(at, certificates, level)
        granted = await grant(common)
        wires = [await delivered(await way.connect(granted, admitted), granted) for _ in range(3)]
        assert [wire.tls_resumed for wire in wires] == [False, True, True]
        assert {(wire.tls, wire.tls_cipher, wire.tls_verified) for wire in wires} == {
            (wires[0].tls, wires[0].tls_cipher, level == "verified")
        }
        assert len(at.clear) == 3


@pytest.mark.parametrize("kind", ["good certificate", "self-signed"])
async def test_what_nobody_verified_is_never_resumed_as_verified(
    kind: str, certificates: Certificates
) -> None:
    async with host(kind, certificates) as at:
        way, common = await reach(at, certificates, "opportunistic")
        lax, strict = await grant(common), await grant(common, "verified")
        for resumed in (False, True):
            assert (await delivered(await way.connect(lax, admitted), lax)).tls_resumed == resumed
        if kind == "self-signed":
            with pytest.raises(Unreachable):
                await way.connect(strict, admitted)
            return
        for resumed in (False, True):
            wire = await delivered(await way.connect(strict, admitted), strict)
            assert (wire.tls_resumed, wire.tls_verified) == (resumed, True)


@pytest.mark.parametrize("level", LEVELS)
async def test_a_host_that_cannot_resume_costs_a_connection_and_never_the_tls(
    level: TlsLevel, certificates: Certificates
) -> None:
    async with host(CANNOT_RESUME, certificates) as at:
        way, common = await reach(at, certificates, level)
        granted = await grant(common)
        wires = [await delivered(await way.connect(granted, admitted), granted) for _ in range(2)]
        assert [(wire.tls, wire.tls_resumed) for wire in wires] == [("TLSv1.3", False)] * 2
        assert len(at.clear) == 3
        assert not any(b"MAIL" in heard for heard in at.clear)
    assert not common.tls.broken.is_broken("127.0.0.1", common.clock.now_ns())


async def test_tls_from_the_first_byte_resumes_as_well(certificates: Certificates) -> None:
    async with host(IMPLICIT[0], certificates) as at:
        _, common = await reach(at, certificates, "verified")
        smart = Source("relay", 1, "smarthost", "none", host="127.0.0.1", port=465, tls="verified")
        endpoint = Endpoint("127.0.0.1", "127.0.0.1", at.port)
        seen = []
        for _ in range(2):
            tls = common.tls.first(endpoint, "verified", smart, common.clock.now_ns())
            connection = await connect(
                endpoint,
                Origin("m1.acme.example", Open().open),
                dataclasses.replace(tls, implicit=True),
                timeouts=Timeouts(),
                clock=common.clock,
            )
            seen.append(await delivered(connection, await grant(common)))
        assert [(wire.tls_resumed, wire.tls_verified) for wire in seen] == [
            (False, True),
            (True, True),
        ]
