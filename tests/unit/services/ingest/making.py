"""Settings and messages for ingest's unit tests."""

from pathlib import Path

from services.ingest.normalise import Normalised, Stamp, normalise
from services.ingest.problem import Problem
from shared.runtime.defaults import CLASSES
from shared.runtime.settings import DkimKey, Settings, Tenant
from shared.runtime.workings import Ingest

NOW = 1_795_532_400 * 1_000_000_000
DOMAINS = ("acme.example", "xn--bcher-kva.example")
KEYS = tuple(DkimKey(domain, "s1", Path("key.pem")) for domain in DOMAINS)


def settings(*, unsigned: bool = False, bounds: Ingest | None = None) -> Settings:
    pools = {"transactional": "tx", "bulk": "main"}
    tenant = Tenant("acme", DOMAINS, pools, () if unsigned else KEYS, unsigned)
    quiet = Tenant("quiet", ("quiet.example",), {"bulk": "main"})
    return Settings(
        tenants={"acme": tenant, "quiet": quiet}, classes=CLASSES, ingest=bounds or Ingest()
    )


def stamp(*, message_id: bool = True, later_ns: int = 0) -> Stamp:
    return Stamp(date_ns=NOW + later_ns, now_ns=NOW, token="token", message_id=message_id)


def normal(
    raw: bytes, *, message_id: bool = True, max_bytes: int = 25 << 20, later_ns: int = 0
) -> Normalised | Problem:
    return normalise(
        raw,
        domains=DOMAINS,
        max_bytes=max_bytes,
        stamp=stamp(message_id=message_id, later_ns=later_ns),
    )


def good(raw: bytes, *, message_id: bool = True, later_ns: int = 0) -> Normalised:
    found = normal(raw, message_id=message_id, later_ns=later_ns)
    assert isinstance(found, Normalised), found
    return found


def bad(raw: bytes, *, max_bytes: int = 25 << 20) -> Problem:
    found = normal(raw, max_bytes=max_bytes)
    assert isinstance(found, Problem), found
    return found
