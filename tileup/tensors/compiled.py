"""Networks that torch compiles: `--compile`."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

log = logging.getLogger(__name__)


@dataclass(slots=True)
class CompiledForward:
    """What a network computes, compiled when it is first asked for; as it is where that fails."""

    plain: Callable[..., Any]
    """The network's own."""
    name: str
    """What messages call the network."""
    compiled: Callable[..., Any] | None
    """None: it cannot be compiled."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        """The same as the plain one gives, to rounding."""
        if self.compiled is None:
            return self.plain(*args, **kwargs)
        try:
            return self.compiled(*args, **kwargs)
        except Exception as error:  # noqa: BLE001  A compiler fails in any way; see below.
            problem = error
        # Outside the handler: the error holds on to memory. What is no fault of the compiler's,
        # such as memory that does not suffice, goes wrong here too, and is told as without it.
        result = self.plain(*args, **kwargs)
        self.compiled = None
        _cannot(self.name, problem)
        return result


def compile_network(network: nn.Module, name: str) -> None:
    """Have a network compiled, in place, when it is first called.

    One piece of code serves all calls of one shape; where numbers of windows differ, one more
    serves all of these. Where compiling is impossible a warning says so, and the network computes
    as without it.

    Args:
        network: without gradients; its layers change no more.
        name: what messages call it.
    """
    plain, compiled = network.forward, None
    try:
        compiled = torch.compile(plain)
    except RuntimeError as error:  # this Python, or this system
        _cannot(name, error)
    network.forward = CompiledForward(plain, name, compiled)


def _cannot(name: str, error: Exception) -> None:
    reason = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    log.warning(
        "%s cannot be compiled here, so it computes as without --compile (%s: %s)",
        name,
        type(error).__name__,
        reason[:200],
    )
    log.debug("compiling failed", exc_info=error)
