"""The bytes of one attempt: signature, this recipient's own headers, body. Signed in threads; a shared body is read once.

What is signed is what is sent: ``prepend`` and the body, joined, and nothing touches them afterwards. A message whose tenant has no key
for its From domain goes unsigned only where the tenant says so; a key that cannot be read defers it, loudly. Each attempt has the same
bytes but for its signatures, which say when they were made.
"""

import asyncio
from dataclasses import dataclass
from typing import Final

from services.sender.bodies import BodyMissing, StoredBodies
from services.sender.dkim.keyfiles import KeyTrouble
from services.sender.dkim.keys import KeyRing
from services.sender.dkim.pool import SigningFailed, SigningPool
from shared.records.grant import Grant
from shared.runtime.settings import Settings

# With RSA-4096 it is 1,200 bytes; SIZE may be more than the message, never less (RFC 1870 6.1).
_SIGNATURE_BYTES: Final = 2000


class MessageFailed(Exception):
    """The message could not be made; ``category``: dkim or body."""

    def __init__(self, category: str, why: str) -> None:
        """Say what is missing."""
        super().__init__(why)
        self.category = category


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
        return _SIGNATURE_BYTES * self.keys.most_signatures

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
            if not self.settings.tenants[grant.tenant].unsigned:
                raise MessageFailed(
                    "dkim",
                    f"tenant {grant.tenant} has no key that signs for {grant.header_domain} now",
                )
            return prepend, body
        try:
            signature = await self.signing.sign(signers, prepend, body, grant.body)
        except SigningFailed as error:
            raise MessageFailed("dkim", str(error)) from error
        return signature, prepend, body

    async def close(self) -> None:
        """Close what it holds."""
        await asyncio.gather(self.stored.close(), return_exceptions=True)
        self.signing.close()
