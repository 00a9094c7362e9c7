"""Tokenizers that single files of text encoders carry in a tensor of bytes, as ComfyUI's do.

Gemma's is a model of SentencePiece that joins pairs, Mistral's a tekken.json: tokens by their
bytes, the first to be joined first (github.com/mistralai/mistral-common, Apache-2.0).
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar, cast

from tileup.errors import ModelError
from tileup.text.sentencepiece import PAIRS, SentencePieces, read_sentencepieces
from tileup.text.vocabulary import shown_bytes

if TYPE_CHECKING:
    from tokenizers import Tokenizer

TokenT = TypeVar("TokenT", str, bytes)
CARRIERS = ("spiece_model", "tekken_model")
"""Names of such tensors, or their last parts."""
NORMAL, CONTROL, USER, BYTE = 1, 3, 4, 6
"""Kinds of pieces of SentencePiece."""
_BLANK = "▁"
"""What SentencePiece writes for a blank."""


def carried_tokenizer(content: bytes, where: str) -> Tokenizer:
    """A language model's tokenizer from the bytes of such a tensor.

    Args:
        content: the bytes.
        where: how messages call their place.

    Raises:
        ModelError: they are neither a tekken.json nor a model of SentencePiece that joins pairs and
            takes texts as they are, as Gemma's does.
    """
    if content.lstrip()[:1] == b"{":
        try:
            return _tekken(cast("dict[str, Any]", json.loads(content)))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise _unknown(where) from error
    pieces = read_sentencepieces(content, PAIRS)
    if pieces is None or pieces.changes_text:
        raise _unknown(where)
    return _pairs(pieces)


def _unknown(where: str) -> ModelError:
    return ModelError(f"{where} carries no tokenizer that tileup reads; give one with --tokenizer")


def _tekken(content: Mapping[str, Any]) -> Tokenizer:
    from tokenizers import AddedToken, Regex, Tokenizer, models, pre_tokenizers

    config = content["config"]
    marks = int(config["default_num_special_tokens"])
    count = int(config["default_vocab_size"]) - marks
    tokens = [base64.b64decode(entry["token_bytes"]) for entry in content["vocab"][:count]]
    ranks = {token: rank for rank, token in enumerate(tokens)}
    vocabulary = {shown_bytes(token): marks + rank for token, rank in ranks.items()}
    special = {str(each["token_str"]): int(each["rank"]) for each in content["special_tokens"]}
    merges = [
        (shown_bytes(first), shown_bytes(second))
        for token in tokens
        for first, second in _splits(token, ranks)
    ]
    tokenizer = Tokenizer(models.BPE(vocab=special | vocabulary, merges=merges, ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(config["pattern"]), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.add_special_tokens([AddedToken(each, normalized=False) for each in special])
    return tokenizer


def _splits(token: TokenT, numbers: Mapping[TokenT, int]) -> Iterable[tuple[TokenT, TokenT]]:
    """The pairs of known tokens that a token can be joined from, those of low numbers first."""
    cuts = ((token[:cut], token[cut:]) for cut in range(1, len(token)))
    known = [pair for pair in cuts if pair[0] in numbers and pair[1] in numbers]
    return sorted(known, key=lambda pair: (numbers[pair[0]], numbers[pair[1]]))


def _pairs(pieces: SentencePieces) -> Tokenizer:
    """The piece with the highest score is joined first; what is in no piece becomes bytes."""
    from tokenizers import AddedToken, Tokenizer, models, normalizers

    texts = [text for text, _ in pieces.scores]
    vocabulary = {text: number for number, text in enumerate(texts)}
    normal = {
        text: vocabulary[text]
        for text, kind in zip(texts, pieces.kinds, strict=True)
        if kind == NORMAL
    }
    order = sorted(normal, key=lambda text: -pieces.scores[normal[text]][1])
    merges = [pair for text in order for pair in _splits(text, normal)]
    tokenizer = Tokenizer(
        models.BPE(
            vocab=vocabulary,
            merges=merges,
            unk_token=texts[pieces.unknown],
            fuse_unk=True,
            byte_fallback=BYTE in pieces.kinds,
        )
    )
    tokenizer.normalizer = normalizers.Replace(" ", _BLANK)
    told = [*zip(texts, pieces.kinds, strict=True)]
    whole = [AddedToken(text, normalized=True) for text, kind in told if kind == USER]
    marks = [AddedToken(text, normalized=False) for text, kind in told if kind == CONTROL]
    tokenizer.add_tokens(whole)
    tokenizer.add_special_tokens(marks)
    return tokenizer
