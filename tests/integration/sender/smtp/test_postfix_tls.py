"""A server that is not ours, Postfix with the tickets of its tlsmgr, resumes what it gave."""

import os
import shutil
from collections.abc import Iterator

import pytest

from services.sender.smtp.connect import Endpoint, Origin, connect
from services.sender.smtp.timeouts import Timeouts
from services.sender.sources.paths import Bound
from services.sender.tlspolicy import TlsPolicy
from shared.records.tlslevel import TlsLevel
from shared.runtime.clock import SystemClock
from shared.runtime.settings import Source
from tests.support.postfix import ReceivingPostfix
from tests.support.sending import hung_up

pytestmark = pytest.mark.skipif(
    shutil.which("postfix") is None or os.geteuid() != 0,
    reason="needs Postfix (Debian: postfix), and root to start it",
)


@pytest.fixture(scope="module")
def postfix(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReceivingPostfix]:
    with ReceivingPostfix(tmp_path_factory.mktemp("postfix"), "a.test", ["ann"]) as running:
        yield running


async def resumed(
    policy: TlsPolicy, postfix: ReceivingPostfix, address: str, level: TlsLevel
) -> bool:
    """Connect from ``address`` as its source does, and tell whether TLS was resumed."""
    clock, source = SystemClock(), Source(f"at-{address}", 0, "bind", "none", address=address)
    endpoint = Endpoint("mx.a.test", "127.0.0.1", postfix.port)
    connection = await connect(
        endpoint,
        Origin("m1.example.com", Bound(address).open),
        policy.first(endpoint, level, source, clock.now_ns()),
        timeouts=Timeouts(),
        clock=clock,
    )
    await hung_up(connection)
    assert connection.peer.tls == "TLSv1.3"
    return connection.peer.resumed


async def test_postfix_resumes_for_the_source_and_the_level_that_it_gave_a_ticket_to(
    postfix: ReceivingPostfix,
) -> None:
    policy = TlsPolicy()
    ours: list[tuple[str, TlsLevel]] = [
        ("127.0.0.31", "encrypted"),
        ("127.0.0.31", "opportunistic"),
        ("127.0.0.32", "encrypted"),
    ]
    rounds = [[await resumed(policy, postfix, *way) for way in ours] for _ in range(3)]
    assert rounds == [[False] * 3, [True] * 3, [True] * 3]
