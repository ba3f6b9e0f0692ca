"""The messages of the benchmarks: text of ordinary words, so that compression and canonicalisation have ordinary work."""

import random
from typing import Final

_SYLLABLES: Final = tuple("ka lo mi ne ru ta shi po va den el im or us qua ber gen hal".split())  # noqa: SIM905


def message(size: int, to: str = "someone@bench.test") -> bytes:
    """A message of about `size` bytes, CRLF line ends."""
    rng = random.Random(size)
    head = (
        f"From: Acme News <news@acme.example>\r\nTo: {to}\r\nSubject: What is new this week at Acme\r\n"
        "Date: Tue, 24 Nov 2026 12:00:00 +0000\r\nMessage-ID: <bench.1@acme.example>\r\nMIME-Version: 1.0\r\n"
        "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 7bit\r\n"
        "List-Unsubscribe: <https://acme.example/u/0123456789abcdef>\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n\r\n"
    )
    lines, length = [head], len(head)
    while length < size:
        words = ("".join(rng.choices(_SYLLABLES, k=rng.randint(1, 4))) for _ in range(9))
        line = " ".join(words)[: max(1, min(76, size - length - 2))] + "\r\n"
        # Some lines are indented, as in lists and quoted text.
        line = "  " + line[2:] if rng.random() < 0.2 else line
        lines.append(line)
        length += len(line)
    return "".join(lines).encode()
