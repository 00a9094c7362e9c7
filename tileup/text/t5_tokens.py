"""T5's tokenizer: the one that ships with tileup, or from a file that comes with a model.

Shipped is tokenizer.json of T5 v1.1, packed and unchanged: Google, Apache-2.0 (Raffel et al., 2020,
arXiv 1910.10683). All sizes of T5, XXL among them, have the same one. Its bytes are those in
stable-diffusion.cpp (MIT), src/tokenizers/vocab/clip_t5.hpp, of the distribution
stable-diffusion-cpp-python 0.4.7; their SHA-256 is fe2ebbbb...d3ead57a.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tileup.errors import ModelError
from tileup.text.sentencepiece import SentencePieces, read_sentencepieces
from tileup.text.tokens import whole_characters

if TYPE_CHECKING:
    from tokenizers import Tokenizer

END = "</s>"
PADDING = "<pad>"
FILES = ("tokenizer.json", "spiece.model")
"""Names that the file has, the first preferred."""
MAX_BYTES = 100_000_000
SHIPPED = Path(__file__).with_name("t5_tokenizer.json.gz")
"""T5's own."""


class T5Tokenizer:
    """Words become numbers."""

    def __init__(self, tokenizer: Tokenizer, end: int, padding: int) -> None:
        self._tokenizer = tokenizer
        self._end = end
        self._padding = padding

    def ids(self, text: str) -> list[int]:
        """Numbers of a text's tokens, without the mark of the end."""
        return self._tokenizer.encode(whole_characters(text), add_special_tokens=False).ids

    def row(self, ids: Sequence[int], length: int) -> tuple[int, ...]:
        """Tokens, at most `length` - 1, the mark of the end, padding: `length` together."""
        return (*ids, self._end, *[self._padding] * (length - 1 - len(ids)))


def load_t5_tokenizer(path: Path | bytes | None = None) -> T5Tokenizer:
    """Read a tokenizer.

    Args:
        path: tokenizer.json, spiece.model, or a folder that holds one of them, itself or in
            `tokenizer_3` or `tokenizer_2`, as the folders of SD 3 and FLUX do; or the bytes of such
            a file; None: T5's own, which ships with tileup.

    Raises:
        ModelError: it is not there, or is another kind of file.
    """
    content, file = _content(path)
    tokenizer = _from_json(content) if content.lstrip()[:1] == b"{" else _from_pieces(content)
    if tokenizer is None:
        raise ModelError(f"{file} is not T5's tokenizer; {_WANTED}")
    end, padding = tokenizer.token_to_id(END), tokenizer.token_to_id(PADDING)
    if end is None or padding is None:
        raise ModelError(f"{file} is not T5's tokenizer: it has no {END} or no {PADDING}")
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return T5Tokenizer(tokenizer, end, padding)


def _content(path: Path | bytes | None) -> tuple[bytes, str]:
    """Of a tokenizer's file, and how messages call it."""
    if isinstance(path, bytes):
        return path, "what the file of T5 carries"
    file = SHIPPED if path is None else _found(path)
    try:
        content = file.read_bytes() if file.stat().st_size <= MAX_BYTES else b""
    except OSError as error:
        raise ModelError(f"tokenizer {file} cannot be read: {error.strerror}") from error
    return gzip.decompress(content) if path is None else content, str(file)


_WANTED = "give tokenizer.json or spiece.model of T5-XXL, or the folder that holds one"


def _found(path: Path) -> Path:
    if not path.is_dir():
        if path.exists():
            return path
        raise ModelError(f"tokenizer {path} is not there; {_WANTED}")
    for folder in (path, path / "tokenizer_3", path / "tokenizer_2"):
        for name in FILES:
            if (folder / name).is_file():
                return folder / name
    raise ModelError(f"tokenizer {path} holds neither {' nor '.join(FILES)}; {_WANTED}")


def _from_json(content: bytes) -> Tokenizer | None:
    """A tokenizer in the format of the library `tokenizers`; None for other JSON."""
    from tokenizers import Tokenizer

    try:
        if json.loads(content)["model"]["type"] != "Unigram":
            return None
        return Tokenizer.from_buffer(content)
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def _from_pieces(content: bytes) -> Tokenizer | None:
    """A tokenizer from a model of SentencePiece; None for another file."""
    pieces = read_sentencepieces(content)
    return None if pieces is None else _unigram(pieces)


def _unigram(pieces: SentencePieces) -> Tokenizer:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

    tokenizer = Tokenizer(models.Unigram(pieces.scores, unk_id=pieces.unknown))
    if pieces.charsmap:
        tokenizer.normalizer = normalizers.Precompiled(pieces.charsmap)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always"),
        ]
    )
    return tokenizer
