"""How actors of Ray end, from what Ray says of it."""

from __future__ import annotations

WITH_ITS_NODE = "lost with its node"
FOR_WANT_OF_MEMORY = "ended by Ray for want of memory on its node"


def how_it_went(told: str) -> str:
    """How an actor ended, in words that fit behind "its worker was", from what Ray says."""
    text = " ".join(told.split()).lower()
    if "running low on memory" in text or "memory pressure" in text:
        return FOR_WANT_OF_MEMORY
    if "node has died" in text or "node was terminated" in text or "node died" in text:
        return WITH_ITS_NODE
    return "killed"
