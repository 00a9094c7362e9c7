"""What a model family takes of which text encoder.

The recipes are those of each family's own pipeline in diffusers, whose tokenizers pad CLIP-L with
the mark of the end and the encoders of OpenCLIP with token 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tileup.text.tokens import CLIP_END


@dataclass(frozen=True, slots=True)
class ClipUse:
    """How a family uses one of CLIP's text encoders."""

    part: str
    """Key of the encoder: clip_l, clip_g or clip_h."""
    act: Literal["quick_gelu", "gelu"]
    """Its activation."""
    padding: int
    """The token that fills a row after the mark of its end."""
    skip: int
    """Layers at the end whose work is left out of the tokens' features: 0 or 1."""
    normed: bool
    """Whether the final norm is applied to the tokens' features."""
    pooled: Literal["none", "plain", "projected"]
    """What of the whole text is taken."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a family's text is put together."""

    clips: tuple[ClipUse, ...]
    """Encoders whose features lie side by side."""
    clip_tokens: bool
    """Whether the features of CLIP's tokens are taken; else only those of the whole text."""
    chunked: bool
    """Whether long texts are read in pieces of 75 tokens; else they are cut."""
    t5_length: int | None = None
    """Tokens of T5, padding and the mark of the end counted; None takes no T5."""
    t5_required: bool = False
    """Whether it needs T5; else zeros stand for it."""

    @property
    def parts(self) -> tuple[str, ...]:
        """Keys of the encoders it can use."""
        clips = tuple(use.part for use in self.clips)
        return clips if self.t5_length is None else (*clips, "t5")


def clip_l(
    *, skip: int, normed: bool, pooled: Literal["none", "plain", "projected"] = "none"
) -> ClipUse:
    """CLIP-L, whose rows are filled with the mark of the end."""
    return ClipUse("clip_l", "quick_gelu", CLIP_END, skip, normed, pooled)


CLIP_H = ClipUse("clip_h", "gelu", 0, skip=1, normed=True, pooled="none")
CLIP_G = ClipUse("clip_g", "gelu", 0, skip=1, normed=False, pooled="projected")
"""OpenCLIP's encoders, whose rows are filled with token 0."""
