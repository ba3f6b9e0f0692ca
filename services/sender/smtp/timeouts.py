"""How long to wait, at each stage: for a peer RFC 5321 4.5.3.2 says it."""

from dataclasses import dataclass
from typing import Final

from services.sender.smtp.session import Stage

_S: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long to wait for the peer, ns: RFC 5321 4.5.3.2, where shorter ones turn slow hosts into lost ones."""

    connect_ns: int = 30 * _S
    banner_ns: int = 300 * _S
    ehlo_ns: int = 300 * _S
    starttls_ns: int = 120 * _S
    auth_ns: int = 120 * _S
    mail_ns: int = 300 * _S
    rcpt_ns: int = 300 * _S
    data_ns: int = 120 * _S
    block_ns: int = 180 * _S
    #: RFC 5321 4.5.3.2.6: ten minutes for the final dot; less invites duplicates.
    dot_ns: int = 600 * _S
    #: Not the peer's: when whoever must allow the dot is asked again. The attempt's gate says no from half a minute on.
    gate_ns: int = 31 * _S

    def of(self, stage: Stage) -> int:
        """Give the time to wait for a reply at ``stage``."""
        match stage:
            case "dot":
                return self.dot_ns
            case "rcpt":
                return self.rcpt_ns
            case "data":
                return self.data_ns
            case "body":
                return self.block_ns
            case _:
                return self.mail_ns
