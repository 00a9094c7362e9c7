"""Tokenizers of language models, from the files that come with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from tileup.errors import ModelError
from tileup.text.carried_tokenizers import carried_tokenizer
from tileup.text.qwen_vocabulary import joined, qwen_tokenizer
from tileup.text.tokens import whole_characters

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from tileup.text.recipes import LlmUse

MAX_BYTES = 100_000_000
_WANTED = (
    "give tokenizer.json of the text encoder, or the folder that holds it, or vocab.json and"
    " merges.txt"
)


class LlmTokenizer:
    """Words become numbers; marks such as `<|im_start|>` within a text are one token each."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    def ids(self, text: str) -> list[int]:
        """Numbers of a text's tokens, nothing before or after them."""
        return self._tokenizer.encode(whole_characters(text), add_special_tokens=False).ids

    def id(self, mark: str) -> int:
        """The number of a mark.

        Raises:
            ModelError: there is no such mark.
        """
        number = self._tokenizer.token_to_id(mark)
        if number is None:
            raise ModelError(
                f"the tokenizer has no {mark}: it is not that of this model's text encoder;"
                f" {_WANTED}"
            )
        return number


def tokenizer_of(use: LlmUse, path: Path | bytes | None) -> LlmTokenizer:
    """The tokenizer of a language model.

    Args:
        use: which model it is.
        path: as in `load_llm_tokenizer`; or bytes that the model's own file carries; None takes the
            one that comes with tileup.

    Raises:
        ModelError: none comes with tileup; or as `load_llm_tokenizer` and `carried_tokenizer`.
    """
    if isinstance(path, bytes):
        return LlmTokenizer(carried_tokenizer(path, f"the file of {use.title}"))
    if path is not None:
        return load_llm_tokenizer(path)
    if not use.tokenizer_shipped:
        raise ModelError(f"{use.title} needs its tokenizer: {_WANTED}, with --tokenizer")
    return LlmTokenizer(qwen_tokenizer(thinking=use.model == "qwen3"))


def load_llm_tokenizer(path: Path) -> LlmTokenizer:
    """Read a tokenizer.

    Args:
        path: tokenizer.json, or a folder that holds it, itself or in `tokenizer`; or one with
            vocab.json, merges.txt and added_tokens.json, as Qwen's older folders have them.

    Raises:
        ModelError: it is not there, or is another kind of file.
    """
    folders = (path, path / "tokenizer") if path.is_dir() else ()
    for folder in folders:
        if (folder / "tokenizer.json").is_file():
            return LlmTokenizer(_whole(folder / "tokenizer.json"))
    for folder in folders:
        if (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
            return LlmTokenizer(_from_merges(folder))
    if not path.is_file():
        state = "holds no tokenizer" if path.is_dir() else "is not there"
        raise ModelError(f"tokenizer {path} {state}; {_WANTED}")
    return LlmTokenizer(_whole(path))


def _whole(file: Path) -> Tokenizer:
    """A tokenizer in the format of the library `tokenizers`, which cuts and fills nothing."""
    from tokenizers import Tokenizer

    try:
        content = file.read_bytes() if file.stat().st_size <= MAX_BYTES else b""
    except OSError as error:
        raise ModelError(f"tokenizer {file} cannot be read: {error.strerror}") from error
    try:
        if json.loads(content)["model"]["type"] != "BPE":
            raise ValueError
        tokenizer = Tokenizer.from_buffer(content)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ModelError(f"{file} is not a language model's tokenizer; {_WANTED}") from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def _from_merges(folder: Path) -> Tokenizer:
    """Qwen's tokenizer from the three files it was first published as."""
    vocabulary, merges, marks = _three_files(folder)
    tokenizer = joined(vocabulary, merges, tuple(sorted(marks, key=lambda mark: marks[mark])))
    if any(tokenizer.token_to_id(mark) != number for mark, number in marks.items()):
        raise _damaged(folder)
    return tokenizer


def _three_files(folder: Path) -> tuple[dict[str, int], list[tuple[str, str]], dict[str, int]]:
    """Tokens with their numbers, merges in order, and marks with their numbers.

    Raises:
        ModelError: the files are damaged, or do not belong together.
    """
    added = folder / "added_tokens.json"
    try:
        vocabulary: dict[str, int] = json.loads((folder / "vocab.json").read_bytes())
        marks: dict[str, int] = json.loads(added.read_bytes()) if added.is_file() else {}
        lines = (folder / "merges.txt").read_text(encoding="utf-8").split("\n")
        pairs = [line.split(" ") for line in lines if line and not line.startswith("#version")]
        merges = [(first, second) for first, second in pairs]
        fits = all({a, b, a + b} <= vocabulary.keys() for a, b in merges)
        numbers: list[object] = [*vocabulary.values(), *marks.values()]
        fits = fits and all(isinstance(each, int) for each in numbers)
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise _damaged(folder) from error
    if not fits:
        raise _damaged(folder)
    return vocabulary, merges, marks


def _damaged(folder: Path) -> ModelError:
    return ModelError(f"the tokenizer in {folder} is damaged, or its files differ; {_WANTED}")
