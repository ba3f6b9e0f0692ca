"""A smart host that speaks TLS from the first byte and wants to know who we are, with aiosmtpd as the host."""

import asyncio
import ssl

import pytest
import trustme
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from services.sender.smtp.connect import ConnectFailed, Credentials, Endpoint, Origin, Tls, connect
from services.sender.smtp.connection import Connection
from services.sender.smtp.timeouts import Timeouts
from services.sender.sources.paths import Open
from shared.runtime.clock import SystemClock
from tests.support.sending import hung_up


class Relay:
    """Answer what aiosmtpd asks."""

    def __init__(self) -> None:
        self.used: list[str] = []

    def __call__(
        self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: object
    ) -> AuthResult:
        self.used.append(mechanism)
        right = isinstance(data, LoginPassword) and data == LoginPassword(b"acme", b"secret")
        return AuthResult(success=right, handled=False)


async def opened(port: int, context: ssl.SSLContext, password: str) -> Connection:
    return await connect(
        Endpoint("relay.example.net", "127.0.0.1", port),
        Origin("m1.example.com", Open().open, Credentials("acme", password)),
        Tls("required", context, implicit=True),
        timeouts=Timeouts(),
        clock=SystemClock(),
    )


@pytest.mark.parametrize(("without", "mechanism"), [([], "PLAIN"), (["PLAIN"], "LOGIN")])
async def test_plain_or_login_is_said_inside_of_tls_from_the_first_byte(
    without: list[str], mechanism: str
) -> None:
    ca, relay = trustme.CA(), Relay()
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("relay.example.net").configure_cert(server_side)
    client_side = ssl.create_default_context()
    ca.configure_trust(client_side)
    server = await asyncio.get_running_loop().create_server(
        lambda: SMTP(
            object(),
            authenticator=relay,
            auth_require_tls=False,
            auth_exclude_mechanism=without,
        ),
        "127.0.0.1",
        0,
        ssl=server_side,
    )
    port = server.sockets[0].getsockname()[1]
    try:
        connection = await opened(port, client_side, "secret")
        assert connection.peer.tls == "TLSv1.3"
        await hung_up(connection)
        with pytest.raises(ConnectFailed) as caught:
            await opened(port, client_side, "wrong")
        assert (caught.value.stage, caught.value.reply and caught.value.reply.code) == ("auth", 535)
    finally:
        server.close()
    assert relay.used == [mechanism, mechanism]
