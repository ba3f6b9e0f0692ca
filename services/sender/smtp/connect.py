"""Make a connection ready for transactions: TCP from the source's own address, greeting, STARTTLS, AUTH.

The socket is opened by the source (``services.sender.sources``), because its address is what this product is about; it goes to an
address that the caller has resolved and checked (there is no second resolution, so nothing can be rebound in between). aiosmtplib then
greets, starts TLS and authenticates on it; ``Connection`` takes the transport over. Foreign errors stop here:

    the source cannot be used      SourceUnavailable     suspends the source; there is no falling back to another address
    STARTTLS or what follows it    TlsFailed             opportunistic: once more, in the clear, on a new connection; else the next host
    any, once a ticket was shown   .resuming             once more without the ticket, before anything else
    anything else                  ConnectFailed         the pair's, not the delivery's

Nothing is retried here, and a connection that did not become ready is closed.
"""

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Final, Literal, cast

import aiosmtplib
from aiosmtplib.protocol import SMTPProtocol

from services.sender.smtp.connection import Connection
from services.sender.smtp.envelope import Capabilities
from services.sender.smtp.reply import Reply, harmless, of_text
from services.sender.smtp.report import Peer
from services.sender.smtp.timeouts import Timeouts
from services.sender.sources.paths import Opened
from services.sender.tickets import Ticket
from shared.net.tls import offering
from shared.records.tlslevel import TlsLevel
from shared.runtime.clock import Clock

_S: Final = 1_000_000_000
_CLOSING: Final = 421

ConnectStage = Literal["connect", "banner", "ehlo", "starttls", "auth"]
#: Is shown what TLS made, when the host has greeted over it, and the time, ns.
Keep = Callable[[ssl.SSLObject, int], None]
#: Connects to an IP and a port from the source's address; raises SourceUnavailable, OSError.
Dial = Callable[[str, int], Awaitable[Opened]]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where to connect: ``address`` is an IP that the guard has passed, ``host`` the name it was found under."""

    host: str
    address: str
    port: int = 25


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a smart host wants to hear; never shown."""

    username: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Origin:
    """Who connects: ``dial`` opens the source's sockets; ``ehlo`` is its name."""

    ehlo: str
    dial: Dial
    credentials: Credentials | None = None


@dataclass(frozen=True, slots=True)
class Tls:
    """What TLS must be. ``context`` is None only for ``none``; it verifies, or does not, as the policy wants."""

    mode: Literal["none", "opportunistic", "required"] = "none"
    context: ssl.SSLContext | None = None
    #: For SNI and verification; the endpoint's host where empty.
    server_name: str = ""
    #: TLS from the first byte (port 465 of smart hosts).
    implicit: bool = False
    #: Of a second try in the clear: what went wrong with TLS.
    fallen_back: str = ""
    #: What to resume with.
    ticket: Ticket | None = None
    keep: Keep | None = None


class ConnectFailed(Exception):
    """No ready connection; ``reply`` is what the peer said, where it said something."""

    def __init__(
        self, endpoint: Endpoint, stage: ConnectStage, why: str, reply: Reply | None = None
    ) -> None:
        """Say where it ended, and how."""
        super().__init__(f"{endpoint.host} [{endpoint.address}]:{endpoint.port} at {stage}: {why}")
        self.endpoint, self.stage, self.why, self.reply = endpoint, stage, why, reply
        #: Milliseconds spent in each stage.
        self.ms: dict[str, int] = {}
        #: A ticket had been shown: without it, it may go better.
        self.resuming = False


class TlsFailed(ConnectFailed):
    """TLS was not to be had, and the connection is spent."""


async def connect(
    endpoint: Endpoint, origin: Origin, tls: Tls, *, timeouts: Timeouts, clock: Clock
) -> Connection:
    """Give a connection that has been greeted, encrypted and authenticated as asked."""
    opening = _Opening(endpoint, origin, tls, timeouts, clock)
    try:
        return await opening.run()
    except BaseException as error:
        if isinstance(error, ConnectFailed):
            error.ms, error.resuming = opening.ms, opening.resuming
        opening.close()
        raise


class _Opening:
    """The steps to one ready connection, and what they took."""

    def __init__(
        self, endpoint: Endpoint, origin: Origin, tls: Tls, timeouts: Timeouts, clock: Clock
    ) -> None:
        self._endpoint, self._origin, self._tls, self._timeouts = endpoint, origin, tls, timeouts
        self._clock = clock
        self._opened: Opened | None = None
        self._client: aiosmtplib.SMTP | None = None
        self._raw: asyncio.Transport | None = None
        self.ms: dict[str, int] = {}
        self.resuming = False

    def close(self) -> None:
        """Close what is open."""
        if self._client is not None:
            self._client.close()
        if self._opened is not None:
            self._opened.sock.close()

    async def run(self) -> Connection:
        with self._stage("connect"):
            async with asyncio.timeout(self._timeouts.connect_ns / _S):
                opened = await self._origin.dial(self._endpoint.address, self._endpoint.port)
            self._opened = opened
        with self._stage("banner"), self._offering():
            client = self._client = aiosmtplib.SMTP(
                hostname=self._server_name,
                local_hostname=self._origin.ehlo,
                sock=opened.sock,
                start_tls=False,
                tls_context=self._tls.context,
                timeout=None,
            )
            if self._tls.implicit:
                await self._connect_over_tls(client, opened)
            else:
                await client.connect(timeout=self._timeouts.banner_ns / _S)
            self._opened = None  # The transport's from here on.
        await self._greet(client)
        if self._tls.mode != "none" and not self._tls.implicit:
            await self._encrypt(client)
        if self._origin.credentials is not None:
            await self._authenticate(client, self._origin.credentials)
        return self._take_over(client, opened.source_ip)

    @property
    def _server_name(self) -> str:
        return self._tls.server_name or self._endpoint.host

    def _offering(self) -> contextlib.AbstractContextManager[None]:
        ticket = self._tls.ticket
        self.resuming = ticket is not None
        return offering(ticket.session if ticket is not None else None)

    async def _connect_over_tls(self, client: aiosmtplib.SMTP, opened: Opened) -> None:
        """Connect as ``client.connect`` does with ``use_tls``, which would give the transport below TLS to nobody."""
        loop, wait = asyncio.get_running_loop(), self._timeouts.banner_ns / _S
        raw, clear = await loop.create_connection(_Clear, sock=opened.sock)
        protocol = SMTPProtocol(loop=loop)
        # Before TLS: the banner may come with the end of the handshake.
        protocol.connection_made(raw)
        try:
            client.loop, client.protocol, client.transport = loop, protocol, raw
            self._keep_raw(client)
            if clear.heard:
                raise TlsFailed(self._endpoint, "starttls", "the host spoke before TLS had begun")
            assert self._tls.context is not None  # noqa: S101 - whoever wants TLS has one
            transport = await loop.start_tls(
                raw,
                protocol,
                self._tls.context,
                server_hostname=self._server_name,
                ssl_handshake_timeout=wait,
            )
        except BaseException:
            raw.abort()
            raise
        client.transport = protocol.transport = transport
        banner = await protocol.read_response(timeout=wait)
        if banner.code != aiosmtplib.SMTPStatus.ready:
            raise aiosmtplib.SMTPConnectResponseError(banner.code, banner.message)

    # -- SMTP

    async def _greet(self, client: aiosmtplib.SMTP) -> None:
        wait = self._timeouts.ehlo_ns / _S
        with self._stage("ehlo"):
            try:
                await client.ehlo(timeout=wait)
            except aiosmtplib.SMTPHeloError as error:
                # RFC 5321 3.2: who does not know EHLO may know HELO.
                if error.code < 500 or not client.is_connected:  # noqa: PLR2004
                    raise
                await client.helo(timeout=wait)

    async def _encrypt(self, client: aiosmtplib.SMTP) -> None:
        if not client.supports_extension("starttls"):
            if self._tls.mode == "required":
                raise TlsFailed(self._endpoint, "starttls", "STARTTLS is not offered")
            return
        self._keep_raw(client)
        with self._stage("starttls"), self._offering():
            await client.starttls(
                tls_context=self._tls.context,
                server_hostname=self._server_name,
                timeout=self._timeouts.starttls_ns / _S,
            )
        # RFC 3207 4.2: what was offered before is forgotten.
        await self._greet(client)

    def _keep_raw(self, client: aiosmtplib.SMTP) -> None:
        """Keep the transport below TLS: only it knows what has not reached the kernel yet."""
        self._raw = cast("asyncio.Transport", client.transport)
        self._raw.set_write_buffer_limits(high=0)

    async def _authenticate(self, client: aiosmtplib.SMTP, credentials: Credentials) -> None:
        clear = self._tls.mode == "none" and not self._tls.fallen_back
        if not clear and client.get_transport_info("ssl_object") is None:
            raise ConnectFailed(self._endpoint, "auth", "a password is not sent without TLS")
        offered = Capabilities.of(client.esmtp_extensions).auth | set(client.server_auth_methods)
        wait = self._timeouts.auth_ns / _S
        with self._stage("auth"):
            if "plain" in offered:
                await client.auth_plain(credentials.username, credentials.password, timeout=wait)
            elif "login" in offered:
                await client.auth_login(credentials.username, credentials.password, timeout=wait)
            else:
                raise ConnectFailed(self._endpoint, "auth", "neither PLAIN nor LOGIN is offered")

    def _take_over(self, client: aiosmtplib.SMTP, source_ip: str) -> Connection:
        # uvloop's transports are such by behaviour, not by class.
        transport = cast("asyncio.Transport | None", client.transport)
        if transport is None or transport.is_closing():
            raise ConnectFailed(self._endpoint, "ehlo", "the peer closed the connection")
        tls = cast("ssl.SSLObject | None", transport.get_extra_info("ssl_object"))
        cipher = tls.cipher() if tls is not None else None
        if tls is not None and self._tls.keep is not None:
            self._tls.keep(tls, self._clock.now_ns())
        peer = Peer(
            host=self._endpoint.host,
            address=self._endpoint.address,
            port=self._endpoint.port,
            source_ip=source_ip,
            tls=tls.version() or "" if tls is not None else "",
            cipher=cipher[0] if cipher is not None else "",
            level=self._level(tls),
            fallen_back=self._tls.fallen_back,
            resumed=tls is not None and bool(tls.session_reused),
        )
        capabilities = Capabilities.of(client.esmtp_extensions)
        return Connection(
            transport,
            peer,
            capabilities,
            timeouts=self._timeouts,
            clock=self._clock,
            raw=self._raw,
            opening_ms=self.ms,
        )

    def _level(self, tls: ssl.SSLObject | None) -> TlsLevel:
        """Say what the session proves, by what was checked and not by what was meant."""
        if tls is None:
            return "opportunistic"
        if tls.context.verify_mode == ssl.CERT_REQUIRED and tls.context.check_hostname:
            return "verified"
        return "encrypted" if self._tls.mode == "required" else "opportunistic"

    # -- errors and times

    @contextlib.contextmanager
    def _stage(self, stage: ConnectStage) -> Iterator[None]:
        begun = self._clock.mono_ns()
        try:
            yield
        except aiosmtplib.SMTPResponseException as error:
            raise self._answered(stage, error) from error
        except ssl.SSLError as error:
            raise TlsFailed(
                self._endpoint, "starttls", harmless(error.reason or str(error))
            ) from error
        except TimeoutError as error:
            raise self._failure(stage, "no answer in time") from error
        except (aiosmtplib.SMTPException, OSError) as error:
            if isinstance(error.__cause__, ssl.SSLError):
                raise TlsFailed(self._endpoint, "starttls", _why(error)) from error
            raise self._failure(stage, _why(error)) from error
        except ValueError as error:
            # A host name that a stranger's DNS gave, and that is none: TLS cannot name it.
            raise self._failure(stage, _why(error)) from error
        finally:
            spent = (self._clock.mono_ns() - begun) // 1_000_000
            self.ms[stage] = self.ms.get(stage, 0) + spent

    def _answered(
        self, stage: ConnectStage, error: aiosmtplib.SMTPResponseException
    ) -> ConnectFailed:
        if not 200 <= error.code < 600:  # noqa: PLR2004 - a banner of nonsense has a code of -1
            return self._failure(stage, harmless(error.message))
        reply = of_text(error.code, error.message)
        # A host that says 421 is busy, whatever it was asked; any other no is about TLS.
        if stage == "starttls" and reply.code != _CLOSING:
            return TlsFailed(self._endpoint, stage, str(reply), reply)
        return ConnectFailed(self._endpoint, stage, str(reply), reply)

    def _failure(self, stage: ConnectStage, why: str) -> ConnectFailed:
        kind = TlsFailed if stage == "starttls" else ConnectFailed
        return kind(self._endpoint, stage, why)


class _Clear(asyncio.Protocol):
    """What comes before TLS begins is nobody's banner: whoever answers there waits for no TLS."""

    def __init__(self) -> None:
        self.heard = b""

    def data_received(self, data: bytes) -> None:
        self.heard = data


def _why(error: BaseException) -> str:
    cause = error.__cause__
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return (
        harmless(str(cause) if isinstance(cause, OSError) else str(error)) or type(error).__name__
    )
