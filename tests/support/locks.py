"""What the lock files say."""

import re

from tests.support.nursery import ROOT


def pins(name: str) -> dict[str, str]:
    """Give package -> version."""
    return dict(re.findall(r"^([a-z0-9-]+)==(\S+)", (ROOT / name).read_text(), re.MULTILINE))
