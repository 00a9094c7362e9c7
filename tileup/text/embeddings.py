"""Textual inversion: vectors that stand for words of a text encoder, learned from pictures.

Files name them in many ways: A1111's `string_to_param`, kohya's `emb_params`, diffusers' one tensor
under the word itself, and for SDXL one tensor for each of its encoders, `clip_l` and `clip_g`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tileup.errors import ModelError
from tileup.tensors.checkpoint import open_checkpoint, stem

if TYPE_CHECKING:
    from torch import Tensor

BUNDLE = "bundle_emb."
"""What the names of tensors begin with that OneTrainer puts into a LoRA: then the embedding's name,
a dot, and the tensor's own name."""
_CARRIED = re.compile(r"(.*?)(?:\.(string_to_param\..*|[^.]*))?", re.DOTALL)
"""The embedding's name, which may have dots, and the tensor's own, which has one after A1111's word
alone."""
MOST = 75
"""Vectors that one text holds."""
_PARTS = {
    "clip_l": "clip_l",
    "text_encoders_0": "clip_l",
    "clip_g": "clip_g",
    "text_encoders_1": "clip_g",
    "clip_h": "clip_h",
}
"""Names of tensors that say which encoder they are for."""


@dataclass(frozen=True, slots=True)
class Embedding:
    """Vectors that stand for words."""

    name: str
    """What prompts call it."""
    vectors: Mapping[str, Tensor]
    """By encoder (clip_l, clip_g, clip_h), shape (n, width), float32; under the empty name those
    of a file that does not say which encoder is meant."""

    def of(self, part: str, width: int) -> Tensor | None:
        """The vectors for an encoder of this width, shape (n, width); None where there are none."""
        for name in (part, ""):
            vectors = self.vectors.get(name)
            if vectors is not None and vectors.shape[1] == width:
                return vectors
        return None

    @property
    def widths(self) -> str:
        """Widths of its vectors, in words."""
        return " and ".join(str(each.shape[1]) for each in self.vectors.values())


def open_embedding(path: Path) -> Embedding:
    """An embedding from its file, .safetensors or a pickle of tensors; it is called as the file is.

    Raises:
        ModelError: as `embedding_of`; or the file cannot be read, or asks for code to be run.
    """
    return embedding_of(stem(path), open_checkpoint(path).state_dict(), str(path))


def embedding_of(name: str, tensors: Mapping[str, Tensor], where: str) -> Embedding:
    """An embedding from its tensors.

    Args:
        name: what prompts call it.
        tensors: as files have them; their names tell the encoder, or there is one alone.
        where: how messages call their place.

    Raises:
        ModelError: they are no embedding: no vectors, several that nothing tells apart, too many,
            or values that are not finite.
    """
    told = {_PARTS[key]: each for key, each in tensors.items() if key in _PARTS}
    if not told:
        if len(tensors) != 1:
            raise ModelError(
                f"{where} is no embedding (textual inversion): that has one tensor, or clip_l and"
                f" clip_g, and this has {len(tensors)}"
            )
        told = {"": next(iter(tensors.values()))}
    return Embedding(name, {part: _vectors(each, where) for part, each in told.items()})


def _vectors(tensor: Tensor, where: str) -> Tensor:
    shape = tuple(tensor.shape)
    vectors = tensor[None] if tensor.ndim == 1 else tensor
    if vectors.ndim != 2 or 0 in shape or not tensor.is_floating_point():
        raise ModelError(f"{where} is no embedding (textual inversion): its tensor is {shape}")
    if len(vectors) > MOST:
        raise ModelError(f"{where} has {len(vectors)} vectors; a text holds {MOST} at most")
    vectors = vectors.detach().float()
    if not vectors.isfinite().all():
        raise ModelError(f"{where} is damaged: it has values that are not finite")
    return vectors


def is_carried(key: str) -> bool:
    """Whether a tensor of a LoRA file belongs to an embedding that OneTrainer put into it."""
    return key.startswith(BUNDLE)


def carried_embeddings(tensors: Mapping[str, Tensor], where: str) -> tuple[Embedding, ...]:
    """The embeddings that a LoRA file carries, as OneTrainer writes them.

    Args:
        tensors: of the file; those that are no part of an embedding are passed over.
        where: how messages call the file.

    Raises:
        ModelError: one of them is none.
    """
    found: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        if is_carried(key):
            name, own = _carried_name(key)
            found.setdefault(name, {})[own] = tensor
    return tuple(embedding_of(name, each, f"{where}: {name}") for name, each in found.items())


def carried_names(keys: Iterable[str]) -> list[str]:
    """The names of the embeddings that a LoRA file carries, from the names of its tensors."""
    return [*dict.fromkeys(_carried_name(key)[0] for key in keys if is_carried(key))]


def _carried_name(key: str) -> tuple[str, str]:
    """The embedding's name, and the tensor's own."""
    told = _CARRIED.fullmatch(key.removeprefix(BUNDLE))
    assert told is not None  # the first group takes anything
    return told[1], told[2] or ""


def by_name(embeddings: Iterable[Embedding]) -> dict[str, Embedding]:
    """Embeddings by their names in small letters; of two with one name the later."""
    return {each.name.lower(): each for each in embeddings}
