"""What of a large picture is made, kept beside the output: a run that was stopped goes on."""

from __future__ import annotations

import hashlib
import json
import logging
import uuid
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

from tileup import __version__
from tileup.contracts import Model
from tileup.engine.file_to_file import Drawable
from tileup.engine.work_log import WorkLog
from tileup.images.formats.known import format_of
from tileup.images.kept import (
    SPARE,
    HeldRows,
    Kept,
    Shape,
    can_be_kept,
    has_room,
    place_of,
    work_of,
)
from tileup.images.sizes import output_size
from tileup.plan import by_rows
from tileup.plan.planning import Planned
from tileup.settings.values import Settings
from tileup.storage.remote import Remote

log = logging.getLogger(__name__)

_OF_THE_FILE = frozenset(
    {"name", "suffix", "format", "quality", "compression", "lossless", "metadata", "strip_exif"}
    | {"max_input_pixels"}
)
"""Settings that change how a picture is written, and none of its pixels."""


def finished_rows(
    given: Drawable, model: Model, settings: Settings, planned: Planned, *, on_disk: bool
) -> Kept | HeldRows | None:
    """Where the finished rows of a picture go; None: into memory as they are drawn.

    Args:
        given: the picture.
        model: with which it is drawn.
        settings: with which it is drawn.
        planned: what will be done to it.
        on_disk: whether they may lie beside the output, whose lock the caller holds.

    Raises:
        OutputError: the disk does not take them.
        CanvasMemoryError: memory has no room for them.
    """
    kept = kept_rows(given, model, settings, planned) if on_disk else None
    if kept is not None or format_of(given.format).write_bands is None:
        return kept
    form = _form(given, planned)
    return None if form is None else HeldRows(form)


def kept_rows(given: Drawable, model: Model, settings: Settings, planned: Planned) -> Kept | None:
    """Where the finished rows of a picture are kept; None: in memory.

    They are kept in a file where the picture is large, its own file lies on a disk and can be
    written from such rows, and the disk has room. Transparency is not among them, and so must be
    what the file can hold: laid over white rows would be rounded before.

    Args:
        given: the picture.
        model: with which it is drawn.
        settings: with which it is drawn.
        planned: what will be done to it.

    Raises:
        OutputError: the disk does not take them.
    """
    output, plan, form = given.job.output, planned.plan, _form(given, planned)
    if output is None or form is None:
        return None
    if not can_be_kept(output, given.format, plan.width, plan.height):
        return None
    place = place_of(output)
    if not has_room(place, form):
        log.info("%s: the disk has no room for finished rows, which stay in memory", place.parent)
        return None
    kept = Kept(place, _key(given, model, settings), form)
    if kept.rows:
        log.info("going on below row %d of %d, kept in %s", kept.rows, plan.height, place)
    else:
        log.info("finished rows are kept in %s", place)
    return kept


def _form(given: Drawable, planned: Planned) -> Shape | None:
    """Of rows as the file will hold them; None: it cannot be told before all is drawn."""
    picture, format = given.picture, format_of(given.format)
    if picture.alpha is not None and "alpha" not in format.holds:
        return None
    deep = picture.deep and format.bits == 16
    channels, plan = 1 if picture.grey else 3, planned.plan
    return Shape(plan.height, plan.width, channels, 16 if deep else 8)


_FOR_ROWS = 12
"""Bytes of the disk for each pixel that the picture itself may want: see `has_room`."""


def kept_work(given: Drawable, model: Model, settings: Settings) -> WorkLog | None:
    """Where the latents of a picture and the network's answers are kept; None: nowhere.

    They are kept where the picture is large for a model with a VAE, and its own file lies on a
    disk: they are small beside the time that they take.

    Args:
        given: the picture.
        model: with which it is drawn.
        settings: with which it is drawn.
    """
    output, picture = given.job.output, given.picture
    if output is None or isinstance(output, Remote) or not model.spec.text:
        return None
    if given.mark is None or not given.job.fingerprint:  # another run would not know it again
        return None
    width, height = output_size(picture.width, picture.height, settings)
    if width * height < by_rows.SMALLEST:
        return None
    spare = SPARE + _FOR_ROWS * width * height
    return WorkLog(work_of(output), _key(given, model, settings), spare)


def _key(given: Drawable, model: Model, settings: Settings) -> str:
    """Hash of all that decides the pixels of a picture, to the bit."""
    said = "\n".join(_said(given, model, settings))
    return hashlib.blake2b(said.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()


def _said(given: Drawable, model: Model, settings: Settings) -> Iterator[str]:
    # Imported here because this is where torch comes in.
    from tileup.devices import card, maps_held, processor

    if given.mark is None or not given.job.fingerprint:  # another run would not know it again
        yield uuid.uuid4().hex
    else:
        yield given.mark.digest
        yield given.job.fingerprint
    values = {name: each for name, each in settings.to_dict().items() if name not in _OF_THE_FILE}
    yield json.dumps(values, sort_keys=True, default=str)
    yield f"{model.digest} {model.dtype} {model.device} {model.runtime}"
    yield f"{__version__} {processor()} {card(model.device)}"
    if model.spec.text:  # which way its VAE takes
        yield " ".join(str(maps_held(each)) for each in (model.device, "cpu"))
    yield from (f"{name} {_version(name)}" for name in _ROUNDING)


_ROUNDING = (
    "diffusers",
    "gguf",
    "imagecodecs",
    "k-diffusion",
    "ncnn",
    "numpy",
    "pillow",
    "scipy",
    "spandrel",
    "torch",
    "torchsde",
    "transformers",
)
"""Libraries that pixels go through on their way: of the same versions they give the same bits."""


def _version(name: str) -> str | None:
    """Of a library; None: there is none of this name."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None
