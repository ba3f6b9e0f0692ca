"""Whether an address is one of this machine's: the kernel is asked, since no list of interfaces stays true."""

import socket


def has(address: str) -> bool:
    """Say whether mail to ``address`` would come back to this machine; nothing is sent to find out."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as asking:
        try:
            # To itself the kernel speaks from the same address; the port only has to be one.
            asking.connect((address, 9))
        except OSError:
            return False
        return str(asking.getsockname()[0]) == address
