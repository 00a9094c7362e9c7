"""How prompts are read: in which style, and what their names stand for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from tileup.text.embeddings import Embedding


@dataclass(frozen=True, slots=True)
class PromptContext:
    """How prompts are read."""

    style: str = "a1111"
    """Whose way of writing weights: a1111, comfyui, or none, where brackets are text."""
    clip_skip: int | None = None
    """The tokens' features are those of CLIP's layer of this number from the end, 1 the last;
    None: of the one that the family was trained with."""
    embeddings: Mapping[str, Embedding] = field(default_factory=dict[str, Embedding])
    """What was given, by name in small letters."""
    carried: Mapping[str, Embedding] = field(default_factory=dict[str, Embedding])
    """What LoRAs brought along, by name in small letters; it need not fit."""
    find: Callable[[str], Embedding | None] = lambda name: None
    """Looks up an embedding that a prompt names."""
    loras: frozenset[str] = frozenset()
    """Names of the LoRAs that prompts ask for and that act."""

    def embedding(self, name: str) -> Embedding | None:
        """What a name stands for; None: nothing is known of it."""
        known = {**self.carried, **self.embeddings}.get(name.lower())
        return self.find(name) if known is None else known

    @property
    def names(self) -> tuple[str, ...]:
        """Names that stand for embeddings by themselves."""
        return (*self.embeddings, *self.carried)


USUAL = PromptContext()
"""How they are read unless something else is asked for."""
