"""Signals that end a run in good order."""

from __future__ import annotations

import signal

ENDING: frozenset[signal.Signals] = frozenset(
    each for each in signal.Signals if each.name in ("SIGINT", "SIGTERM", "SIGHUP")
)
"""Ctrl-C, what systems and schedulers send, and a terminal or a connection that has gone."""


def heard() -> frozenset[signal.Signals]:
    """Those that this process is not told to ignore, as `nohup` tells it."""
    ignored = {each for each in ENDING if signal.getsignal(each) == signal.SIG_IGN}
    return ENDING - (ignored - {signal.SIGINT, signal.SIGTERM})
