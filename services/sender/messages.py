"""The bytes of one attempt: signature, this recipient's own headers, body. Signed in threads; a shared body is read once.

What is signed is what is sent: ``prepend`` and the body, joined, and nothing touches them afterwards. A message whose tenant has no key
for its From domain goes unsigned only where the tenant says so; a key that cannot be read defers it, loudly. Each attempt has the same
bytes but for its signatures, which say when they were made.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from services.sender.bodies import BodyMissing, StoredBodies
from services.sender.dkim.keyfiles import KeyTrouble
from services.sender.dkim.keys import KeyRing
from services.sender.dkim.pool import Signed, SigningFailed, SigningPool
from shared.records.grant import SIGNATURE_BYTES, Grant
from shared.runtime.settings import Settings


class MessageFailed(Exception):
    """The message could not be made; ``category``: dkim or body."""

    def __init__(self, category: str, why: str) -> None:
        """Say what is missing."""
        super().__init__(why)
        self.category = category


#: A message's parts in order, or why there are none: a MessageFailed, or a bug.
Made = tuple[bytes, ...] | Exception


@dataclass(slots=True)
class Messages:
    """Make messages for one process."""

    settings: Settings
    keys: KeyRing
    signing: SigningPool
    stored: StoredBodies

    def renew(self, settings: Settings) -> None:
        """Go on under other settings; keys that were read stay read."""
        self.settings = settings
        self.keys = KeyRing(settings, self.keys.clock, self.keys.files)

    @property
    def overhead_bytes(self) -> int:
        """Give the most that signatures add, for SIZE."""
        return SIGNATURE_BYTES * self.keys.most_signatures

    async def make(self, grant: Grant, body: bytes) -> tuple[bytes, ...]:
        """Give the message's parts in order; raises MessageFailed."""
        if grant.body is not None:
            try:
                body = await self.stored.get(grant.body)
            except BodyMissing as error:
                raise MessageFailed("body", str(error)) from error
        prepend = grant.prepend.encode("ascii")
        try:
            signers = await self.keys.signers(grant.tenant, grant.header_domain)
        except KeyTrouble as error:
            raise MessageFailed("dkim", str(error)) from error
        if not signers:
            return self._unsigned(grant, prepend, body)
        try:
            signature = await self.signing.sign(signers, prepend, body, grant.body)
        except SigningFailed as error:
            raise MessageFailed("dkim", str(error)) from error
        return signature, prepend, body

    def _unsigned(self, grant: Grant, prepend: bytes, body: bytes) -> tuple[bytes, ...]:
        # Whoever took it out of the settings while its keys were looked for allows nothing.
        tenant = self.settings.tenants.get(grant.tenant)
        if tenant is not None and tenant.unsigned:
            return prepend, body
        raise MessageFailed(
            "dkim", f"tenant {grant.tenant} has no key that signs for {grant.header_domain} now"
        )

    def ask(self, grant: Grant, body: bytes, then: Callable[[Made], None]) -> Callable[[], object]:
        """Have ``then`` called with what ``make`` gives or raises, once, in a later turn of the loop; gives what cancels that.

        Where the body and the keys are at hand, it takes no task and no future.
        """
        if grant.body is None:
            try:
                signers = self.keys.known(grant.tenant, grant.header_domain)
            except KeyTrouble:
                signers = ()
            if signers and not isinstance(signers, Path):
                prepend = grant.prepend.encode("ascii")

                def signed(fields: Signed) -> None:
                    if isinstance(fields, SigningFailed):
                        then(MessageFailed("dkim", str(fields)))
                    else:
                        then((fields, prepend, body))

                return self.signing.ask(signers, prepend, body, None, signed).cancel
        making = asyncio.ensure_future(self.make(grant, body))
        making.add_done_callback(partial(_made, then))
        return making.cancel

    async def close(self) -> None:
        """Close what it holds."""
        await asyncio.gather(self.stored.close(), return_exceptions=True)
        self.signing.close()


def _made(then: Callable[[Made], None], making: "asyncio.Future[tuple[bytes, ...]]") -> None:
    if making.cancelled():
        return
    error = making.exception()
    if error is None:
        then(making.result())
    else:
        then(error if isinstance(error, Exception) else MessageFailed("body", repr(error)))
