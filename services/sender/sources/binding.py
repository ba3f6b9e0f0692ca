"""Whether this machine has a source's address: found out by binding it, which is what will be done with it."""

import socket


def can_bind(address: str) -> str | None:
    """Say why ``address`` cannot be bound here; None: it can."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.bind((address, 0))
    except OSError as error:
        return f"{address}: {error.strerror}"
    return None
