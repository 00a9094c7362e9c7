"""Tokens of one text encoder beyond CLIP's own, each of which stands for a learned vector."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from tileup.text.embeddings import Embedding
from tileup.text.vocabulary import SIZE

TABLE = "token_embedding.weight"
"""How the name of an encoder's table of tokens ends."""


class Learned:
    """Gives numbers to vectors, from the end of CLIP's vocabulary on."""

    def __init__(self, part: str, tensors: Callable[[], Mapping[str, Tensor]]) -> None:
        """Args:
        part: of the encoder: clip_l, clip_g or clip_h.
        tensors: reads its tensors, for its width.
        """
        self._part = part
        self._tensors = tensors
        self._width: int | None = None
        self._ids: dict[str, tuple[int, ...]] = {}
        self._vectors: list[Tensor] = []

    def ids(self, embedding: Embedding) -> tuple[int, ...]:
        """Tokens that stand for an embedding; none where it has no vectors for this encoder."""
        if embedding.name not in self._ids:
            vectors = embedding.of(self._part, self._encoder_width())
            first = SIZE + sum(map(len, self._vectors))
            count = 0 if vectors is None else len(vectors)
            self._vectors += [] if vectors is None else [vectors]
            self._ids[embedding.name] = tuple(range(first, first + count))
        return self._ids[embedding.name]

    @property
    def vectors(self) -> Tensor | None:
        """What the tokens stand for, in their order, shape (n, width); None: there are none."""
        return torch.cat(self._vectors) if self._vectors else None

    def _encoder_width(self) -> int:
        if self._width is None:
            tables = (each for name, each in self._tensors().items() if name.endswith(TABLE))
            self._width = next((each.shape[-1] for each in tables), 0)
        return self._width
