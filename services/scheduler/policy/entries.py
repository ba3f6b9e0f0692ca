"""A delivery's record becomes the scheduler's memory of it, and that becomes a grant: pure, field by field."""

from functools import lru_cache
from sys import intern
from typing import Final

from services.scheduler.policy.lines import Line
from services.scheduler.policy.pairlimit import PairLimit
from shared.records.delivery import Delivery
from shared.records.grant import Grant
from shared.records.state import DeliveryState, Open
from shared.records.tlslevel import TlsLevel

#: So many lines are one object each; a platform has fewer sending domains than that.
_LINES: Final = 65_536


def granted(
    entry: DeliveryState,
    grant: Open,
    limit_key: str,
    limit: PairLimit,
    heard_ns: int,
    tls: TlsLevel,
    partition: int,
) -> Grant:
    """Write the permission for one attempt; the shell adds what only the delivery's record knows."""
    return Grant(
        entry.id,
        grant.n,
        grant.slot,
        grant.epoch,
        partition,
        grant.t0_ns,
        grant.t1_ns,
        entry.tenant,
        entry.class_,
        entry.from_,
        entry.to,
        entry.domain,
        entry.site or limit_key,
        limit_key,
        entry.size_bytes,
        "",  # The From domain is the record's to say.
        entry.provider,
        entry.expires_ns,
        limit.spacing_ns,
        limit.burst,
        limit.connections,
        limit.messages_per_connection,
        limit.connect_spacing_ns,
        limit.connect_burst,
        heard_ns,
        tls,
    )


def line_of(entry: DeliveryState) -> Line:
    """Name the line that a delivery waits in."""
    # The domain is a new string each time, where the address says it: it is made one with others where the line is.
    domain = entry.header_domain or entry.from_.rpartition("@")[2]
    return _line(entry.class_, entry.tenant, entry.stream, domain)


@lru_cache(maxsize=_LINES)
def _line(class_: str, tenant: str, stream: str, domain: str) -> Line:
    # One object for all that wait in it, wherever that is: of ten thousand small sites each has a queue of its own.
    return Line(class_, tenant, stream, intern(domain))


def sending_domain(entry: DeliveryState) -> str:
    """Name the domain that a delivery is signed and judged by."""
    return intern(entry.header_domain or domain_of(entry.from_))


def domain_of(address: str) -> str:
    """Give the domain of an address."""
    return address.rpartition("@")[2]


def _said(domain: str, from_: str) -> str:
    """Keep a domain only where the address does not say it."""
    return "" if domain == domain_of(from_) else domain


def waiting(record: Delivery, class_: str, offset: int) -> DeliveryState:
    """Remember a delivery whose record lies at ``offset``; names that many have are one object, since queues keep them as well."""
    state = DeliveryState(
        record.id,
        record.submission,
        intern(record.tenant),
        intern(class_),
        record.return_path,
        record.to,
        record.domain,
        intern(record.pool),
        record.accepted_ns,
        record.not_before_ns,
        record.expires_ns,
        record.size_bytes + len(record.prepend),
        offset,
        max(record.not_before_ns, 0),
        provider=None if record.provider is None else intern(record.provider),
        site=None if record.site is None else intern(record.site),
        header_domain=_said(record.header_domain, record.return_path),
        stream=intern(record.stream),
        tags=record.tags,
    )
    if record.hop or record.n:
        # It was elsewhere before.
        state.n, state.steps, state.unknowns = record.n, record.steps, record.unknowns
        state.refusals, state.pinned, state.held = record.refusals, record.pinned, record.held
        state.ordered, state.back_ns, state.hop = record.ordered, record.back_ns, record.hop
        state.not_before_ns = record.first_ns or record.not_before_ns
    return state


def share_names(entry: DeliveryState) -> None:
    """Let names that many have be one object, in a delivery that was restored."""
    entry.tenant, entry.class_ = intern(entry.tenant), intern(entry.class_)
    entry.pool, entry.stream = intern(entry.pool), intern(entry.stream)
    if entry.provider is not None:
        entry.provider = intern(entry.provider)
    if entry.site is not None:
        entry.site = intern(entry.site)
