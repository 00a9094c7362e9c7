"""What prompts name besides words: LoRAs and embeddings, looked up in the folders of models."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from tileup.checkpoints.find import find_model, named_model
from tileup.errors import ModelError
from tileup.settings.values import Settings, parse_weighted
from tileup.text.embeddings import Embedding, by_name, open_embedding
from tileup.text.emphasis import EmbeddingRef, Tag, read_prompt, tags_of
from tileup.text.prompt_context import PromptContext

log = logging.getLogger(__name__)


def loras_of(settings: Settings) -> list[tuple[str, float]]:
    """File and weight of every LoRA that is asked for, by its flag or in the prompt.

    A prompt's are looked up by name in the folders of TILEUP_MODELS; those that are not there are
    left out, and the text encoder says so when it reads the prompt.

    Raises:
        UsageError: a weight is not between -4 and 4.
    """
    given = [parse_weighted(each) for each in settings.lora]
    found = [(tag, named_model(tag.name)) for tag in _tags(settings)]
    named = [f"{path}:{tag.weight:g}" for tag, path in found if path is not None]
    return given + [parse_weighted(each) for each in named]


def _tags(settings: Settings) -> tuple[Tag, ...]:
    if settings.prompt_embeds is not None:
        return ()  # then no prompt is read
    return tuple(tag for tag in tags_of(settings.prompt) if tag.kind == "lora")


def files_in(prompt: str, settings: Settings) -> tuple[Path, ...]:
    """LoRAs and embeddings that a prompt names and that are there, in the prompt's order.

    Args:
        prompt: of all pictures, of one, or what they shall not look like.
        settings: say how prompts are written, and whether they are read at all.
    """
    if settings.prompt_embeds is not None:
        return ()
    written = read_prompt(prompt, settings.emphasis)
    names = [tag.name for tag in written.tags if tag.kind == "lora"]
    names += [each.name for each in written.pieces if isinstance(each, EmbeddingRef)]
    found = map(named_model, dict.fromkeys(names))
    return tuple(path for path in found if path is not None)


def context_of(settings: Settings, carried: Iterable[Embedding] = ()) -> PromptContext:
    """How prompts are read.

    Args:
        settings: with the prompt.
        carried: embeddings that LoRA files brought along.

    Raises:
        ModelError: a file that was given is not there, or is no embedding.
    """
    given = [open_embedding(find_model(each)) for each in settings.embedding]
    loras = (tag.name for tag in _tags(settings) if named_model(tag.name) is not None)
    return PromptContext(
        settings.emphasis,
        settings.clip_skip,
        by_name(given),
        by_name(carried),
        cache(_looked_up),
        frozenset(loras),
    )


def _looked_up(name: str) -> Embedding | None:
    path: Path | None = named_model(name)
    if path is None:
        return None
    try:
        return open_embedding(path)
    except ModelError as error:
        log.warning("embedding:%s cannot be used: %s", name, error)
        return None
