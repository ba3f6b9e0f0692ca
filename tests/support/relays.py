"""Values of the chart for a pool of smart hosts: floating sources, which any sender can serve, each with a tenant of its own."""

import json
from collections.abc import Iterable
from typing import Any, Final

from tests.support.config import QUICK_TIMING, submission

PARTITIONS: Final = 2
SENDERS: Final = "postyard-sender-relay"


def values(kafka: str, prefix: str, target: str, *, relays: int = 4, more: str = "", **chart: Any) -> str:  # fmt: skip
    """Give them as JSON; ``more``: of the configuration, ``chart``: further values, in place of those here."""
    host, _, port = target.rpartition(":")
    mail = [QUICK_TIMING, '[net]\nallow = ["127.0.0.0/8"]', more]
    for at in range(relays):
        mail += [
            f'[sources.relay-{at}]\nslot = {at}\nkind = "smarthost"\nhost = "{host}"\nport = {port}',
            'tls = "opportunistic"\nwarmup = "none"',
            f"[pools.p{at}]\nsources = {{ relay-{at} = 1 }}",
            f'[tenants.t{at}]\ndomains = ["acme.example"]\npools = {{ transactional = "p{at}", bulk = "p{at}" }}\nunsigned = true',
        ]
    cut = {"partitions": PARTITIONS, "slots": relays, "replication": 1, "minInsync": 1}
    whole: dict[str, Any] = {
        "kafka": {"bootstrap": kafka, "prefix": prefix} | cut,
        "config": {"files": {"mail.toml": "\n".join(mail)}},
        "senderPools": {"relay": {"egress": "smarthost"}},
    }
    return json.dumps(whole | chart)


def submissions(numbers: Iterable[int], *, relays: int = 4) -> list[bytes]:
    """Give one message for each number, of the tenants in turn, each to a mailbox of its own."""
    return [
        submission(f"u{number}@a.test", id_=str(number)).replace(
            b'"tenant": "acme"', b'"tenant": "t%d"' % (number % relays), 1
        )
        for number in numbers
    ]
