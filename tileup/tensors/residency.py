"""Weights that come to where they are used for as long as their layer runs."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

FLOAT8 = (torch.float8_e4m3fn, torch.float8_e5m2)
"""Only stored, never computed in."""


@dataclass(slots=True)
class Residency:
    """Hooks of one layer: its weights are brought before it runs, and let go afterwards.

    What is let go is the copy; the weights as they are stored stay where they are. So weights of 8
    bits keep their size, and a network larger than the device's memory runs on it.
    """

    device: str
    dtype: torch.dtype
    """Of the computation."""
    stored: list[tuple[nn.Parameter, Tensor]] = field(
        default_factory=list[tuple[nn.Parameter, Tensor]]
    )

    def before(self, layer: nn.Module, args: object) -> None:
        for parameter in layer.parameters(recurse=False):
            self.stored.append((parameter, parameter.data))
            parameter.data = parameter.data.to(
                self.device, self.dtype if parameter.dtype in FLOAT8 else parameter.dtype
            )

    def after(self, layer: nn.Module, args: object, output: object) -> None:
        for parameter, data in self.stored:
            parameter.data = data
        self.stored.clear()


def bring_when_used(
    network: nn.Module, *, device: str, dtype: torch.dtype, only_float8: bool = False
) -> int:
    """Hook the layers of a network.

    Args:
        network: its layers hold parameters themselves, and read them only while they run.
        device: where the layers run.
        dtype: what weights of 8 bits are cast to.
        only_float8: leave layers alone that have none of these.

    Returns:
        How many layers were hooked.
    """
    count = 0
    for layer in network.modules():
        own = list(layer.parameters(recurse=False))
        if not own or (only_float8 and not any(each.dtype in FLOAT8 for each in own)):
            continue
        hooks = Residency(device, dtype)
        layer.register_forward_pre_hook(hooks.before)
        layer.register_forward_hook(hooks.after, always_call=True)
        count += 1
    return count
