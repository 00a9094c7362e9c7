"""Texts as the rows of tokens that each encoder of a family is given."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence

from tileup.errors import ModelError
from tileup.text.chunks import Chunk, Group, TokenRow, chunk_of, chunks_of
from tileup.text.emphasis import EmbeddingRef, ParsedPrompt, WeightedText, read_prompt
from tileup.text.learned import Learned
from tileup.text.llm_tokens import LlmTokenizer
from tileup.text.prompt_context import PromptContext
from tileup.text.recipes import ClipUse, Recipe
from tileup.text.t5_tokens import T5Tokenizer
from tileup.text.tokens import CHUNK, clip_ids

log = logging.getLogger(__name__)

NAMES = {
    "clip_l": "CLIP-L",
    "clip_g": "CLIP-G",
    "clip_h": "CLIP-H",
    "t5": "T5",
    "llm": "that reads prompts",
}
"""What messages call the encoders."""


class PromptTokenizer:
    """Reads prompts, and says once what of them cannot be used."""

    def __init__(
        self,
        recipe: Recipe,
        parts: Iterable[str],
        learned: Mapping[str, Learned],
        t5_tokenizer: T5Tokenizer | None,
        llm_tokenizer: LlmTokenizer | None,
        context: PromptContext,
    ) -> None:
        """Args:
        recipe: of the family.
        parts: the encoders that are there.
        learned: of each CLIP, what embeddings are to it.
        t5_tokenizer, llm_tokenizer: where those are there.
        context: how prompts are read.

        Raises:
            ModelError: an embedding that was given fits no encoder.
        """
        self._recipe = recipe
        self._parts = frozenset(parts)
        self._learned = learned
        self._t5_tokenizer = t5_tokenizer
        self._llm_tokenizer = llm_tokenizer
        self._context = context
        self._warned: set[str] = set()
        self._check_embeddings()

    def read(self, text: str) -> ParsedPrompt:
        """A prompt in its parts; what of it cannot be used is said once."""
        written = read_prompt(text, self._context.style, self._context.names)
        for tag in written.tags:
            if tag.kind != "lora" or tag.name not in self._context.loras:
                self._warn(
                    f"{tag.text} in a prompt is left out: LoRAs count in --prompt, where a folder"
                    f" of TILEUP_MODELS holds a file of that name; or give --lora FILE"
                )
        for change in written.changing:
            self._warn(
                f"{change} in a prompt would change on the way, which tileup does not do: it counts"
                f" as it ends, or as its first word; \\[ makes a bracket text"
            )
        plainly = "t5" in self._parts or not self._recipe.clip_tokens
        if written.weighted and plainly:
            self._warn(
                "weights in a prompt, as in (red:1.3), are left out where T5 or a language model"
                " reads it: these take plain text"
            )
        return written

    def _check_embeddings(self) -> None:
        """Refuse embeddings that were given and fit no encoder.

        Raises:
            ModelError: names the embedding.
        """
        for embedding in self._context.embeddings.values():
            if not any(learned.ids(embedding) for learned in self._learned.values()):
                raise ModelError(
                    f"the embedding {embedding.name} belongs to another model: its vectors are"
                    f" {embedding.widths} wide, and no text encoder is"
                )

    def count(self, texts: Sequence[ParsedPrompt]) -> int:
        """Chunks of CLIP's that the longest of some texts takes."""
        if not self._recipe.chunked:
            return 1
        chunks = (self.chunks(use, text) for use in self._recipe.clips for text in texts)
        return max(map(len, chunks))

    def to_learn(self, use: ClipUse, text: ParsedPrompt, count: int) -> list[TokenRow]:
        """What a CLIP must be asked for a prompt of so many chunks."""
        chunks = self.chunks(use, text, count)
        weighted = any(chunk.weighted for chunk in chunks)
        return [chunk.ids for chunk in [*chunks, *[chunk_of([], use)] * weighted]]

    def chunks(self, use: ClipUse, text: ParsedPrompt, count: int = 1) -> list[Chunk]:
        """A prompt in chunks, followed by empty ones up to a number."""
        style = self._context.style
        groups = list(self._groups(use, text))
        if not self._recipe.chunked:
            return [self._cut(use, groups)]
        chunks = chunks_of(groups, use, style)
        return chunks + [chunk_of([], use)] * (count - len(chunks))

    def _groups(self, use: ClipUse, text: ParsedPrompt) -> Iterator[Group | None]:
        for piece in text.pieces:
            if isinstance(piece, WeightedText):
                yield Group(tuple(clip_ids(piece.text)), piece.weight)
            elif isinstance(piece, EmbeddingRef):
                yield Group(self._vectors(use, piece.name), piece.weight, whole=True)
            else:
                yield None

    def _vectors(self, use: ClipUse, name: str) -> tuple[int, ...]:
        """Tokens that stand for an embedding; none where it has nothing for an encoder."""
        embedding = self._context.embedding(name)
        if embedding is None:
            self._warn(f"embedding:{name} is left out: no folder of TILEUP_MODELS holds its file")
            return ()
        ids = self._learned[use.part].ids(embedding)
        if not ids:
            self._warn(
                f"embedding:{name} has nothing for {NAMES[use.part]}: its vectors are"
                f" {embedding.widths} wide"
            )
        return ids

    def _cut(self, use: ClipUse, groups: Iterable[Group | None]) -> Chunk:
        """One chunk, for families that read no more."""
        tokens = [(each, group.weight) for group in groups if group for each in group.ids]
        if len(tokens) > CHUNK:
            self._warn_cut("CLIP", CHUNK, len(tokens))
        return chunk_of(tokens[:CHUNK], use)

    def t5(self, text: str) -> TokenRow:
        """A text's tokens for T5, filled as its family wants them."""
        use = self._recipe.t5
        assert self._t5_tokenizer is not None
        assert use is not None
        room = use.length - 1
        ids = self._t5_tokenizer.ids(text)
        if len(ids) > room:
            self._warn_cut("T5", room, len(ids))
        ids = ids[:room]
        return self._t5_tokenizer.row(ids, use.length if use.filled else len(ids) + 2)

    def llm(self, text: str) -> tuple[TokenRow, int]:
        """A text's tokens, and how many of their features are left out at the beginning."""
        use, tokenizer = self._recipe.llm, self._llm_tokenizer
        assert use is not None
        assert tokenizer is not None
        ids = tokenizer.ids(use.before + text + use.after)
        if len(ids) > use.length:
            self._warn_cut("the text encoder", use.length, len(ids))
        ids = ids[: use.length]
        if use.filling:
            padding = [tokenizer.id(use.filling)] * (use.length - len(ids))
            ids = padding + ids if use.filled_before else ids + padding
        return tuple(ids), len(tokenizer.ids(use.before)) if use.dropped else 0

    def seen(self, row: TokenRow) -> list[bool] | None:
        """For each token whether it is no padding; None: all are none."""
        use, tokenizer = self._recipe.llm, self._llm_tokenizer
        if use is None or tokenizer is None or not use.filling:
            return None
        padding = tokenizer.id(use.filling)
        inward = row if use.filled_before else row[::-1]
        unseen = len([*itertools.takewhile(lambda token: token == padding, inward)])
        seen = [False] * unseen + [True] * (len(row) - unseen)
        return seen if use.filled_before else seen[::-1]

    def _warn_cut(self, reader: str, room: int, length: int) -> None:
        if reader not in self._warned:
            self._warned.add(reader)
            self._warn(
                f"a prompt is longer than {reader} reads: its first {room} tokens count,"
                f" of {length}"
            )

    def _warn(self, message: str) -> None:
        """Say something, once."""
        if message not in self._warned:
            self._warned.add(message)
            log.warning("%s", message)
