"""A network that remembers what noise levels make of its weights."""

from __future__ import annotations

import torch

from tests.checkpoints.small import small_network
from tileup.families.residual_unet import LEVELS, Remembering


def test_what_is_remembered_of_noise_levels_changes_nothing() -> None:
    """More levels than are kept, from the first to the last and back; and many rows at once."""
    network = small_network()
    for parameter in network.parameters():
        parameter.add_(0.05 * torch.randn_like(parameter))
    asked: list[float] = []
    folded = network.folded

    def counted(sigma: torch.Tensor) -> object:
        asked.append(float(sigma))
        return folded(sigma)

    remembering = Remembering(network)
    rng = torch.Generator().manual_seed(3)
    x, source = (torch.rand(2, 12, 16, 16, generator=rng) for _ in range(2))
    levels = torch.linspace(0.01, 0.7, LEVELS + 3).split(1)
    with torch.no_grad():
        expected = {float(level): network(x, level, source) for level in levels}
        object.__setattr__(network, "folded", counted)
        for level in [*levels, *reversed(levels), *levels]:
            found = remembering(x, level, source)
            assert torch.equal(found, expected[float(level)])
            each = network(x, level.expand(2), source)
            torch.testing.assert_close(found, each, atol=1e-5, rtol=0)
    assert len(levels) <= len(asked) < 3 * len(levels) - LEVELS
