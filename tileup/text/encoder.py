"""The texts of a run become what a network takes; each encoder is loaded once, and given back."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from tileup.contracts import Encoded
from tileup.errors import ModelError
from tileup.text.chunks import Chunk, TokenRow, chunk_of
from tileup.text.clip import Clip, load_clip
from tileup.text.emphasis import ParsedPrompt
from tileup.text.finite import check_finite
from tileup.text.learned import Learned
from tileup.text.llm import Llm, load_llm
from tileup.text.llm_tokens import LlmTokenizer, tokenizer_of
from tileup.text.prompt_context import USUAL, PromptContext
from tileup.text.recipes import ClipUse, Recipe, T5Use
from tileup.text.t5 import T5, load_t5
from tileup.text.t5_tokens import T5Tokenizer, load_t5_tokenizer
from tileup.text.token_rows import NAMES, PromptTokenizer
from tileup.text.token_weights import away_from_nothing, scaled

log = logging.getLogger(__name__)

ReadTensors = Callable[[], Mapping[str, Tensor]]
"""Reads an encoder's tensors, names without the file's prefix."""
OnLoaded = Callable[[str, nn.Module], None]
"""Given the name of an encoder (clip_l, clip_g, clip_h, t5, llm) and its network, just loaded."""
T5_WIDTH = 4096
"""Of T5-XXL's features."""

TokenizerT = TypeVar("TokenizerT")

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
    tokenizer: Path | bytes | None = None,
    asked: bool = True,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    features: int | None = None,
    on_loaded: OnLoaded = lambda part, encoder: None,
    context: PromptContext = USUAL,
) -> TextEncoder:
    """The text encoders of a model family; none of their tensors is read before the first text is.

    Args:
        recipe: of the family.
        parts: what is there of clip_l, clip_g, clip_h (SD 2's), t5 and llm (a language model);
            others are ignored.
        tokenizer: that of T5 or of the language model, where there is one: its folder,
            tokenizer.json or spiece.model, or the bytes that the encoder's file carries.
        asked: whether the user named it; else one that cannot be read gives way, with a warning, to
            the one that comes with tileup, where there is one.
        dtype: the encoders run in.
        device: they run on, and their results are put on.
        features: width of the tokens' features that the network takes, to be held against what
            the encoders give; and without T5 that of the zeros in its place.
        on_loaded: given each encoder whenever its weights were loaded; it may change them.
        context: how prompts are read.

    Raises:
        ModelError: an encoder or its tokenizer is missing; the message names the flag for it; or
            an embedding fits none of the encoders.
    """
    for part in recipe.parts:
        if part not in parts and part in recipe.required:
            flag = _FLAGS.get(part, f"--{part.replace('_', '-')}")
            flag = "" if part == "clip_h" else f"; give it with {flag}"
            raise ModelError(f"the text encoder {NAMES[part]} is missing{flag}")
    used = {part: parts[part] for part in recipe.parts if part in parts}
    if context.clip_skip is not None and not recipe.clip_tokens:
        log.warning("clip-skip has no effect: this model takes no tokens of CLIP's")
    llm = recipe.llm if "llm" in used else None
    shipped = llm is None or llm.tokenizer_shipped
    read = _read_asked if asked or not shipped else _read_or_shipped
    return TextEncoder(
        recipe,
        used,
        read(load_t5_tokenizer, tokenizer) if "t5" in used else None,
        read(partial(tokenizer_of, llm), tokenizer) if llm else None,
        dtype=dtype,
        device=device,
        features=features,
        on_loaded=on_loaded,
        context=context,
    )


def _read_asked(
    load: Callable[[Path | bytes | None], TokenizerT], given: Path | bytes | None
) -> TokenizerT:
    return load(given)


def _read_or_shipped(
    load: Callable[[Path | bytes | None], TokenizerT], given: Path | bytes | None
) -> TokenizerT:
    try:
        return load(given)
    except ModelError as error:
        reason = str(error).partition(";")[0]
        log.warning("%s: the one that comes with tileup takes its place", reason)
        return load(None)


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
        context: PromptContext,
    ) -> None:
        self._recipe = recipe
        self._parts = parts
        self._dtype = dtype
        self._device = device
        self._features = features
        self._on_loaded = on_loaded
        self._context = context
        self._learned = {use.part: Learned(use.part, parts[use.part]) for use in recipe.clips}
        self._rows = PromptTokenizer(
            recipe, parts, self._learned, t5_tokenizer, llm_tokenizer, context
        )
        self._known: dict[str, dict[TokenRow, _Features]] = {part: {} for part in parts}

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
        written = {
            text: self._rows.read(text) for pair in texts for text in pair if text is not None
        }
        counts = [
            self._rows.count([written[text] for text in pair if text is not None]) for pair in texts
        ]
        pairs = list(zip(texts, counts, strict=True))
        each = [(written[text], n) for pair, n in pairs for text in pair if text is not None]
        for use in self._recipe.clips:
            rows = [self._rows.to_learn(use, text, n) for text, n in each]
            self._learn_clip(use, itertools.chain.from_iterable(rows))
        if "t5" in self._parts:
            self._learn_t5(self._rows.t5(text.plain) for text, _ in each)
        if "llm" in self._parts:
            self._learn_llm(self._rows.llm(text.plain)[0] for text, _ in each)

        def encoded(text: str | None, count: int) -> Encoded | None:
            return None if text is None else self._encoded(written[text], count)

        return [(self._encoded(written[pair[0]], n), encoded(pair[1], n)) for pair, n in pairs]

    def _learn_clip(self, use: ClipUse, rows: Iterable[TokenRow]) -> None:
        if new := self._new(use.part, rows):
            name = NAMES[use.part]
            tensors = self._parts[use.part]()
            clip = load_clip(
                tensors, act=use.act, what=name, dtype=self._dtype, device=self._device
            )
            self._on_loaded(use.part, clip.network)
            if (vectors := self._learned[use.part].vectors) is not None:
                clip.learn(vectors)
            for row in new:
                self._known[use.part][row] = _read_clip(
                    clip, use, row, name, self._context.clip_skip
                )

    def _learn_t5(self, rows: Iterable[TokenRow]) -> None:
        if new := self._new("t5", rows):
            t5 = load_t5(self._parts["t5"](), what="T5", dtype=self._dtype, device=self._device)
            self._on_loaded("t5", t5.network)
            for row in new:
                self._known["t5"][row] = _read_t5(t5, row, self._recipe.t5)

    def _learn_llm(self, rows: Iterable[TokenRow]) -> None:
        use = self._recipe.llm
        if (new := self._new("llm", rows)) and use is not None:
            llm = load_llm(self._parts["llm"](), use, dtype=self._dtype, device=self._device)
            self._on_loaded("llm", llm.network)
            for row in new:
                self._known["llm"][row] = _read_llm(llm, row, self._rows.seen(row))

    def _new(self, part: str, rows: Iterable[TokenRow]) -> list[TokenRow]:
        """Rows not seen yet, each once. One by one, so that no row's rounding hangs on others."""
        return [row for row in dict.fromkeys(rows) if row not in self._known[part]]

    def _encoded(self, text: ParsedPrompt, count: int) -> Encoded:
        recipe = self._recipe
        sides: list[Tensor] = []
        pooled: list[Tensor] = []
        for use in recipe.clips:
            chunks = self._rows.chunks(use, text, count)
            sides.append(torch.cat([self._features_of(use, chunk) for chunk in chunks]))
            whole = self._known[use.part][chunks[0].ids].pooled
            pooled += [] if whole is None else [whole]
        tokens = self._joined(torch.cat(sides, dim=1) if recipe.clip_tokens else None, text.plain)
        if self._features is not None and tokens.shape[1] != self._features:
            raise ModelError(
                f"the text encoders give features {tokens.shape[1]} wide, the network takes"
                f" {self._features}; they belong to another model"
            )
        return Encoded(
            tokens[None].to(self._device),
            torch.cat(pooled)[None].to(self._device) if pooled else None,
        )

    def _features_of(self, use: ClipUse, chunk: Chunk) -> Tensor:
        """Features of the tokens of one chunk, shape (77, width), as much as each counts."""
        known = self._known[use.part]
        features = known[chunk.ids].tokens
        if not chunk.weighted:
            return features
        weights = torch.tensor(chunk.weights)
        if self._context.style == "comfyui":
            return away_from_nothing(features, weights, known[chunk_of([], use).ids].tokens)
        return scaled(features, weights)

    def _joined(self, clip: Tensor | None, text: str) -> Tensor:
        """CLIP's tokens, shape (length, width), followed by T5's, both as wide as T5's are."""
        if self._recipe.llm is not None:
            row, dropped = self._rows.llm(text)
            return self._known["llm"][row].tokens[dropped:]
        use = self._recipe.t5
        if use is None:
            assert clip is not None
            return clip
        if "t5" in self._parts:
            t5 = self._known["t5"][self._rows.t5(text)].tokens
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


def _read_clip(
    clip: Clip, use: ClipUse, row: TokenRow, name: str, clip_skip: int | None
) -> _Features:
    output = clip([row])
    layers = len(output.hidden) - 1
    from_end = (use.skip + 1 if clip_skip is None else clip_skip) - (
        use.part == "clip_h" and clip.trimmed
    )
    if clip_skip is not None and not 1 <= from_end <= layers:
        raise ModelError(
            f"clip-skip {clip_skip} cannot be: the file of {name} has no such layer, but {layers}"
            f" {'without its last one' if from_end < 1 else 'in all'}"
        )
    hidden = output.hidden[-from_end]
    tokens = clip.normed(hidden) if use.normed else hidden
    check_finite(tokens, clip.tensors(), name)
    if use.pooled == "none":
        return _Features(tokens[0].float().cpu())
    pooled = clip.projected(output.pooled) if use.pooled == "projected" else output.pooled
    check_finite(pooled, clip.tensors(), name)
    return _Features(tokens[0].float().cpu(), pooled[0].float().cpu())


def _read_t5(t5: T5, row: TokenRow, use: T5Use | None) -> _Features:
    unseen = 0 if use is None or use.filled else 1
    tokens = t5([row], unseen)
    check_finite(tokens, t5.tensors(), "T5")
    return _Features(tokens[0].float().cpu())


def _read_llm(llm: Llm, row: TokenRow, seen: Sequence[bool] | None) -> _Features:
    tokens = llm(row, seen)
    check_finite(tokens, llm.tensors(), llm.title)
    return _Features(tokens.float().cpu())
