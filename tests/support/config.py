"""Configurations for tests: what an operator would write, with short times where a test cannot wait."""

import json
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypedDict

QUICK_TIMING = """
[timing]
lease = "6s"
skew = "1s"
fresh = "2s"
wait = "3s"
silence = "3s"
heartbeat = "500ms"
mark = "500ms"
attempt_max = "15s"
total_window = "3s"
pair_pause_first = "2s"
pair_pause_max = "10s"
greylist_min = "2s"

[backoff]
hold = "2s"
hold_max = "8s"
floor = "1/s"
step = "1s"
memory = "5s"
suspend_first = "2s"
suspend_max = "10s"
"""


class Wishes(TypedDict, total=False):
    """What a test may want otherwise than ``config`` has it."""

    sources: Sequence[str]
    partitions: int
    retry: str
    unknown: str
    limits: str
    timing: str
    more: str


def make_key(path: Path) -> Path:
    """Make an RSA-2048 key with OpenSSL."""
    subprocess.run(
        ["openssl", "genrsa", "-out", str(path), "2048"], check=True, capture_output=True
    )
    return path


def config(
    directory: Path,
    kafka: str,
    prefix: str,
    *,
    routes: Mapping[str, tuple[str, str]],
    sources: Sequence[str] = ("127.0.0.11", "127.0.0.12"),
    partitions: int = 2,
    retry: str = '["1s", "2s"]',
    unknown: str = 'retry = "always", delay = "1s"',
    limits: str = "",
    timing: str = QUICK_TIMING,
    more: str = "",
) -> str:
    """Write a configuration: one tenant, one pool of bound sources; ``routes``: pattern -> (host:port, provider)."""
    directory.mkdir(parents=True, exist_ok=True)
    key = directory / "dkim.pem"
    if not key.exists():
        make_key(key)
    parts = [
        f'[kafka]\nbootstrap = "{kafka}"\nprefix = "{prefix}"\npartitions = {partitions}\nslots = {max(4, len(sources))}'
    ]
    for at, address in enumerate(sources):
        parts.append(
            f'[sources.ip-{at + 1}]\nslot = {at}\nkind = "bind"\naddress = "{address}"\nehlo = "m{at + 1}.example.com"\nwarmup = "none"'
        )
    weights = ", ".join(f"ip-{at + 1} = 1" for at in range(len(sources)))
    parts.append(f"[pools.main]\nsources = {{ {weights} }}")
    parts.append(
        '[tenants.acme]\ndomains = ["acme.example"]\npools = { transactional = "main", bulk = "main" }\n'
        'dkim = [{ domain = "acme.example", selector = "s1", key_file = "dkim.pem" }]'
    )
    parts += [
        f"[classes.{class_}]\nretry = {retry}\nunknown = {{ {unknown} }}"
        for class_ in ("transactional", "bulk")
    ]
    providers = sorted({provider for _, provider in routes.values()})
    parts += [f'[providers.{name}]\nmx = [".{name}.invalid"]' for name in providers]
    lines = [
        f'"{pattern}" = {{ to = "{to}", provider = "{provider}" }}'
        for pattern, (to, provider) in routes.items()
    ]
    parts.append("[routes]\n" + "\n".join(lines))
    parts.append('[net]\nallow = ["127.0.0.0/8"]')
    parts.append('[http]\nhost = "127.0.0.1"')
    return "\n\n".join([*parts, limits, timing, more])


def submission(
    to: str | Sequence[str], *, text: str = "hello", id_: str | None = None, more: str = ""
) -> bytes:
    """Make one submission as a platform would: a line of JSON, then the message."""
    recipients = [to] if isinstance(to, str) else list(to)
    line = {"v": 1, "tenant": "acme", "from": "bounce@acme.example", "to": recipients} | (
        {"id": id_} if id_ else {}
    )
    head = f"From: Acme <news@acme.example>\r\nTo: <{recipients[0]}>\r\nSubject: Test\r\n{more}\r\n"
    return json.dumps(line).encode() + b"\n" + head.encode() + text.encode() + b"\r\n"


def published(directory: Path) -> Callable[..., bytes]:
    """Answer for the name server that publishes the test tenant's key."""
    pem = subprocess.run(
        ["openssl", "rsa", "-in", str(directory / "dkim.pem"), "-pubout"],
        check=True,
        capture_output=True,
    ).stdout
    record = b"v=DKIM1; k=rsa; p=" + b"".join(pem.splitlines()[1:-1])
    return lambda name, timeout=5: record if name.startswith(b"s1._domainkey.acme.example") else b""
