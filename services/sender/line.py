"""One slot's grants on their way to the wire: queues by (limit key, site), and one task for each connection.

    dispatch -> offer -> sign (batches, in threads) -> queue -> a connection's task: connect -> turn of the pair -> `started` -> MAIL ... dot -> outcome

A connection's task takes a grant only when it is connected, so `started` is never written for mail that waits for a connection. The turn
of a pair is its ``WireLimiter``: starts are spaced by the sender's own clock and a stall is never caught up. A pair has at most
``connections`` tasks; one that finds nothing for a while ends with QUIT.

Whose fault is the first question. A connection that fails, or a peer that refuses before RCPT, is the pair's: that grant ends as
``pair_failed`` and what waits behind it is handed back, so that it uses no attempt. Lost before the dot is a deferral, after it ``unknown``.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from structlog.typing import FilteringBoundLogger

from shared.protocol.spacing import WireLimiter
