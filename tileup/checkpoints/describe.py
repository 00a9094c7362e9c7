"""A checkpoint in figures and words, without its tensors."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from tileup.checkpoints.additions import facts_of
from tileup.checkpoints.find import Identified
from tileup.checkpoints.parts import COMPANIONS, inside, title_of
from tileup.contracts import ModelSpec
from tileup.errors import ModelError, UnknownCheckpointError
from tileup.families.bundled_header import DEBLOCK, RANGES, VIVID, bundled_spec, is_bundled
from tileup.families.detection import NoNetworkError, detect
from tileup.families.family import Detected, Prediction
from tileup.families.predictions import prediction_of, published_spec
from tileup.tensors.checkpoint import Checkpoint, open_checkpoint
from tileup.tensors.formats import marks_of
from tileup.tensors.scaled import is_helper

UNTOLD = Prediction("", "neither its tensors nor its metadata tell; give --prediction")


@dataclass(frozen=True, slots=True)
class Amount:
    """Tensors counted."""

    tensors: int
    parameters: Mapping[str, int]
    """Numbers stored in each precision."""

    @property
    def total(self) -> int:
        """Numbers in all precisions."""
        return sum(self.parameters.values())

    @property
    def precisions(self) -> str:
        """The precisions in words, the most used first."""
        ordered = sorted(self.parameters, key=lambda name: -self.parameters[name])
        return ", ".join(ordered)


@dataclass(frozen=True, slots=True)
class PartInfo:
    """A part that a model needs or can use."""

    title: str
    """As people call it: `network`, `VAE`, `CLIP-L`."""
    amount: Amount | None
    """What of it is in the checkpoint; None where it is not there."""
    advice: str = ""
    """How to supply it, where it is not there."""


@dataclass(frozen=True, slots=True)
class CheckpointInfo:
    """A checkpoint described for people."""

    path: Path
    title: str
    """What it is."""
    family: str
    """The family of its defaults; empty where it is no model by itself."""
    prediction: Prediction
    """What it predicts, and how that is known."""
    amount: Amount
    bytes: int
    parts: tuple[PartInfo, ...]
    """The parts of a model."""
    shapes: Mapping[str, str]
    """What the spec says in words."""
    facts: Mapping[str, str] = field(default_factory=dict[str, str])
    """Of what goes with a model: for which ones it is, and of what kind, by headings."""
    header: Mapping[str, object] = field(default_factory=dict[str, object])
    """Parsed metadata."""

    @property
    def parameters(self) -> int:
        """Numbers in all tensors."""
        return self.amount.total


def describe(path: Path) -> CheckpointInfo:
    """A checkpoint in figures and words, without its tensors.

    What is no model but goes with one (a LoRA, a VAE, a ControlNet, a text encoder) is described
    too.

    Raises:
        ModelError: it is unreadable or damaged.
        UnknownCheckpointError: it is of no family that tileup can load, nor goes with one.
    """
    checkpoint = open_checkpoint(path)
    if is_bundled(checkpoint):
        told = Prediction("x0", "its family")
        spec = bundled_spec(checkpoint)
        return _info(checkpoint, "a model of tileup's own", told, spec, _networks(checkpoint))
    try:
        found = detect(checkpoint)
    except NoNetworkError as error:
        title = f"{error.kind.title}: {error.kind.advice}"
        return replace(
            _info(checkpoint, title, UNTOLD, None), facts=facts_of(checkpoint, error.kind)
        )
    told = _told(checkpoint, found)
    spec = published_spec(checkpoint, found, told)
    known = Identified(checkpoint, spec, found, told)
    return _info(checkpoint, found.variant, told, spec, tuple(_parts(known, found)), found)


def _networks(checkpoint: Checkpoint) -> tuple[PartInfo, ...]:
    """The networks of a checkpoint of our own: one, and those for texture and for JPEG if any."""
    base = [name for name in checkpoint.tensors if not name.startswith((VIVID, DEBLOCK))]
    others = {VIVID: "network for texture", DEBLOCK: "network for JPEG's damage"}
    return PartInfo("network", _amount(checkpoint, base)), *(
        PartInfo(title, _behind(checkpoint, prefix))
        for prefix, title in others.items()
        if any(name.startswith(prefix) for name in checkpoint.tensors)
    )


def _told(checkpoint: Checkpoint, found: Detected) -> Prediction:
    try:
        return prediction_of(checkpoint, found, None)
    except UnknownCheckpointError:
        raise
    except ModelError:
        return UNTOLD


def _info(
    checkpoint: Checkpoint,
    title: str,
    told: Prediction,
    spec: ModelSpec | None,
    parts: tuple[PartInfo, ...] = (),
    found: Detected | None = None,
) -> CheckpointInfo:
    return CheckpointInfo(
        path=checkpoint.path,
        title=title,
        family=spec.family if spec else "",
        prediction=told,
        amount=_amount(checkpoint, checkpoint.tensors),
        bytes=checkpoint.bytes,
        parts=parts,
        shapes=_shapes(spec, found) if spec else {},
        header=_parsed(checkpoint.metadata),
    )


def _amount(checkpoint: Checkpoint, names: Iterable[str]) -> Amount:
    parameters: Counter[str] = Counter()
    names, marks = list(names), marks_of(checkpoint)
    for name in names:
        if not is_helper(name) and name.rpartition(".")[2] != RANGES:
            info = checkpoint.tensors[name]
            mark = marks.get(name.removesuffix(".weight"))
            parameters[mark.title if mark else info.dtype] += info.elements
    return Amount(len(names), dict(parameters))


def _behind(checkpoint: Checkpoint, prefix: str) -> Amount:
    return _amount(checkpoint, [name for name in checkpoint.tensors if name.startswith(prefix)])


def _parts(known: Identified, found: Detected) -> Iterator[PartInfo]:
    checkpoint, there = known.checkpoint, inside(known)
    others = tuple(source.prefix for source in there.values())
    network = [
        name
        for name in checkpoint.tensors
        if name.startswith(found.prefix) and (found.prefix or not name.startswith(others))
    ]
    yield PartInfo("network", _amount(checkpoint, network))
    recipe = found.family.text
    for name in ("vae", *recipe.parts):
        kind = COMPANIONS[name]
        title = title_of(name, found.family).removeprefix("the ").removeprefix("text encoder ")
        if name in there:
            yield PartInfo(title, _behind(checkpoint, there[name].prefix))
            continue
        optional = name != "vae" and name not in recipe.required
        flag = f"--{kind.flag.replace('_', '-')} FILE"
        if name in recipe.tokenized:
            flag += " --tokenizer PATH"
        yield PartInfo(title, None, f"{flag}, or go without" if optional else flag)


def _shapes(spec: ModelSpec, found: Detected | None) -> dict[str, str]:
    text = {"text": f"{found.context} features per token"} if found else {}
    return {
        "stride": f"{spec.stride} px per latent cell",
        "latent channels": str(spec.channels),
        **text,
        "window": f"{spec.window} px, sides in multiples of {spec.multiple}",
        "noise levels": f"{spec.levels.sigma_min:g} to {spec.levels.sigma_max:g}",
    }


def _parsed(metadata: Mapping[str, str]) -> dict[str, object]:
    result: dict[str, object] = {}
    for name, text in metadata.items():
        try:
            result[name] = json.loads(text)
        except (ValueError, RecursionError):
            result[name] = text
    return result
