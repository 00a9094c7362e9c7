"""The work of `tileup info`: what a picture or a checkpoint says about itself."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path

from tileup.checkpoints.describe import PartInfo, describe
from tileup.checkpoints.find import EXTENSIONS, find_model
from tileup.cli.tables import print_text
from tileup.errors import InputError, ModelError, NoInputError
from tileup.images.formats import format_of
from tileup.images.formats.format import Opened
from tileup.images.metadata import read_metadata
from tileup.images.reading import opened
from tileup.tensors.checkpoint import is_index
from tileup.wording import counted

Facts = list[tuple[str, str]]
"""Names and values, in order."""


def show_info(name: str) -> None:
    """Print what is known of a file, or of a model by name.

    Raises:
        NoInputError: it is neither a picture nor there at all.
        ModelError: it is a checkpoint that is damaged or of no known family.
    """
    path = Path(name)
    facts = _checkpoint(_model(name)) if _is_model(path) else _picture(path)
    width = max(len(key) for key, _ in facts) + 2
    for key, value in facts:
        print_text(f"{key:<{width}}{value}")


def _is_model(path: Path) -> bool:
    return path.suffix in EXTENSIONS or is_index(path) or path.is_dir() or not path.exists()


def _model(name: str) -> Path:
    try:
        return find_model(name)
    except ModelError as error:
        if Path(name).suffix in EXTENSIONS:
            raise
        raise NoInputError(
            f"{name} does not exist, and no model has this name; check the name and the folder"
        ) from error


def _checkpoint(path: Path) -> Facts:
    info = describe(path)
    amount, told = info.amount, info.prediction
    facts = [("file", str(info.path)), ("what", info.title)]
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


def _picture(path: Path) -> Facts:
    try:
        with opened(path) as (found, _):
            facts = _of_file(path, found)
        facts += list(read_metadata(path).items())
    except InputError as error:
        raise NoInputError(str(error)) from error
    return facts


def _of_file(path: Path, found: Opened) -> Facts:
    head = found.head
    return [
        ("file", str(path)),
        ("format", format_of(found.format).pillow[0]),
        ("size", f"{head.width}x{head.height} pixels, {path.stat().st_size / 1e6:.2f} MB"),
        ("mode", head.mode),
        ("profile", _profile_name(head.icc) if head.icc else "none (sRGB is assumed)"),
    ]


def _profile_name(profile: bytes) -> str:
    from PIL import ImageCms

    try:
        return ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(BytesIO(profile))).strip()
    except (ImageCms.PyCMSError, OSError):
        return f"{len(profile)} bytes that are no profile"
