"""Models of SentencePiece, read without that library: a list of pieces and a few settings.

The file is one protobuf message, whose fields are described in sentencepiece_model.proto
(github.com/google/sentencepiece, Apache-2.0).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

_PIECES, _TRAINER, _NORMALIZER = 1, 2, 3
"""Fields of ModelProto."""
_TEXT, _SCORE, _KIND = 1, 2, 3
"""Fields of a piece."""
_MODEL_TYPE = 3
"""Field of TrainerSpec: one of the next two."""
UNIGRAM, PAIRS = 1, 2
"""Kinds of models: the likeliest pieces of a text, which is the default, and joined pairs."""
_CHARSMAP, _BLANK_BEFORE, _ONE_BLANK = 2, 3, 4
"""Fields of NormalizerSpec; the last two are true where nothing is said."""
_UNKNOWN = 2
"""Kind of the piece that stands for what no other piece covers."""


@dataclass(frozen=True, slots=True)
class SentencePieces:
    """What a model consists of."""

    scores: list[tuple[str, float]]
    """Pieces with their log probabilities, or of pairs how early they are joined, in order of their
    numbers."""
    kinds: list[int]
    """Of each piece: 1 a plain one, 2 unknown, 3 a mark, 4 never divided, 6 a byte."""
    unknown: int
    """Number of the piece for what no other covers."""
    charsmap: bytes
    """How characters are normalised first, compiled; empty for not at all."""
    blank_before: bool = True
    """Whether a blank is put before a text."""
    one_blank: bool = True
    """Whether several blanks become one, and those at the ends none."""

    @property
    def changes_text(self) -> bool:
        """Whether a text is changed before it is divided."""
        return bool(self.charsmap) or self.blank_before or self.one_blank


def read_sentencepieces(content: bytes, wanted: int = UNIGRAM) -> SentencePieces | None:
    """The parts of a model.

    Args:
        content: of its file.
        wanted: which kind of model.

    Returns:
        None for any other file.
    """
    scores: list[tuple[str, float]] = []
    kinds: list[int] = []
    found, unknown = UNIGRAM, None
    normal: dict[int, int | bytes] = {}
    try:
        for field, value in _fields(content):
            if field == _PIECES:
                piece = dict(_fields(_bytes(value)))
                if piece.get(_KIND) == _UNKNOWN:
                    unknown = len(scores)
                score = struct.unpack("<f", _bytes(piece.get(_SCORE, bytes(4))))[0]
                scores.append((_bytes(piece[_TEXT]).decode("utf-8"), score))
                kinds.append(int(piece.get(_KIND, 1)))
            elif field == _TRAINER:
                found = dict(_fields(_bytes(value))).get(_MODEL_TYPE, UNIGRAM)
            elif field == _NORMALIZER:
                normal = dict(_fields(_bytes(value)))
        charsmap = _bytes(normal.get(_CHARSMAP, b""))
    except (ValueError, IndexError, KeyError, struct.error):
        return None
    if unknown is None or found != wanted:
        return None
    blanks = (bool(normal.get(field, 1)) for field in (_BLANK_BEFORE, _ONE_BLANK))
    return SentencePieces(scores, kinds, unknown, charsmap, *blanks)


def _bytes(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise ValueError("a number where bytes belong")
    return value


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Numbers and values of a message's fields: a number, or bytes still to be read.

    Raises:
        ValueError, IndexError: it is no message.
    """
    position = 0
    while position < len(message):
        key, position = _varint(message, position)
        kind = key & 7
        if kind == 0:
            value, position = _varint(message, position)
            yield key >> 3, value
            continue
        if kind == 2:
            length, position = _varint(message, position)
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
        else:
            raise ValueError("no field of this kind")
        if position + length > len(message):
            raise ValueError("cut short")
        yield key >> 3, message[position : position + length]
        position += length


def _varint(message: bytes, position: int) -> tuple[int, int]:
    """A number in groups of seven bits, the lowest first, and where it ends."""
    value = shift = 0
    while shift < 64:
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
    raise ValueError("a number of more than 64 bits")
