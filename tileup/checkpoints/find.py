"""Checkpoints: found by name, and told what they are from their heads alone. No torch needed.

The head of a safetensors file is enough; a pickle has none, so torch opens it, without reading its
tensors.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tileup.contracts import ModelSpec
from tileup.errors import ModelError, UsageError
from tileup.families.bundled_header import bundled_spec, is_bundled
from tileup.families.detection import detect
from tileup.families.family import Detected, Prediction
from tileup.families.predictions import prediction_of, published_spec
from tileup.resources import resource
from tileup.settings.values import did_you_mean
from tileup.storage.copies import given_file
from tileup.storage.urls import is_url
from tileup.tensors.checkpoint import (
    MODEL_INDEX,
    PICKLES,
    Checkpoint,
    is_index,
    is_shard,
    open_checkpoint,
    stem,
)

BUNDLED = "tileup-small"
"""Stem of the checkpoint that ships with tileup."""
FOLDERS = "TILEUP_MODELS"
"""Environment variable: folders in which models are looked up by name."""
EXTENSIONS = (".safetensors", ".sft", ".gguf", *PICKLES)
"""Of files that may be models, the preferred first."""


def find_model(name: str | None) -> Path:
    """Path of a model.

    Args:
        name: a file or a folder, also by URL; or a name, with or without extension, in a folder of
            TILEUP_MODELS or among the shipped models; None is the bundled one.

    Raises:
        ModelError: there is none; says which known name is near.
        UsageError: it is a URL that is not taken.
    """
    if name is not None and is_url(name):
        return given_file(name)
    if name is not None and (path := Path(name).expanduser()).exists():
        if not path.is_file() and not path.is_dir():  # a pipe would be waited for
            raise ModelError(
                f"{path} is neither a file nor a folder; copy the model to a file first"
            )
        return path.resolve()
    known = _known()
    wanted = name or BUNDLED
    if wanted in known:
        return known[wanted]
    by_file = {path.name: path for path in reversed(known.values())}
    if wanted in by_file:
        return by_file[wanted]
    raise ModelError(
        f"model {wanted!r} is neither a file nor known by name{did_you_mean(wanted, [*known])};"
        f" give the path of a file, or set {FOLDERS} to the folder that holds it"
    )


def named_model(name: str) -> Path | None:
    """A model by its name alone, as prompts give it: none of the paths that it may also be.

    Args:
        name: with or without extension, in a folder of TILEUP_MODELS.

    Returns:
        Its path; None where there is none.
    """
    known = _known()
    if name in known:
        return known[name]
    return next((path for path in known.values() if path.name == name), None)


def _known() -> dict[str, Path]:
    """Models by name; of two with one name, that of the earlier folder."""
    folders = [Path(each) for each in os.environ.get(FOLDERS, "").split(os.pathsep) if each]
    known: dict[str, Path] = {}
    for folder in (*folders, resource("models")):
        for path in _models_in(folder.expanduser()):
            known.setdefault(path.name if path.is_dir() else stem(path), path)
    return known


def _models_in(folder: Path) -> Iterator[Path]:
    """What may be models in a folder, the preferred of each name first."""
    try:
        paths = sorted(folder.iterdir())
    except OSError:
        return
    yield from (path for path in paths if is_index(path) and path.is_file())
    for extension in EXTENSIONS:
        for path in paths:
            if path.suffix == extension and path.is_file() and not is_shard(path):
                yield path
    yield from (path for path in paths if (path / MODEL_INDEX).is_file())


@dataclass(frozen=True, slots=True)
class Identified:
    """A checkpoint of a known family."""

    checkpoint: Checkpoint
    spec: ModelSpec
    found: Detected | None
    """Its network; None for a checkpoint of our own."""
    prediction: Prediction


def identified(path: Path, prediction: str | None = None) -> Identified:
    """Open a checkpoint and tell what it is.

    Args:
        path: a file, an index of shards or a folder of diffusers.
        prediction: what it predicts, where its file does not say, or says wrongly.

    Raises:
        ModelError: it is unreadable or damaged, or what it predicts is not known.
        UnknownCheckpointError: it is of no family that tileup can load.
        UsageError: the prediction cannot be right.
    """
    checkpoint = open_checkpoint(path)
    if is_bundled(checkpoint):
        if prediction not in (None, "x0"):
            raise UsageError(f"prediction {prediction} cannot be right: {path} predicts x0")
        told = Prediction("x0", "its family")
        return Identified(checkpoint, bundled_spec(checkpoint), None, told)
    found = detect(checkpoint)
    told = prediction_of(checkpoint, found, prediction)
    return Identified(checkpoint, published_spec(checkpoint, found, told), found, told)


def identify(path: Path, prediction: str | None = None) -> ModelSpec:
    """What planning needs to know of a checkpoint; arguments and errors as `identified`."""
    return identified(path, prediction).spec
