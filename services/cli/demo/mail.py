"""The mail of the demonstration: who it goes to, and what must become of it. Pure.

The receiving servers decide by the recipient's local part (see ``receiver``), so the end of every message is known before it is sent.
"""

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

TENANTS: Final = ("acme", "globex")
#: Every twentieth message to the strict provider is for nobody, and so on; the rest is delivered.
_FATES: Final = {3: "unknown", 7: "refuse", 11: "defer1", 13: "defer1", 17: "full"}
_ENDS: Final = {"unknown": "bounced", "refuse": "bounced", "full": "expired"}
#: A mailbox that is full stays full: its mail expires after this.
_EXPIRES: Final = "25s"


@dataclass(frozen=True, slots=True)
class Mail:
    """One message of the demonstration."""

    number: int
    class_: str
    tenant: str
    recipient: str
    #: The final event that it must end with.
    end: str

    @property
    def id(self) -> str:
        """Give the submission's id."""
        return f"demo-{self.number}"

    def value(self) -> bytes:
        """Give the record's value as docs/records.md has it: as fields, or as a line and the message's own bytes."""
        line = {
            "v": 1,
            "id": self.id,
            "tenant": self.tenant,
            "from": f"bounces@{self.tenant}.example",
            "to": [self.recipient],
            "stream": "demo",
            "tags": [f"run-{self.number % 3}"],
        }
        if self.end == "expired":
            line["expires"] = _EXPIRES
        if self.number % 2:
            return json.dumps(line | {"message": self._fields()}).encode()
        return json.dumps(line).encode() + b"\n" + self._bytes()

    def _fields(self) -> dict[str, object]:
        note = base64.b64encode(f"note {self.number}\n".encode()).decode()
        return {
            "from": f"{self.tenant.title()} <hello@{self.tenant}.example>",
            "to": [self.recipient],
            "subject": f"Message {self.number}: Grüße aus der Vorführung",
            "text": f"Hello,\n\nthis is message {self.number} of the demonstration.\n",
            "html": f"<p>Hello,</p><p>this is message <b>{self.number}</b> of the demonstration.</p>",
            "attachments": [
                {"filename": "note.txt", "content_type": "text/plain", "content": note}
            ],
        }

    def _bytes(self) -> bytes:
        lines = (
            f"From: {self.tenant.title()} <hello@{self.tenant}.example>",
            f"To: <{self.recipient}>",
            f"Subject: Message {self.number}",
            "MIME-Version: 1.0",
            "Content-Type: text/plain; charset=us-ascii",
            "",
            f"Hello, this is message {self.number} of the demonstration.",
            *(
                "Line after line of an ordinary newsletter, as long as such lines are."
                for _ in range(20)
            ),
            "",
        )
        return "\r\n".join(lines).encode()


def mails(count: int) -> Iterator[Mail]:
    """Give ``count`` messages: two tenants, both classes, half to each provider."""
    for number in range(count):
        strict = number % 2 == 1
        fate = _FATES.get(number // 2 % 20) if strict else None
        provider = "strictmail" if strict else "goodmail"
        local = f"{fate}.user{number}" if fate else f"user{number}"
        yield Mail(
            number=number,
            class_="transactional" if number % 5 == 0 else "bulk",
            tenant=TENANTS[number // 3 % 2],
            recipient=f"{local}@d{number % 7}.{provider}.test",
            end=_ENDS.get(fate or "", "delivered"),
        )
