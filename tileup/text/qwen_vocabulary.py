"""Qwen's vocabulary, which comes with tileup: its files of weights do not hold it.

qwen2-merges.txt.gz was made from dashscope/resources/qwen.tiktoken of the distribution dashscope
2.0.2 (Alibaba Cloud, Apache-2.0; SHA-256 b2b1b8df...6a33186): the pairs of tokens that are joined,
the first to be joined first, their bytes written as in CLIP's vocabulary. A byte is a token, and
so is what each pair becomes, in this order; the marks follow.
"""

from __future__ import annotations

import gzip
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from tileup.errors import ModelError
from tileup.text.vocabulary import byte_symbols

if TYPE_CHECKING:
    from tokenizers import Tokenizer

FILE = Path(__file__).with_name("qwen2-merges.txt.gz")
WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""What Qwen takes for a word."""
MARKS = (
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>"),
    *("<|box_start|>", "<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>"),
    *("<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>", "<tool_call>"),
    *("</tool_call>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>"),
    *("<|repo_name|>", "<|file_sep|>"),
)
"""Of Qwen2 and Qwen2.5, in the order of their numbers: tokenizer_config.json."""
MARKS_OF_3 = ("<tool_response>", "</tool_response>", "<think>", "</think>")
"""What Qwen3 has besides."""


@cache
def qwen_merges() -> tuple[tuple[str, str], ...]:
    """The pairs that are joined, in order.

    Raises:
        ModelError: the shipped file is damaged.
    """
    try:
        lines = gzip.decompress(FILE.read_bytes()).decode("utf-8").splitlines()
        return tuple((first, second) for first, second in (line.split(" ") for line in lines))
    except (OSError, EOFError, ValueError) as error:
        raise ModelError(f"{FILE} is damaged ({error}); install tileup again") from error


def qwen_tokenizer(*, thinking: bool) -> Tokenizer:
    """Qwen's tokenizer.

    Args:
        thinking: with the marks of Qwen3.
    """
    symbols, merges = byte_symbols(), qwen_merges()
    tokens = [*symbols, *(first + second for first, second in merges)]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    return joined(vocabulary, [*merges], MARKS + (MARKS_OF_3 if thinking else ()))


def joined(
    vocabulary: dict[str, int], merges: list[tuple[str, str]], marks: tuple[str, ...]
) -> Tokenizer:
    """A tokenizer of Qwen's kind from tokens with their numbers, pairs in order, and marks."""
    from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers

    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.add_special_tokens([AddedToken(each, normalized=False) for each in marks])
    return tokenizer
