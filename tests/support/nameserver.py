"""A name server of the test's own, on loopback over UDP: it says what it was told to, and counts what it was asked."""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, Self

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset

#: What a name may do instead of having records: the server fails, says nothing, sends rubbish, or knows the name without any record.
Manner = Literal["servfail", "mute", "rubbish", "empty"]
_CNAMES: Final = 40


@dataclass(slots=True)
class Nameserver:
    """``async with Nameserver({"example.test": {"MX": ["10 mx.example.test."]}}) as server: … server.port``.

    A name that is not in ``zone`` is an NXDOMAIN. A CNAME is followed within the zone, as a resolver would do, for so long as it leads
    somewhere new.
    """

    zone: Mapping[str, Mapping[str, Sequence[str]] | Manner]
    ttl: int = 300
    #: How long the SOA of negative answers lets them be kept.
    negative_ttl: int = 300
    delay_s: float = 0.0
    #: Nothing gets through: it hears, and says nothing to anybody.
    away: bool = False
    asked: Counter[tuple[str, str]] = field(default_factory=Counter)
    port: int = 0
    _transport: asyncio.DatagramTransport | None = None
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(
            lambda: _Listener(self), local_addr=("127.0.0.1", 0)
        )
        self.port = self._transport.get_extra_info("sockname")[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        assert self._transport is not None
        self._transport.close()

    def heard(self, data: bytes, peer: tuple[str, int]) -> None:
        """Answer one datagram."""
        query = dns.message.from_wire(data)
        question = query.question[0]
        name = question.name.to_text(omit_final_dot=True).lower()
        self.asked[name, dns.rdatatype.to_text(question.rdtype)] += 1
        manner = self.zone.get(name)
        if manner == "mute" or self.away:
            return
        answer = b"\0\1rubbish" if manner == "rubbish" else self._answer(query, name)
        task = asyncio.create_task(self._send(answer, peer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _send(self, answer: bytes, peer: tuple[str, int]) -> None:
        await asyncio.sleep(self.delay_s)
        assert self._transport is not None
        self._transport.sendto(answer, peer)

    def _answer(self, query: dns.message.Message, name: str) -> bytes:
        answer = dns.message.make_response(query, recursion_available=True)
        if self.zone.get(name) == "servfail":
            answer.set_rcode(dns.rcode.SERVFAIL)
            return answer.to_wire()
        kind = dns.rdatatype.to_text(query.question[0].rdtype)
        if not self._add(answer, name, kind):
            answer.authority.append(
                dns.rrset.from_text(
                    ".", self.ttl, "IN", "SOA", f"ns. admin. 1 1 1 1 {self.negative_ttl}"
                )
            )
        return answer.to_wire(max_size=65535)

    def _add(self, answer: dns.message.Message, name: str, kind: str) -> bool:
        """Add the records of ``name``, over CNAMEs; False where the chain ends without any."""
        for _ in range(_CNAMES):
            records = self.zone.get(name)
            if records is None:
                answer.set_rcode(dns.rcode.NXDOMAIN)
                return False
            if isinstance(records, str):
                return False
            found = kind if kind in records else "CNAME"
            if found not in records:
                return False
            answer.answer.append(
                dns.rrset.from_text_list(f"{name}.", self.ttl, "IN", found, records[found])
            )
            if found == kind:
                return True
            name = records["CNAME"][0].rstrip(".")
            if any(each.name == dns.name.from_text(f"{name}.") for each in answer.answer):
                return False
        return False


class _Listener(asyncio.DatagramProtocol):
    def __init__(self, server: Nameserver) -> None:
        self._server = server

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._server.heard(data, addr)
