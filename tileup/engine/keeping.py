"""Finished rows of large pictures, kept beside the output: a run that was stopped goes on."""

from __future__ import annotations

import hashlib
import json
import logging
import sys
import uuid
from collections.abc import Iterator

from tileup import __version__
from tileup.contracts import Model
from tileup.engine.file_to_file import Drawable
from tileup.images.formats.known import format_of
from tileup.images.kept import Kept, Shape, can_be_kept, has_room, place_of
from tileup.plan.planning import Planned
from tileup.settings.values import Settings

log = logging.getLogger(__name__)

_OF_THE_FILE = frozenset(
    {"name", "suffix", "format", "quality", "compression", "lossless", "metadata", "strip_exif"}
    | {"max_input_pixels"}
)
"""Settings that change how a picture is written, and none of its pixels."""


def kept_rows(given: Drawable, model: Model, settings: Settings, planned: Planned) -> Kept | None:
    """Where the finished rows of a picture are kept; None: in memory.

    They are kept in a file where the picture is large and opaque, its own file lies on a disk and
    can be written from such rows, and the disk has room.

    Args:
        given: the picture.
        model: with which it is drawn.
        settings: with which it is drawn.
        planned: what will be done to it.

    Raises:
        OutputError: the disk does not take them.
    """
    output, picture, plan = given.job.output, given.picture, planned.plan
    if output is None or not can_be_kept(output, given.format, plan.width, plan.height):
        return None
    if picture.alpha is not None:  # which is in memory
        return None
    deep = picture.deep and format_of(given.format).bits == 16
    form = Shape(plan.height, plan.width, 1 if picture.grey else 3, 16 if deep else 8)
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


def _key(given: Drawable, model: Model, settings: Settings) -> str:
    """Hash of all that decides the pixels of a picture, to the bit."""
    said = "\n".join(_said(given, model, settings))
    return hashlib.blake2b(said.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()


def _said(given: Drawable, model: Model, settings: Settings) -> Iterator[str]:
    # Imported here because this is where torch comes in.
    from tileup.devices import processor

    if given.mark is None or not given.job.fingerprint:  # another run would not know it again
        yield uuid.uuid4().hex
    else:
        yield given.mark.digest
        yield given.job.fingerprint
    values = {name: each for name, each in settings.to_dict().items() if name not in _OF_THE_FILE}
    yield json.dumps(values, sort_keys=True, default=str)
    yield f"{model.digest} {model.dtype} {model.device}"
    yield f"{__version__} {processor()}"
    # Whatever rounds: the same versions give the same bits.
    yield from (f"{name} {sys.modules[name].__version__}" for name in ("numpy", "PIL", "torch"))
