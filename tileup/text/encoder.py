"""The texts of a run become what a network takes; each encoder is loaded once, and given back."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from tileup.contracts import Encoded
from tileup.errors import ModelError
from tileup.text.clip import Clip, load_clip
from tileup.text.finite import check_finite
from tileup.text.llm import Llm, load_llm
from tileup.text.llm_tokens import LlmTokenizer, load_llm_tokenizer
from tileup.text.recipes import ClipUse, Recipe, T5Use
from tileup.text.t5 import T5, load_t5
from tileup.text.t5_tokens import T5Tokenizer, load_t5_tokenizer
from tileup.text.tokens import CHUNK, clip_chunks, clip_ids, clip_row

log = logging.getLogger(__name__)

ReadTensors = Callable[[], Mapping[str, Tensor]]
"""Reads an encoder's tensors, names without the file's prefix."""
OnLoaded = Callable[[str, nn.Module], None]
"""Given the name of an encoder (clip_l, clip_g, clip_h, t5, llm) and its network, just loaded."""
Row = tuple[int, ...]
"""Numbers of the tokens that an encoder reads at once, padded."""
T5_WIDTH = 4096
"""Of T5-XXL's features."""

_NAMES = {
    "clip_l": "CLIP-L",
    "clip_g": "CLIP-G",
    "clip_h": "CLIP-H",
    "t5": "T5",
    "llm": "that reads prompts",
}
_FLAGS = {"llm": "--text-encoder"}
"""Flags that are not called as their part is."""


@dataclass(frozen=True, slots=True)
class _Features:
    """What an encoder says of one row of tokens, on the CPU."""

    tokens: Tensor
    """Shape (length, width)."""
    pooled: Tensor | None = None
    """Shape (width,)."""


def load_text(
    recipe: Recipe,
    parts: Mapping[str, ReadTensors],
    *,
    tokenizer: Path | None = None,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    features: int | None = None,
    on_loaded: OnLoaded = lambda part, encoder: None,
) -> TextEncoder:
    """The text encoders of a model family; none of their tensors is read before the first text is.

    Args:
        recipe: of the family.
        parts: what is there of clip_l, clip_g, clip_h (SD 2's), t5 and llm (a language model);
            others are ignored.
        tokenizer: that of T5 or of the language model, where there is one: its folder,
            tokenizer.json or spiece.model.
        dtype: the encoders run in.
        device: they run on, and their results are put on.
        features: width of the tokens' features that the network takes, to be held against what
            the encoders give; and without T5 that of the zeros in its place.
        on_loaded: given each encoder whenever its weights were loaded; it may change them.

    Raises:
        ModelError: an encoder or its tokenizer is missing; the message names the flag for it.
    """
    for part in recipe.parts:
        if part not in parts and part in recipe.required:
            flag = _FLAGS.get(part, f"--{part.replace('_', '-')}")
            flag = "" if part == "clip_h" else f"; give it with {flag}"
            raise ModelError(f"the text encoder {_NAMES[part]} is missing{flag}")
    used = {part: parts[part] for part in recipe.parts if part in parts}
    return TextEncoder(
        recipe,
        used,
        load_t5_tokenizer(_needed(tokenizer, "T5")) if "t5" in used else None,
        load_llm_tokenizer(_needed(tokenizer, "the text encoder")) if "llm" in used else None,
        dtype=dtype,
        device=device,
        features=features,
        on_loaded=on_loaded,
    )


def _needed(tokenizer: Path | None, what: str) -> Path:
    if tokenizer is None:
        raise ModelError(
            f"{what} needs its tokenizer; give its folder, tokenizer.json or spiece.model with"
            f" --tokenizer"
        )
    return tokenizer


class TextEncoder:
    """Encodes prompts; what was encoded once is remembered."""

    def __init__(
        self,
        recipe: Recipe,
        parts: Mapping[str, ReadTensors],
        t5_tokenizer: T5Tokenizer | None,
        llm_tokenizer: LlmTokenizer | None = None,
        *,
        dtype: torch.dtype,
        device: str,
        features: int | None,
        on_loaded: OnLoaded,
    ) -> None:
        self._recipe = recipe
        self._parts = parts
        self._t5_tokenizer = t5_tokenizer
        self._llm_tokenizer = llm_tokenizer
        self._dtype = dtype
        self._device = device
        self._features = features
        self._on_loaded = on_loaded
        self._known: dict[str, dict[Row, _Features]] = {part: {} for part in parts}
        self._warned: set[str] = set()

    def encode(self, prompt: str, negative: str | None = None) -> tuple[Encoded, Encoded | None]:
        """A prompt, and what the picture shall not look like.

        Returns:
            Both, float32, with one row each and of the same length; None for a negative of None.

        Raises:
            ModelError: an encoder's file does not fit, or has values that are not finite.
        """
        return self.encode_all([(prompt, negative)])[0]

    def encode_all(
        self, texts: Sequence[tuple[str, str | None]]
    ) -> list[tuple[Encoded, Encoded | None]]:
        """As `encode`, for many pairs: each encoder is loaded once, one after the other."""
        counts = [self._chunks(pair) for pair in texts]
        pairs = list(zip(texts, counts, strict=True))
        each = [(text, n) for pair, n in pairs for text in pair if text is not None]
        for use in self._recipe.clips:
            rows = [self._clip_rows(use, text, n) for text, n in each]
            self._learn_clip(use, itertools.chain.from_iterable(rows))
        if "t5" in self._parts:
            self._learn_t5(self._t5_row(text) for text, _ in each)
        if "llm" in self._parts:
            self._learn_llm(self._llm_row(text)[0] for text, _ in each)
        return [
            (self._encoded(prompt, n), None if negative is None else self._encoded(negative, n))
            for (prompt, negative), n in pairs
        ]

    def _chunks(self, pair: tuple[str, str | None]) -> int:
        """Rows of CLIP's that the longer text of a pair takes."""
        if not self._recipe.chunked:
            return 1
        return max(len(clip_chunks(clip_ids(text), 0)) for text in pair if text is not None)

    def _clip_rows(self, use: ClipUse, text: str, count: int) -> list[Row]:
        ids = clip_ids(text)
        if not self._recipe.chunked and len(ids) > CHUNK:
            self._warn_cut("CLIP", CHUNK, len(ids))
            ids = ids[:CHUNK]
        rows = clip_chunks(ids, use.padding)
        return rows + [clip_row([], use.padding)] * (count - len(rows))

    def _t5_row(self, text: str) -> Row:
        use = self._recipe.t5
        assert self._t5_tokenizer is not None
        assert use is not None
        room = use.length - 1
        ids = self._t5_tokenizer.ids(text)
        if len(ids) > room:
            self._warn_cut("T5", room, len(ids))
        ids = ids[:room]
        return self._t5_tokenizer.row(ids, use.length if use.filled else len(ids) + 2)

    def _llm_row(self, text: str) -> tuple[Row, int]:
        """A text's tokens, and how many of its features are left out at the beginning."""
        use, tokenizer = self._recipe.llm, self._llm_tokenizer
        assert use is not None
        assert tokenizer is not None
        ids = tokenizer.ids(use.before + text + use.after)
        if len(ids) > use.length:
            self._warn_cut("the text encoder", use.length, len(ids))
        return tuple(ids[: use.length]), len(tokenizer.ids(use.before)) if use.dropped else 0

    def _warn_cut(self, reader: str, room: int, length: int) -> None:
        if reader not in self._warned:
            self._warned.add(reader)
            log.warning(
                "a prompt is longer than %s reads: its first %d tokens count, of %d",
                reader,
                room,
                length,
            )

    def _learn_clip(self, use: ClipUse, rows: Iterable[Row]) -> None:
        if new := self._new(use.part, rows):
            name = _NAMES[use.part]
            tensors = self._parts[use.part]()
            clip = load_clip(
                tensors, act=use.act, what=name, dtype=self._dtype, device=self._device
            )
            self._on_loaded(use.part, clip.network)
            for row in new:
                self._known[use.part][row] = _read_clip(clip, use, row, name)

    def _learn_t5(self, rows: Iterable[Row]) -> None:
        if new := self._new("t5", rows):
            t5 = load_t5(self._parts["t5"](), what="T5", dtype=self._dtype, device=self._device)
            self._on_loaded("t5", t5.network)
            for row in new:
                self._known["t5"][row] = _read_t5(t5, row, self._recipe.t5)

    def _learn_llm(self, rows: Iterable[Row]) -> None:
        use = self._recipe.llm
        if (new := self._new("llm", rows)) and use is not None:
            llm = load_llm(self._parts["llm"](), use, dtype=self._dtype, device=self._device)
            self._on_loaded("llm", llm.network)
            for row in new:
                self._known["llm"][row] = _read_llm(llm, row)

    def _new(self, part: str, rows: Iterable[Row]) -> list[Row]:
        """Rows not seen yet, each once. One by one, so that no row's rounding hangs on others."""
        return [row for row in dict.fromkeys(rows) if row not in self._known[part]]

    def _encoded(self, text: str, count: int) -> Encoded:
        recipe = self._recipe
        read = [
            [self._known[use.part][row] for row in self._clip_rows(use, text, count)]
            for use in recipe.clips
        ]
        sides = [torch.cat([each.tokens for each in rows]) for rows in read]
        whole = [rows[0].pooled for rows in read]
        pooled = [each for each in whole if each is not None]
        tokens = self._joined(torch.cat(sides, dim=1) if recipe.clip_tokens else None, text)
        if self._features is not None and tokens.shape[1] != self._features:
            raise ModelError(
                f"the text encoders give features {tokens.shape[1]} wide, the network takes"
                f" {self._features}; they belong to another model"
            )
        return Encoded(
            tokens[None].to(self._device),
            torch.cat(pooled)[None].to(self._device) if pooled else None,
        )

    def _joined(self, clip: Tensor | None, text: str) -> Tensor:
        """CLIP's tokens, shape (length, width), followed by T5's, both as wide as T5's are."""
        if self._recipe.llm is not None:
            row, dropped = self._llm_row(text)
            return self._known["llm"][row].tokens[dropped:]
        use = self._recipe.t5
        if use is None:
            assert clip is not None
            return clip
        if "t5" in self._parts:
            t5 = self._known["t5"][self._t5_row(text)].tokens
        else:
            t5 = torch.zeros(use.length, self._features or T5_WIDTH)
        if clip is None:
            return t5
        missing = t5.shape[1] - clip.shape[1]
        if missing < 0:
            raise ModelError(
                f"CLIP's features are {clip.shape[1]} wide, more than the {t5.shape[1]} of T5's;"
                " they belong to different models"
            )
        return torch.cat([functional.pad(clip, (0, missing)), t5])


def _read_clip(clip: Clip, use: ClipUse, row: Row, name: str) -> _Features:
    output = clip([row])
    skip = 0 if use.part == "clip_h" and clip.trimmed else use.skip
    hidden = output.hidden[-1 - skip]
    tokens = clip.normed(hidden) if use.normed else hidden
    check_finite(tokens, clip.tensors(), name)
    if use.pooled == "none":
        return _Features(tokens[0].float().cpu())
    pooled = clip.projected(output.pooled) if use.pooled == "projected" else output.pooled
    check_finite(pooled, clip.tensors(), name)
    return _Features(tokens[0].float().cpu(), pooled[0].float().cpu())


def _read_t5(t5: T5, row: Row, use: T5Use | None) -> _Features:
    unseen = 0 if use is None or use.filled else 1
    tokens = t5([row], unseen)
    check_finite(tokens, t5.tensors(), "T5")
    return _Features(tokens[0].float().cpu())


def _read_llm(llm: Llm, row: Row) -> _Features:
    tokens = llm(row)
    check_finite(tokens, llm.tensors(), llm.title)
    return _Features(tokens.float().cpu())
