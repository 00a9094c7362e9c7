"""What each model family takes of which text encoder."""

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


def _clip_l(skip: int, normed: bool, pooled: Literal["none", "plain", "projected"]) -> ClipUse:
    return ClipUse("clip_l", "quick_gelu", CLIP_END, skip, normed, pooled)


_CLIP_H = ClipUse("clip_h", "gelu", 0, skip=1, normed=True, pooled="none")
_CLIP_G = ClipUse("clip_g", "gelu", 0, skip=1, normed=False, pooled="projected")

RECIPES = {
    "sd1": Recipe((_clip_l(0, True, "none"),), clip_tokens=True, chunked=True),
    "sd2": Recipe((_CLIP_H,), clip_tokens=True, chunked=True),
    "sdxl": Recipe((_clip_l(1, False, "none"), _CLIP_G), clip_tokens=True, chunked=True),
    "sdxl-refiner": Recipe((_CLIP_G,), clip_tokens=True, chunked=True),
    "sd3": Recipe(
        (_clip_l(1, False, "projected"), _CLIP_G), clip_tokens=True, chunked=False, t5_length=256
    ),
    "flux-dev": Recipe(
        (_clip_l(0, True, "plain"),),
        clip_tokens=False,
        chunked=False,
        t5_length=512,
        t5_required=True,
    ),
    "flux-schnell": Recipe(
        (_clip_l(0, True, "plain"),),
        clip_tokens=False,
        chunked=False,
        t5_length=256,
        t5_required=True,
    ),
}
"""By family. Sources: the text part of each family's own pipeline in diffusers, whose tokenizers
pad CLIP-L with the mark of the end and the encoders of OpenCLIP with token 0, and whose copy of
SD 2's encoder lacks the last layer."""
