"""What a platform produces in the benchmark: one message for each of many recipients."""

from collections.abc import Iterator
from typing import Final

import msgspec

SENDER: Final = "bounce@acme.example"
DOMAIN: Final = "acme.example"
SELECTOR: Final = "s1"
#: Mail to here goes to the sink that keeps it.
CHECKED: Final = "reader@check.test"


def submissions(count: int, mail: bytes, name: str) -> Iterator[tuple[str, bytes]]:
    """Give (recipient, record) of as many submissions; ``name`` tells them from those of another run."""
    for at in range(count):
        to = f"{name}-{at}@bench.test"
        yield to, submission(to, mail)


def submission(to: str, mail: bytes) -> bytes:
    """Give one record."""
    line = {"v": 1, "tenant": "acme", "from": SENDER, "to": [to]}
    return msgspec.json.encode(line) + b"\n" + mail
