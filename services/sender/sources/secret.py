"""A password, read out of its file as often as it is needed: one that was changed holds from the next login on."""

import asyncio
from pathlib import Path


async def secret(file: Path) -> str:
    """Read it; raises OSError, and ValueError where it is no text."""
    # In a thread: where secrets are mounted, reading one may take its time.
    return (await asyncio.to_thread(file.read_text)).strip()
