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
class T5Use:
    """How a family uses T5."""

    length: int
    """Tokens that it reads at most, the mark of the end counted."""
    required: bool = True
    """Whether there must be one; else zeros stand for it."""
    filled: bool = True
    """Whether rows are filled up to `length`, and the padding is text like any other; else one
    padding token follows the text, sees it, and is not seen by it."""


@dataclass(frozen=True, slots=True)
class LlmUse:
    """How a family uses a language model: what it makes of a text that lies in a conversation."""

    model: Literal["qwen3", "qwen2", "mistral", "gemma2"]
    """Which kind."""
    title: str
    """Which one exactly, as its authors call it."""
    before: str
    """What stands before the text."""
    after: str
    """What stands behind it."""
    length: int
    """Tokens that it reads at most, those before the text counted."""
    layers: tuple[int, ...]
    """Layers whose features lie side by side: 0 is the embedding, -1 what the last layer gives."""
    normed: bool = False
    """Whether the final norm is applied to what the last of them gives."""
    filling: str = ""
    """The mark that fills rows up to `length`, which no word sees; empty: they are not filled."""
    filled_before: bool = False
    """Whether it stands before the text and not behind it."""
    dropped: bool = False
    """Whether the features of what stands before the text are left out."""

    @property
    def tokenizer_shipped(self) -> bool:
        """Whether its tokenizer comes with tileup."""
        return self.model in ("qwen3", "qwen2")

    def depths(self, there: int) -> list[int]:
        """How many layers come before the features of each of `layers`, where so many are there."""
        return [each if each >= 0 else there + 1 + each for each in self.layers]


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a family's text is put together."""

    clips: tuple[ClipUse, ...]
    """Encoders whose features lie side by side."""
    clip_tokens: bool
    """Whether the features of CLIP's tokens are taken; else only those of the whole text."""
    chunked: bool
    """Whether long texts are read in pieces of 75 tokens; else they are cut."""
    t5: T5Use | None = None
    """How it uses T5; None takes none."""
    llm: LlmUse | None = None
    """How it uses a language model, whose features then are the tokens; None takes none."""

    @property
    def parts(self) -> tuple[str, ...]:
        """Keys of the encoders it can use."""
        clips = tuple(use.part for use in self.clips)
        t5 = () if self.t5 is None else ("t5",)
        return (*clips, *t5, *(() if self.llm is None else ("llm",)))

    @property
    def tokenized(self) -> tuple[str, ...]:
        """Keys of the encoders whose tokenizer must be given: T5's comes with tileup."""
        return () if self.llm is None or self.llm.tokenizer_shipped else ("llm",)

    @property
    def required(self) -> tuple[str, ...]:
        """Keys of the encoders it cannot do without."""
        return tuple(each for each in self.parts if each != "t5" or (self.t5 and self.t5.required))


def clip_l(
    *, skip: int, normed: bool, pooled: Literal["none", "plain", "projected"] = "none"
) -> ClipUse:
    """CLIP-L, whose rows are filled with the mark of the end."""
    return ClipUse("clip_l", "quick_gelu", CLIP_END, skip, normed, pooled)


CLIP_H = ClipUse("clip_h", "gelu", 0, skip=1, normed=True, pooled="none")
CLIP_G = ClipUse("clip_g", "gelu", 0, skip=1, normed=False, pooled="projected")
"""OpenCLIP's encoders, whose rows are filled with token 0."""
