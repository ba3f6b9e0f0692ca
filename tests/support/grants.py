"""A grant as the scheduler writes it; a test names what matters to it."""

from typing import Any

from shared.records.grant import Grant


def grant(**more: Any) -> Grant:
    """Permit the first attempt of one delivery; ``more`` takes the place of what is said here."""
    said: dict[str, Any] = {
        "id": "d1",
        "n": 1,
        "slot": 0,
        "epoch": 1,
        "part": 0,
        "t0_ns": 0,
        "t1_ns": 1,
        "tenant": "acme",
        "class_": "bulk",
        "from_": "b@acme.example",
        "to": "u@x.example",
        "domain": "x.example",
        "site": "mx.x.example",
        "limit_key": "big",
        "size_bytes": 1,
        "header_domain": "acme.example",
    }
    return Grant(**said | more)
