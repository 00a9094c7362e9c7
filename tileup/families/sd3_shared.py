"""What SD 3 and its ControlNets share: what no file tells, and the names of their blocks."""

from __future__ import annotations

from collections.abc import Iterator

from tileup.families.family import Latents
from tileup.tensors.renaming import Rule, layer

HEAD = 64
"""Features of an attention head in SD 3, whose file does not tell."""
TRAINING_STEPS = 1000
"""The network is told the flow time in thousandths."""
LATENTS = Latents(1.5305, 0.0609)


def picture_rules(block: str, ours: str, normed: bool, dual: bool) -> Iterator[Rule]:
    """Original names of a block's picture side to diffusers'.

    Args:
        block, ours: the block in both.
        normed: whether queries and keys are normalised, as in SD 3.5.
        dual: whether there is a second attention, as in SD 3.5 medium.
    """
    yield from layer(f"{block}.adaLN_modulation.1", f"{ours}.norm1.linear")
    for attention in ("attn", "attn2") if dual else ("attn",):
        parts = [f"{ours}.{attention}.{each}" for each in ("to_q", "to_k", "to_v")]
        yield from layer(f"{block}.{attention}.qkv", *parts)
        yield from layer(f"{block}.{attention}.proj", f"{ours}.{attention}.to_out.0")
        for each in "qk" if normed else "":
            target = f"{ours}.{attention}.norm_{each}.weight"
            yield Rule(f"{block}.{attention}.ln_{each}.weight", (target,))
    yield from layer(f"{block}.mlp.fc1", f"{ours}.ff.net.0.proj")
    yield from layer(f"{block}.mlp.fc2", f"{ours}.ff.net.2")
