"""The work of `tileup info`: what a picture or a checkpoint says about itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from tileup.checkpoints.describe import CheckpointInfo, PartInfo, describe
from tileup.checkpoints.find import EXTENSIONS, find_model
from tileup.cli.tables import print_text
from tileup.engine.standard_output import say
from tileup.errors import InputError, ModelError, NoInputError
from tileup.images.formats.format import OpenedPicture
from tileup.images.formats.known import format_of
from tileup.images.metadata import read_metadata
from tileup.images.reading import opened
from tileup.storage.remote import place
from tileup.storage.urls import told_url
from tileup.tensors.checkpoint import is_index
from tileup.wording import counted

FactList = list[tuple[str, str]]
"""Names and values, in order."""


def show_info(name: str, as_json: bool = False) -> None:
    """Print what is known of a file, or of a model by name.

    Args:
        name: the file or the model.
        as_json: print one object of JSON, for programs.

    Raises:
        NoInputError: it is neither a picture nor there at all.
        ModelError: it is a checkpoint that is damaged or of no known family.
    """
    path = place(name)
    told = _of_checkpoint(describe(_model(name))) if _is_model(path) else _of_picture(path)
    if as_json:
        say(json.dumps(told.values))
        return
    width = max(len(key) for key, _ in told.facts) + 2
    for key, value in told.facts:
        print_text(f"{key:<{width}}{value}")


@dataclass(frozen=True, slots=True)
class FileInfo:
    """What is known of a file."""

    facts: FactList
    """For people."""
    values: Mapping[str, object]
    """For programs; JSON can hold all of it."""


def _is_model(path: Path) -> bool:
    return path.suffix in EXTENSIONS or is_index(path) or path.is_dir() or not path.exists()


def _model(name: str) -> Path:
    try:
        return find_model(name)
    except ModelError as error:
        if place(name).suffix in EXTENSIONS:
            raise
        raise NoInputError(
            f"{told_url(name)} does not exist, and no model has this name; "
            f"check the name and the folder"
        ) from error


def _of_checkpoint(info: CheckpointInfo) -> FileInfo:
    values = {
        "kind": "checkpoint",
        "file": str(info.path),
        "what": info.title,
        "family": info.family or None,
        "prediction": info.prediction.name or None,
        "facts": dict(info.facts),
        "tensors": info.amount.tensors,
        "parameters": info.amount.total,
        "precision": dict(info.amount.parameters),
        "bytes": info.bytes,
        "parts": {part.title: part.amount and part.amount.total for part in info.parts},
        "header": dict(info.header),
    }
    return FileInfo(_checkpoint(info), values)


def _checkpoint(info: CheckpointInfo) -> FactList:
    amount, told = info.amount, info.prediction
    facts = [("file", str(info.path)), ("what", info.title), *info.facts.items()]
    if info.family:
        predicts = f"{told.name} (from {told.told_by})" if told.name else f"? ({told.told_by})"
        facts += [("family", info.family), ("prediction", predicts)]
    facts += [
        ("parameters", f"{amount.total:,} in {counted(amount.tensors, 'tensor')}"),
        ("precision", ", ".join(f"{name}: {count:,}" for name, count in amount.parameters.items())),
        ("size", f"{info.bytes / 1e6:.1f} MB"),
    ]
    facts += [(part.title, _part(part)) for part in info.parts]
    facts += list(info.shapes.items())
    return facts + [(key, _short(value)) for key, value in info.header.items()]


def _part(part: PartInfo) -> str:
    if part.amount is None:
        return f"not in the file: {part.advice}"
    return f"{counted(part.amount.total, 'parameter')}, {part.amount.precisions}"


def _short(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 1000 else text[:1000] + " ..."


def _of_picture(path: Path) -> FileInfo:
    try:
        with opened(path) as (found, _):
            values = _of_file(path, found)
        said = read_metadata(path)
    except InputError as error:
        raise NoInputError(str(error)) from error
    facts = [
        ("file", str(path)),
        ("format", str(values["format"])),
        ("size", f"{values['width']}x{values['height']} pixels, {values['bytes'] / 1e6:.2f} MB"),
        ("mode", str(values["mode"])),
        ("profile", values["profile"] or "none (sRGB is assumed)"),
    ]
    return FileInfo([*facts, *said.items()], {**values, "metadata": dict(said)})


def _of_file(path: Path, found: OpenedPicture) -> dict[str, Any]:
    head = found.head
    return {
        "kind": "picture",
        "file": str(path),
        "format": format_of(found.format).pillow[0],
        "width": head.width,
        "height": head.height,
        "bytes": path.stat().st_size,
        "mode": head.mode,
        "profile": _profile_name(head.icc) if head.icc else None,
    }


def _profile_name(profile: bytes) -> str:
    from PIL import ImageCms

    try:
        return ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(BytesIO(profile))).strip()
    except (ImageCms.PyCMSError, OSError):
        return f"{len(profile)} bytes that are no profile"
