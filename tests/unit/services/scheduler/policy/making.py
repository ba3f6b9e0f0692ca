"""What the tests of the policy make alike."""

from typing import Any

from shared.records.delivery import Delivery


def delivery(id_: str, now_ns: int, life_ns: int, **more: Any) -> Delivery:
    """Make the record of one recipient at a large provider, accepted at ``now_ns``; ``more`` takes the place of what is said here."""
    said: dict[str, Any] = {
        "id": id_,
        "submission": f"s-{id_}",
        "tenant": "acme",
        "class_": "bulk",
        "from_": "b@acme.example",
        "return_path": "b@acme.example",
        "to": f"{id_}@x.example",
        "domain": "x.example",
        "provider": "big",
        "site": "mx.big.example",
        "pool": "main",
        "map": 1,
        "accepted_ns": now_ns,
        "not_before_ns": now_ns,
        "expires_ns": now_ns + life_ns,
        "size_bytes": 1000,
        "header_domain": "acme.example",
    }
    return Delivery(**said | more)
