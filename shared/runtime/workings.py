"""How the processes work, as an operator wrote it: Kafka, the protocol's times, names, networks, bounds, logs.

Each class is a section of the configuration (or a table in one), which ``shared.runtime.machinery`` reads; ``Settings`` holds them all.
Times are nanoseconds, sizes bytes.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

_S: Final = 1_000_000_000
_MIN: Final = 60 * _S
_H: Final = 60 * _MIN
_D: Final = 24 * _H


@dataclass(frozen=True, slots=True)
class KafkaTls:
    """Whom to believe that they are a broker (None: the machine's authorities), and what shows the brokers who we are."""

    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None


@dataclass(frozen=True, slots=True)
class KafkaSasl:
    """Who logs in to Kafka, and how."""

    mechanism: Literal["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"] = "SCRAM-SHA-512"
    username: str = ""
    password_file: Path = Path()


@dataclass(frozen=True, slots=True)
class Kafka:
    """The cluster, and what of the topics an operator chooses."""

    bootstrap: str = "127.0.0.1:9092"
    prefix: str = ""
    partitions: int = 8
    slots: int = 16
    replication: int = 1
    min_insync: int = 1
    #: None: in the clear.
    tls: KafkaTls | None = None
    #: None: nobody logs in.
    sasl: KafkaSasl | None = None


@dataclass(frozen=True, slots=True)
class Timing:
    """The protocol's times (DESIGN 4), and those of pauses."""

    lease_ns: int = 60 * _S
    skew_ns: int = 2 * _S
    fresh_ns: int = 5 * _S
    wait_ns: int = 7 * _S
    silence_ns: int = 10 * _S
    heartbeat_ns: int = 1 * _S
    mark_ns: int = 1 * _S
    attempt_max_ns: int = 20 * _MIN
    #: How long after t0 a grant under a total_rate may start.
    total_window_ns: int = 5 * _S
    pair_pause_first_ns: int = 1 * _MIN
    pair_pause_max_ns: int = 30 * _MIN
    greylist_min_ns: int = 5 * _MIN


@dataclass(frozen=True, slots=True)
class Dns:
    """Who is asked for names; empty: what the machine is set to."""

    nameservers: tuple[str, ...] = ()
    port: int = 53
    timeout_ns: int = 10 * _S


@dataclass(frozen=True, slots=True)
class Net:
    """Where mail may go although it is private, and where never."""

    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Http:
    """Where /metrics, /healthz and /readyz answer; port 0: any free one."""

    host: str = "0.0.0.0"  # noqa: S104 - a pod's probes come from outside of it
    port: int = 9464


@dataclass(frozen=True, slots=True)
class Ingest:
    """Bounds of what is accepted."""

    inline_max: int = 256 << 10
    max_message: int = 25 << 20
    max_lifetime_ns: int = 7 * _D
    max_recipients: int = 1000


@dataclass(frozen=True, slots=True)
class Scheduler:
    """Bounds of the scheduler's memory, for each partition."""

    max_waiting: int = 250_000
    body_cache_bytes: int = 64 << 20
    #: A delivery that holds more of the log than this is appended anew, where little of that stretch still waits.
    straggler_span: int = 50_000
    #: The share of grants that bulk has while transactional mail waits for the same limits.
    bulk_share: float = 0.05
    #: Over how long what was held back may be released.
    release_ns: int = 60 * _S


@dataclass(frozen=True, slots=True)
class Echo:
    """Who tells a caller the address that it is seen with: in the banner (smtp) or in the body of a page (http, https)."""

    scheme: Literal["smtp", "http", "https"]
    host: str
    port: int
    path: str = "/"


@dataclass(frozen=True, slots=True)
class Sender:
    """How a sender works."""

    #: Threads that sign.
    signers: int = 2
    body_cache_bytes: int = 128 << 20
    #: A connection without mail is kept so long.
    idle_ns: int = 10 * _S
    #: How long to wait for the peer at each stage: RFC 5321 4.5.3.2, where it names one.
    connect_timeout_ns: int = 30 * _S
    banner_timeout_ns: int = 5 * _MIN
    ehlo_timeout_ns: int = 5 * _MIN
    starttls_timeout_ns: int = 2 * _MIN
    auth_timeout_ns: int = 2 * _MIN
    mail_timeout_ns: int = 5 * _MIN
    rcpt_timeout_ns: int = 5 * _MIN
    data_timeout_ns: int = 2 * _MIN
    #: For each block of the message.
    block_timeout_ns: int = 3 * _MIN
    #: RFC 5321 4.5.3.2.6: ten minutes for the final dot; less invites duplicates.
    dot_timeout_ns: int = 10 * _MIN
    #: After SIGTERM.
    grace_ns: int = 11 * _MIN
    #: Where a source's address is observed; None: nowhere.
    echo: Echo | None = None
    echo_every_ns: int = 1 * _H
    #: Which of the senders this is, for direct sources; None: none that has a number.
    ordinal: int | None = None


@dataclass(frozen=True, slots=True)
class Following:
    """Where services take the configuration from that they can take over while running: their files, or mail.control."""

    follow: Literal["files", "control"] = "files"


@dataclass(frozen=True, slots=True)
class Log:
    """What is logged."""

    level: str = "info"
    recipients: bool = False
