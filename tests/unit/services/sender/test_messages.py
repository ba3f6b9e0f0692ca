"""Messages as attempts send them: whole, the same each time but for the signatures, and never unsigned by accident."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import structlog
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from services.sender.bodies import StoredBodies
from services.sender.dkim.keyfiles import KeyFiles
from services.sender.dkim.keys import KeyRing
from services.sender.dkim.pool import SigningPool
from services.sender.dkim.sign import SIGNED, Signer
from services.sender.messages import MessageFailed, Messages
from shared.kafka.cluster import Cluster
from shared.kafka.kept import Kept
from shared.runtime.settings import RELAXED, DkimKey, Settings, Tenant
from tests.support.dkim import verified
from tests.support.grants import grant

_S = 1_000_000_000
_BODY = b"From: a@acme.example\r\nSubject: hello \r\n\r\nHello.  \r\n.\r\n\r\n"
_GRANT = grant(size_bytes=len(_BODY), prepend="Message-ID: <d@acme.example>\r\n")


@dataclass
class _Clock:
    wall: int = 1_700_000_000 * _S

    def now_ns(self) -> int:
        return self.wall

    def mono_ns(self) -> int:
        return self.wall

    async def sleep(self, seconds: float) -> None:
        self.wall += int(seconds * _S)


Make = Callable[..., Messages]


@pytest.fixture
async def make(clock: _Clock) -> AsyncIterator[Make]:
    async with AsyncExitStack() as stack:

        def made(*rows: DkimKey, unsigned: bool = False) -> Messages:
            tenant = Tenant("acme", ("acme.example",), {"bulk": "p"}, rows, unsigned)
            settings = Settings(tenants={"acme": tenant})
            log = structlog.wrap_logger(structlog.ReturnLogger())
            messages = Messages(
                settings,
                KeyRing(settings, clock, KeyFiles(clock, log)),
                SigningPool(1, clock),
                StoredBodies(
                    Cluster("127.0.0.1:1", client_id="test"), "mail.bodies", Kept(1 << 20)
                ),
            )
            stack.push_async_callback(messages.close)
            return messages

        yield made


@pytest.fixture
def clock() -> _Clock:
    return _Clock()


def _key(path: Path, key: rsa.RSAPrivateKey | Ed25519PrivateKey) -> Path:
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return path


async def test_a_tenant_that_goes_while_its_keys_are_looked_for_sends_nothing_unsigned(
    make: Make, clock: _Clock
) -> None:
    messages = make(unsigned=True)

    class Slow(KeyRing):
        async def signers(self, tenant: str, domain: str) -> tuple[Signer, ...]:
            found = await super().signers(tenant, domain)
            messages.renew(Settings())
            return found

    messages.keys = Slow(messages.settings, clock, messages.keys.files)
    with pytest.raises(MessageFailed):
        await messages.make(_GRANT, _BODY)


async def test_an_attempt_has_the_body_of_the_one_before_and_a_signature_of_its_own(
    make: Make, clock: _Clock, tmp_path: Path
) -> None:
    key, ed25519 = rsa.generate_private_key(65537, 2048), Ed25519PrivateKey.generate()
    messages = make(
        DkimKey("acme.example", "r", _key(tmp_path / "r", key)),
        DkimKey("acme.example", "e", _key(tmp_path / "e", ed25519)),
    )
    first = await messages.make(_GRANT, _BODY)
    clock.wall += 3600 * _S
    second = await messages.make(_GRANT, _BODY)
    assert first[1:] == second[1:] == (_GRANT.prepend.encode(), _BODY)
    assert first[0] != second[0]
    for parts in (first, second):
        assert verified(b"".join(parts), key, 0)
        assert verified(b"".join(parts), ed25519, 1)


async def test_the_declared_size_has_room_for_every_signature(make: Make, tmp_path: Path) -> None:
    rows = [
        DkimKey("acme.example", name, _key(tmp_path / name, rsa.generate_private_key(65537, 4096)))
        for name in "ab"
    ]
    head = b"".join(name + b": x\r\n" for name in SIGNED - {b"from"})
    messages = make(*rows)
    signature, *_ = await messages.make(_GRANT, head + _BODY)
    assert signature.count(b"DKIM-Signature:") == 2
    assert len(signature) <= messages.overhead_bytes


async def test_a_key_that_is_not_there_defers_even_where_unsigned_mail_is_allowed(
    make: Make, tmp_path: Path
) -> None:
    messages = make(DkimKey("acme.example", "s", tmp_path / "gone"), unsigned=True)
    with pytest.raises(MessageFailed, match="gone: No such file") as caught:
        await messages.make(_GRANT, _BODY)
    assert caught.value.category == "dkim"


async def test_mail_goes_unsigned_only_where_no_key_signs_and_the_tenant_says_so(
    make: Make, clock: _Clock, tmp_path: Path
) -> None:
    ended = DkimKey("acme.example", "s", tmp_path / "gone", RELAXED, until_ns=clock.wall)
    for rows in ((), (ended,)):
        with pytest.raises(MessageFailed, match=r"no key that signs for acme\.example now"):
            await make(*rows).make(_GRANT, _BODY)
        parts = await make(*rows, unsigned=True).make(_GRANT, _BODY)
        assert parts == (_GRANT.prepend.encode(), _BODY)
