"""CLIP's vocabulary, from the file that clip-anytorch carries.

That distribution is a requirement of k-diffusion. It is never imported: its import needs
torchvision.
"""

from __future__ import annotations

import gzip
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

from tileup.errors import MissingExtraError, ModelError

DISTRIBUTION = "clip-anytorch"
FILE = "bpe_simple_vocab_16e6.txt.gz"
START = "<|startoftext|>"
END = "<|endoftext|>"
SIZE = 49408
"""Tokens of CLIP's vocabulary."""


def merges_file() -> Path:
    """Where the file lies.

    Raises:
        MissingExtraError: clip-anytorch is not installed, or without its file.
    """
    try:
        entries = files(DISTRIBUTION) or []
    except PackageNotFoundError:
        entries = []
    for entry in entries:
        if entry.name == FILE and (path := Path(str(entry.locate()))).is_file():
            return path
    raise MissingExtraError(
        f"CLIP's vocabulary {FILE} is not installed; `pip install --force-reinstall {DISTRIBUTION}`"
        " brings it, and --prompt-embeds does without"
    )


def read_vocabulary(path: Path) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Tokens with their numbers, and the merges in order, built as CLIP does.

    The 256 bytes come first, then the same as ends of words, then one token for each merge, then
    the marks of start and end (github.com/openai/CLIP, clip/simple_tokenizer.py, MIT).

    Raises:
        ModelError: the file is damaged.
    """
    try:
        lines = gzip.decompress(path.read_bytes()).decode("utf-8").split("\n")
    except (OSError, EOFError, ValueError) as error:
        raise ModelError(f"{path} is damaged ({error}); install {DISTRIBUTION} again") from error
    count = SIZE - 2 * 256 - 2
    pairs = [tuple(line.split()) for line in lines[1 : count + 1]]
    merges = [(pair[0], pair[1]) for pair in pairs if len(pair) == 2]
    if len(merges) != count:
        raise ModelError(f"{path} is damaged (no {count} merges); install {DISTRIBUTION} again")
    symbols = byte_symbols()
    tokens = [*symbols, *(f"{symbol}</w>" for symbol in symbols)]
    tokens += [first + second for first, second in merges]
    return {token: number for number, token in enumerate([*tokens, START, END])}, merges


def shown_bytes(token: bytes) -> str:
    """Bytes in the characters that stand for them."""
    return "".join(_SHOWN[byte] for byte in token)


def byte_symbols() -> list[str]:
    """The printable character that stands for each byte, in the order of CLIP's vocabulary.

    Printable Latin-1 characters stand for themselves, and come first; others for the remaining
    bytes in order from U+0100.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = range(0x100, 0x100 + 256 - len(printable))
    return [chr(code) for code in [*printable, *others]]


_SYMBOLS = byte_symbols()
_PLAIN = [ord(each) for each in _SYMBOLS if ord(each) < 256]
_BYTES = [*_PLAIN, *(byte for byte in range(256) if byte not in _PLAIN)]
"""The byte that each of these stands for."""
_SHOWN = dict(zip(_BYTES, _SYMBOLS, strict=True))
