"""Files that are named beside a checkpoint: refused before any work where they cannot be used.

Only their heads are read, so no torch is needed.
"""

from __future__ import annotations

from pathlib import Path

from tileup.checkpoints.find import Identified, find_model
from tileup.checkpoints.parts import COMPANIONS, part_in_file
from tileup.checkpoints.prompted import loras_of
from tileup.enlarge.enlargers import version_of
from tileup.errors import ModelError
from tileup.families.detection import NoNetworkError, detect
from tileup.families.foreign import UNUSED_CONTROLS, Kind
from tileup.families.table import FAMILIES, named
from tileup.settings.setting import dashed
from tileup.settings.values import LANCZOS, Settings
from tileup.storage.copies import given_file
from tileup.tensors.checkpoint import Checkpoint, open_checkpoint

ADDED = (
    *("control", "lora", "vae", "clip_l", "clip_g", "t5", "text_encoder"),
    *("prompt_embeds", "embedding"),
)
"""Settings that add something to a checkpoint of a latent family."""


def check_given(known: Identified, settings: Settings) -> None:
    """Refuse files that loading or enlarging would refuse by their heads.

    Raises:
        ModelError: a file is not there, is no checkpoint, holds something else than its flag says,
            or goes with no checkpoint of this kind.
    """
    if settings.upscaler != LANCZOS:
        version_of(given_file(settings.upscaler))
    if known.found is None:
        refuse_parts(settings, known.checkpoint.path)
        return
    refuse_runtime(settings, known.checkpoint.path)
    for name in dict.fromkeys(("vae", *known.found.family.text.parts)):
        if (path := getattr(settings, COMPANIONS[name].flag)) is not None:
            part_in_file(name, path)
    for name, _ in loras_of(settings):
        refuse_misplaced(find_model(name), "lora", "a LoRA")
    for name in settings.embedding:
        refuse_misplaced(find_model(name), "inversion", "an embedding")
    if settings.control is not None:
        refuse_control(known)
        refuse_misplaced(find_model(settings.control), "controlnet", "a ControlNet")
    for name in ("tokenizer", "prompt_embeds"):
        path = getattr(settings, name)
        if path is not None and not given_file(path).exists():
            raise ModelError(f"--{dashed(name)} {path} is not there")


def refuse_runtime(settings: Settings, path: Path) -> None:
    """Refuse a runtime that computes no diffusion checkpoint.

    Raises:
        ModelError: names the flag.
    """
    if settings.runtime not in ("auto", "torch"):
        raise ModelError(
            f"--runtime {settings.runtime} computes the bundled checkpoint and its like, and "
            f"{path.name} is none: leave it out"
        )


def refuse_parts(settings: Settings, path: Path) -> None:
    """Refuse what a checkpoint of our own has no place for.

    Raises:
        ModelError: names the flag.
    """
    for name in ADDED:
        if getattr(settings, name):
            raise ModelError(
                f"--{dashed(name)} goes with diffusion checkpoints, and {path.name} is none: give"
                f" one with --model"
            )


def refuse_control(known: Identified) -> None:
    """Refuse a control network for a family that has no place for one.

    Raises:
        ModelError: names the families that have.
    """
    family = known.found.family if known.found else None
    if family is not None and not family.controlled:
        able = named((each for each in FAMILIES if each.controlled), last="and")
        raise ModelError(
            f"--control works with {able}; {known.checkpoint.path} is of the family {family.name}:"
            f" a lower --denoise holds it to the picture"
        )


def refuse_misplaced(path: Path, wanted: str, title: str) -> None:
    """Refuse a file of which it is known that it is something else than its flag says, and control
    networks of families that are not controlled.

    Args:
        path: the file.
        wanted: name of the kind that it should be of.
        title: of this kind, with an article.

    Raises:
        ModelError: says what it is, and where it belongs; or it is no checkpoint.
    """
    kind = _kind(open_checkpoint(path))
    if kind in UNUSED_CONTROLS:
        raise ModelError(f"{path} is {kind.title}; {kind.advice}")
    if kind is not None and kind.name != wanted:
        raise ModelError(f"{path} is {kind.title}, and not {title}; {kind.advice}")


def _kind(checkpoint: Checkpoint) -> Kind | None:
    """What a file is, a whole model too; None where that is not known."""
    try:
        found = detect(checkpoint)
    except NoNetworkError as error:
        return error.kind
    except ModelError:
        return None
    return Kind("model", f"a whole model ({found.variant})", "give it with -m")
