"""Rows of CLIP's from prompts of any length: which token stands where, and how much it counts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tileup.text.recipes import ClipUse
from tileup.text.tokens import CHUNK, clip_row

COMMA = 267
"""The token of a comma that ends a word."""
BACKTRACK = 20
"""Tokens behind a comma that A1111 takes over into the next row, so that no phrase is cut."""
LARGE = 8
"""Tokens of one part of a prompt from which ComfyUI cuts it at the end of a row."""

Token = tuple[int, float]
"""A token, and how much it counts."""
TokenRow = tuple[int, ...]
"""Numbers of the tokens that an encoder reads at once, padded."""


@dataclass(frozen=True, slots=True)
class Group:
    """Tokens of one part of a prompt."""

    ids: tuple[int, ...]
    weight: float = 1.0
    whole: bool = False
    """Whether they are vectors of one embedding, which stand in one row."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """One row of CLIP's, and how much each of its tokens counts."""

    ids: TokenRow
    weights: tuple[float, ...]

    @property
    def weighted(self) -> bool:
        return any(each != 1 for each in self.weights)


def chunk_of(tokens: Sequence[Token], use: ClipUse) -> Chunk:
    """A chunk of at most 75 tokens; the marks of start and end and the padding count once."""
    ids = clip_row([each for each, _ in tokens], use.padding)
    weights = [weight for _, weight in tokens]
    return Chunk(ids, (1.0, *weights, *[1.0] * (len(ids) - 1 - len(weights))))


def chunks_of(groups: Sequence[Group | None], use: ClipUse, style: str) -> list[Chunk]:
    """A prompt in chunks of 75 tokens; one for an empty prompt.

    Args:
        groups: the parts of the prompt; None stands where a new chunk begins.
        use: of the encoder.
        style: whose way of filling chunks: a1111 takes what stands behind a comma among the last
            20 tokens over into the next chunk; comfyui takes over a part of less than 8 tokens that
            does not fit, and cuts longer ones, which is all that there is without weights.
    """
    fill = _a1111 if style == "a1111" else _comfyui
    return [chunk_of(each, use) for each in fill(groups)]


class _Filling:
    """Chunks as A1111 fills them."""

    def __init__(self) -> None:
        self.chunks: list[list[Token]] = []
        self.chunk: list[Token] = []
        self.comma = -1
        """Where its last comma stands; -1: it has none."""

    def end(self, place: int | None = None) -> None:
        """End the chunk, at a place, from where on the next one takes over."""
        place = len(self.chunk) if place is None else place
        self.chunks.append(self.chunk[:place])
        self.chunk, self.comma = self.chunk[place:], -1

    def make_room(self, *, comma: bool = False) -> None:
        """See that there is a place for a token, which may be a comma."""
        if comma:
            self.comma = len(self.chunk)
        elif len(self.chunk) == CHUNK and self.comma >= max(0, CHUNK - BACKTRACK):
            self.end(self.comma + 1)
        if len(self.chunk) == CHUNK:
            self.end()


def _a1111(groups: Sequence[Group | None]) -> list[list[Token]]:
    filling = _Filling()
    for group in groups:
        if group is None:
            filling.end()
        elif group.whole:
            filling.make_room()
            if len(filling.chunk) + len(group.ids) > CHUNK:
                filling.end()
            filling.chunk += [(each, group.weight) for each in group.ids]
        else:
            for token in group.ids:
                filling.make_room(comma=token == COMMA)
                filling.chunk.append((token, group.weight))
    if filling.chunk or not filling.chunks:
        filling.end()
    return filling.chunks


def _comfyui(groups: Sequence[Group | None]) -> Iterator[list[Token]]:
    chunk: list[Token] = []
    for group in groups:
        if group is None:
            yield chunk
            chunk = []
            continue
        left = [(token, group.weight) for token in group.ids]
        while len(chunk) + len(left) > CHUNK:
            room = CHUNK - len(chunk) if len(group.ids) >= LARGE else 0
            yield chunk + left[:room]
            chunk, left = [], left[room:]
        chunk += left
    yield chunk
