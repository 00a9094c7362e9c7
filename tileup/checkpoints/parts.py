"""Which file supplies each part of a model: the checkpoint itself, or one that a flag names.

No tensor is read here: what is missing is told before any work, everything at once.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tileup.checkpoints.find import Identified, find_model
from tileup.errors import ModelError
from tileup.families.family import Family
from tileup.families.foreign import VAE_SIGNS, kind_of
from tileup.families.table import FAMILIES
from tileup.settings.values import Settings
from tileup.storage.copies import given_file
from tileup.tensors.checkpoint import Checkpoint, open_checkpoint
from tileup.text.carried_tokenizers import CARRIERS

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Stored:
    """Where a part's tensors are."""

    checkpoint: Checkpoint
    prefix: str
    """What the names of its tensors begin with there."""

    def state_dict(self) -> dict[str, Tensor]:
        """The tensors without the prefix, memory-mapped."""
        return self.checkpoint.state_dict(self.prefix)

    @property
    def shown(self) -> str:
        """As messages name it."""
        return str(self.checkpoint.path)


@dataclass(frozen=True, slots=True)
class Carried:
    """A tokenizer that a text encoder's file carries in a tensor of bytes."""

    checkpoint: Checkpoint
    name: str
    """Of the tensor."""

    def read(self) -> bytes:
        """What it holds."""
        values = self.checkpoint.values(self.name)
        return b"" if values is None else values.astype(np.uint8).tobytes()


@dataclass(frozen=True, slots=True)
class Parts:
    """Everything a model of a latent family is made of."""

    network: Stored
    vae: Stored
    text: Mapping[str, Stored]
    """Text encoders by part: clip_l, clip_g, clip_h (SD 2's), t5 and llm (a language model); none
    with `prompt_embeds`."""
    tokenizer: Path | Carried | None
    """That of T5 or the language model: tokenizer.json, spiece.model or their folder; or carried by
    the encoder's own file."""


@dataclass(frozen=True, slots=True)
class Companion:
    """One kind of part beside the network."""

    title: str
    flag: str
    """Setting that names a file with it."""
    signs: tuple[str, ...]
    """A file has the part where it has one of these tensors behind a prefix."""
    bare: tuple[str, ...] = ("",)
    """Prefixes in files that hold little else; those of whole checkpoints are looked for too."""


_CLIP = ("text_model.embeddings.token_embedding.weight", "embeddings.token_embedding.weight")
_OPEN_CLIP = ("token_embedding.weight",)
COMPANIONS = {
    "vae": Companion("the VAE", "vae", VAE_SIGNS),
    "clip_l": Companion(
        "the text encoder CLIP-L",
        "clip_l",
        _CLIP,
        ("", "transformer.", "clip_l.", "text_encoders.clip_l."),
    ),
    "clip_h": Companion(
        "the text encoder of SD 2 (OpenCLIP-H)",
        "clip_l",
        (*_OPEN_CLIP, *_CLIP),
    ),
    "clip_g": Companion(
        "the text encoder CLIP-G",
        "clip_g",
        (*_OPEN_CLIP, *_CLIP),
        ("", "transformer.", "model.", "clip_g.", "text_encoders.clip_g."),
    ),
    "t5": Companion(
        "the text encoder T5-XXL",
        "t5",
        ("shared.weight", "encoder.embed_tokens.weight"),
        ("", "transformer.", "t5xxl.", "text_encoders.t5xxl."),
    ),
    "llm": Companion(
        "the text encoder",
        "text_encoder",
        ("layers.0.self_attn.q_proj.weight",),
        (
            "model.",
            "",
            "model.language_model.",
            "language_model.model.",
            "language_model.",
            "transformer.model.",
        ),
    ),
}
"""By name. The signs tell OpenCLIP's names from those of transformers, which both occur."""
TOKENIZED = ("t5", "llm")
"""Text encoders whose tokenizer can be a file of its own; T5's ships with tileup."""
VAE_INSIDE = ("first_stage_model.", "vae.")
"""Where the VAE is in a whole checkpoint."""


def prefixes_of(name: str, family: Family) -> tuple[str, ...]:
    """What the names of a part's tensors may begin with in a family's whole checkpoints."""
    return VAE_INSIDE if name == "vae" else family.inside.get(name, ())


def title_of(name: str, family: Family) -> str:
    """A part as messages call it: `the VAE`, `the text encoder Qwen3 4B`."""
    llm = family.text.llm
    title = COMPANIONS[name].title
    return f"{title} {llm.title}" if name == "llm" and llm is not None else title


def parts_of(known: Identified, settings: Settings) -> Parts:
    """Find every part of a model.

    Args:
        known: the checkpoint, of a latent family.
        settings: name further files.

    Raises:
        ModelError: parts are missing (all are named, each with its flag), or a flag's file is not
            there or holds something else.
    """
    if known.found is None:
        raise ValueError("a checkpoint of our own is whole")
    recipe = known.found.family.text
    vae = _found("vae", known, settings)
    text = {} if settings.prompt_embeds else dict(_text(known, settings))
    tokenizer = _tokenizer(known, settings) or _carried(text)
    for flag in _unused(recipe.parts, settings):
        log.warning("%s has no effect: this model has no such part", flag)
    missing: list[str] = []
    if vae is None:
        missing.append("vae")
    needed = () if settings.prompt_embeds else recipe.required
    wants_tokenizer = tokenizer is None and any(
        each in text or each in needed for each in recipe.tokenized
    )
    missing += [each for each in needed if each not in text]
    if missing or wants_tokenizer or vae is None:
        raise ModelError(_lacking(known, missing, wants_tokenizer))
    network = Stored(known.checkpoint, known.found.prefix)
    return Parts(network, vae, text, tokenizer if {*text} & {*TOKENIZED} else None)


def _unused(encoders: Collection[str], settings: Settings) -> Iterator[str]:
    """Flags that name parts which a family does not have."""
    flags = {COMPANIONS[name].flag for name in encoders} | (
        {"tokenizer"} if {*encoders} & {*TOKENIZED} else set()
    )
    for name in ("clip_l", "clip_g", "t5", "text_encoder", "tokenizer"):
        if getattr(settings, name) is not None and name not in flags:
            yield "--" + name.replace("_", "-")


def inside(known: Identified) -> dict[str, Stored]:
    """The parts, besides the network, that a checkpoint has itself, by name."""
    if known.found is None:
        return {}
    names = ("vae", *known.found.family.text.parts)
    found = ((name, _in_checkpoint(name, known)) for name in names)
    return {name: source for name, source in found if source is not None}


def _text(known: Identified, settings: Settings) -> Iterator[tuple[str, Stored]]:
    parts = known.found.family.text.parts if known.found else ()
    for name in parts:
        if (source := _found(name, known, settings)) is not None:
            yield name, source


def _found(name: str, known: Identified, settings: Settings) -> Stored | None:
    path: str | None = getattr(settings, COMPANIONS[name].flag)
    return _in_checkpoint(name, known) if path is None else part_in_file(name, path)


def _in_checkpoint(name: str, known: Identified) -> Stored | None:
    prefixes = prefixes_of(name, known.found.family) if known.found else ()
    return _behind(COMPANIONS[name], known.checkpoint, prefixes)


def part_in_file(name: str, path: str) -> Stored:
    """A part in the file that a flag names.

    Raises:
        ModelError: the file is not there, is no checkpoint, or holds something else.
    """
    kind = COMPANIONS[name]
    checkpoint = open_checkpoint(find_model(path))
    every = dict.fromkeys(each for family in FAMILIES for each in prefixes_of(name, family))
    source = _behind(kind, checkpoint, (*kind.bare, *every))
    if source is None:
        flag = "--" + kind.flag.replace("_", "-")
        what = kind_of(checkpoint.tensors)
        is_what = f"it is {what.title}" if what else "it has none of its tensors"
        raise ModelError(f"{flag} {path} is not {kind.title}: {is_what}")
    return source


def _behind(kind: Companion, checkpoint: Checkpoint, prefixes: tuple[str, ...]) -> Stored | None:
    for prefix in prefixes:
        if any(prefix + sign in checkpoint.tensors for sign in kind.signs):
            return Stored(checkpoint, prefix)
    return None


def _tokenizer(known: Identified, settings: Settings) -> Path | None:
    if settings.tokenizer is not None:
        path = given_file(settings.tokenizer)
        if not path.exists():
            raise ModelError(f"--tokenizer {path} is not there")
        return path
    folder = known.found.family.tokenizer if known.found else ""
    path = known.checkpoint.path / folder
    return path if folder and path.is_dir() else None


def _carried(text: Mapping[str, Stored]) -> Carried | None:
    """The tokenizer that the file of T5 or of the language model carries."""
    for part in TOKENIZED:
        for name, info in text[part].checkpoint.tensors.items() if part in text else ():
            if name.rpartition(".")[2] in CARRIERS and info.dtype == "U8":
                return Carried(text[part].checkpoint, name)
    return None


def _lacking(known: Identified, missing: list[str], tokenizer: bool) -> str:
    assert known.found is not None
    family = known.found.family
    flags = [(title_of(name, family), COMPANIONS[name].flag) for name in missing]
    if tokenizer:
        assert family.text.llm is not None
        flags.append((f"{family.text.llm.title}'s tokenizer", "tokenizer"))
    wanted = ", ".join(f"{title} (--{flag.replace('_', '-')})" for title, flag in flags)
    embeds = " --prompt-embeds takes the place of all text encoders." if missing != ["vae"] else ""
    return f"{known.checkpoint.path} holds no whole model; give as well: {wanted}.{embeds}"
