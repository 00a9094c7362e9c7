"""Weights that come to where they are used for as long as their layer runs."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import nn


@dataclass(slots=True)
class Residency:
    """Hooks of one layer: its weights are brought before it runs, and let go afterwards.

    What is let go is the copy; the weights as they are stored stay where they are. So a network
    larger than the device's memory runs on it.
    """

    device: str
    stored: dict[str, nn.Parameter] = field(default_factory=dict[str, nn.Parameter])

    def before(self, layer: nn.Module, args: object) -> None:
        self.stored |= dict(layer.named_parameters(recurse=False))
        for name, each in self.stored.items():
            brought = each.detach().to(self.device)
            setattr(layer, name, nn.Parameter(brought, requires_grad=False))

    def after(self, layer: nn.Module, args: object, output: object) -> None:
        for name, each in self.stored.items():
            setattr(layer, name, each)
        self.stored.clear()


def bring_when_used(network: nn.Module, *, device: str) -> int:
    """Hook the layers of a network.

    Args:
        network: its layers hold parameters themselves, and read them only while they run.
        device: where the layers run.

    Returns:
        How many layers were hooked.
    """
    count = 0
    for layer in network.modules():
        if any(True for _ in layer.parameters(recurse=False)):
            hooks = Residency(device)
            layer.register_forward_pre_hook(hooks.before)
            layer.register_forward_hook(hooks.after, always_call=True)
            count += 1
    return count
