"""Words become numbers: CLIP's tokenizer."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

from tileup.errors import MissingExtraError
from tileup.text.vocabulary import END, START, merges_file, read_vocabulary

if TYPE_CHECKING:
    from tokenizers import Tokenizer

CLIP_START = 49406
CLIP_END = 49407
CHUNK = 75
"""Tokens that CLIP reads at once, the marks of start and end not counted."""

_WORDS = (
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
)
"""What CLIP takes for a word."""


def clip_ids(text: str) -> list[int]:
    """Numbers of a text's tokens, without the marks of start and end.

    Raises:
        MissingExtraError: the vocabulary, or ftfy, is not installed.
        ModelError: the vocabulary is damaged.
    """
    return clip_tokenizer().encode(cleaned(text), add_special_tokens=False).ids


def cleaned(text: str) -> str:
    """A text as CLIP's own tokenizer cleans it: repaired, unescaped, single spaces, small letters.

    Raises:
        MissingExtraError: ftfy is not installed.
    """
    try:
        import ftfy
    except ImportError as error:
        raise MissingExtraError(
            "prompts need ftfy, a requirement of clip-anytorch; `pip install ftfy` brings it"
        ) from error
    text = html.unescape(html.unescape(ftfy.fix_text(whole_characters(text))))
    return re.sub(r"\s+", " ", text).strip().lower()


def whole_characters(text: str) -> str:
    """A text without halves of characters, which odd bytes of a command line leave behind."""
    return text.encode("utf-8", "replace").decode()


@cache
def clip_tokenizer() -> Tokenizer:
    """CLIP's tokenizer, for cleaned texts."""
    from tokenizers import AddedToken, Regex, Tokenizer, models, pre_tokenizers

    vocabulary, merges = read_vocabulary(merges_file())
    tokenizer = Tokenizer(
        models.BPE(
            vocab=vocabulary,
            merges=merges,
            unk_token=END,
            continuing_subword_prefix="",
            end_of_word_suffix="</w>",
        )
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.add_special_tokens([AddedToken(each, normalized=False) for each in (START, END)])
    return tokenizer


def clip_row(ids: Sequence[int], padding: int) -> tuple[int, ...]:
    """One row of 77 from at most 75 tokens."""
    return (CLIP_START, *ids, CLIP_END, *[padding] * (CHUNK - len(ids)))
