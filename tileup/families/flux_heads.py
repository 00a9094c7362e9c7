"""What FLUX.1, its relatives and its ControlNets share: sizes of heads, and what they are told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from tileup.errors import ModelError
from tileup.tensors.shapes import block_count, shape

if TYPE_CHECKING:
    from torch import Tensor, nn

    from tileup.families.transformer import Seen

GUIDANCE = 3.5
"""What FLUX dev is told where the user says nothing: the default of its authors."""
ROTATED = (16, 56, 56)
"""Features of a head that turn with the picture's number (always 0), the row and the column."""


def guidance_of(module: nn.Module, seen: Seen) -> Tensor | None:
    """What the network is told, where it takes a guidance at all (dev) and not (schnell)."""
    if not module.config["guidance_embeds"]:  # pyright: ignore[reportIndexIssue, reportArgumentType]
        return None
    told = GUIDANCE if seen.guidance is None else seen.guidance
    return seen.time.new_full((len(seen.time),), told)


def head_of(state: Mapping[str, Tensor], width: int, name: str) -> int:
    """Features of an attention head."""
    doubles = block_count(state, "transformer_blocks")
    stack = "transformer_blocks" if doubles else "single_transformer_blocks"
    (head,) = shape(state, f"{stack}.0.attn.norm_q.weight", 1, name)
    if head != sum(ROTATED) or width % head:
        raise ModelError(
            f"{name}: attention heads of {head} features in a width of {width}, where FLUX has"
            f" heads of {sum(ROTATED)}"
        )
    return head
