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
"""Field of TrainerSpec: unigram is 1, and the default."""
_CHARSMAP = 2
"""Field of NormalizerSpec."""
_UNKNOWN = 2
"""Kind of the piece that stands for what no other piece covers."""


@dataclass(frozen=True, slots=True)
class SentencePieces:
    """What a unigram model consists of."""

    scores: list[tuple[str, float]]
    """Pieces with their log probabilities, in order of their numbers."""
    unknown: int
    """Number of the piece for what no other covers."""
    charsmap: bytes
    """How characters are normalised first, compiled; empty for not at all."""


def read_sentencepieces(content: bytes) -> SentencePieces | None:
    """The parts of a unigram model; None for any other file."""
    scores: list[tuple[str, float]] = []
    unknown: int | None = None
    charsmap = b""
    try:
        for field, value in _fields(content):
            if field == _PIECES:
                piece = dict(_fields(_bytes(value)))
                if piece.get(_KIND) == _UNKNOWN:
                    unknown = len(scores)
                score = struct.unpack("<f", _bytes(piece.get(_SCORE, bytes(4))))[0]
                scores.append((_bytes(piece[_TEXT]).decode("utf-8"), score))
            elif field == _TRAINER and dict(_fields(_bytes(value))).get(_MODEL_TYPE, 1) != 1:
                return None
            elif field == _NORMALIZER:
                charsmap = _bytes(dict(_fields(_bytes(value))).get(_CHARSMAP, b""))
    except (ValueError, IndexError, KeyError, struct.error):
        return None
    return None if unknown is None else SentencePieces(scores, unknown, charsmap)


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
