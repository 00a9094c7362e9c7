"""Finished pictures drawn once more from their inputs: whether they are what those give.

A picture is drawn whole. The bytes of a tile need all windows whose answers reach it, step by step,
and a way to draw just those is not built.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from functools import partial
from io import BytesIO
from pathlib import Path
from random import Random

import numpy as np

from tileup.contracts import Model
from tileup.engine import memory
from tileup.engine.desk import attempt
from tileup.engine.failures import as_tileup_error
from tileup.engine.file_to_file import Drawable, read, save
from tileup.engine.journal import Record, file_of
from tileup.engine.models import Load, Models
from tileup.engine.request import Job
from tileup.errors import TileupError, UsageError
from tileup.images.reading import open_picture
from tileup.settings.values import Settings
from tileup.storage.remote import place

ROUNDING = 1.5
"""Levels of 255: further apart than another machine's rounding can bring two pixels."""


def parse_share(text: str) -> float:
    """A share written as a percentage, in (0, 1].

    Raises:
        UsageError: it is none.
    """
    try:
        share = float(text.removesuffix("%")) / 100
    except ValueError:
        share = math.nan
    if not 0 < share <= 1:
        raise UsageError(f"redraw must be a share of the pictures, such as 5%, got {text!r}")
    return share


def chosen(records: Sequence[Record], share: float, rng: Random) -> frozenset[str]:
    """Outputs of some of the finished pictures, by chance: a share of them, and one at least."""
    done = [each.output for each in records if each.outcome == "done"]
    return frozenset(rng.sample(done, min(len(done), max(1, math.ceil(share * len(done))))))


class Redrawing:
    """Draws pictures on record again. It holds the model they were drawn with last."""

    def __init__(self, load: Load) -> None:
        """Args:
        load: loads the model that settings name.
        """
        self._load = load
        self._way = ""
        self._models = Models(load)

    def verdict(self, folder: Path, record: Record) -> str:
        """What is wrong with a finished picture, in words; empty where nothing is.

        Args:
            folder: of the outputs.
            record: of the picture, which is as it is on record.
        """
        drawn = attempt(partial(self._drawn, folder, record))
        if isinstance(drawn, Exception):
            return f"cannot be drawn again: {as_tileup_error(drawn)}"
        path = file_of(record.output, folder)
        return "" if drawn == path.read_bytes() else _difference(path, drawn)

    def _drawn(self, folder: Path, record: Record) -> bytes:
        """The bytes of the picture's file.

        Raises:
            TileupError: it cannot be drawn.
        """
        if not record.drawn:
            raise TileupError("its record does not say with which settings it was made")
        source = place(record.input)
        if record.source is None or not record.source.fits(source):
            raise TileupError(
                f"its input {source} is not there, or has changed (names count from the folder "
                f"that the run was started in)"
            )
        given = self._read(folder, record, Settings.given(record.drawn))
        made = memory.draw(given, self._models, lambda step: None, alone=False).finish()
        stream = BytesIO()
        save(given, made, stream)
        return stream.getvalue()

    def _loaded(self, computed: Mapping[str, str], settings: Settings) -> Model:
        """The model, computed as the picture was, but for what is drawn again in float32."""
        if settings.dtype == "auto":
            settings = Settings.given(settings.changed() | dict(computed))
        return self._load(settings)

    def _read(self, folder: Path, record: Record, settings: Settings) -> Drawable:
        told = {**record.drawn, "seed": 0, "prompt": "", "computed": dict(record.computed)}
        way = json.dumps(told, sort_keys=True)
        if way != self._way:  # parts and precision may differ: not only what is told apart there
            self._way, self._models = way, Models(partial(self._loaded, record.computed))
        job = Job(
            input=place(record.input),
            output=file_of(record.output, folder),
            relative=None,
            seed=settings.seed,
            fingerprint=record.settings,
        )
        return read(job, settings, place(record.input), None)


def _difference(path: Path, drawn: bytes) -> str:
    """How a picture differs from its file drawn again; empty where only rounding does."""
    ours, theirs = (open_picture(each).whole for each in (path, drawn))
    if ours.shape != theirs.shape:
        height, width = theirs.shape[:2]
        return f"another picture: drawn again it is {width}x{height}"
    apart = 255 * np.abs(ours.astype(np.float64) - theirs)
    if apart.max() <= ROUNDING:
        return ""
    decibels = 20 * math.log10(255 / math.sqrt(np.square(apart).mean()))
    return (
        f"another picture than its input and settings give: drawn again it is up to "
        f"{apart.max():.0f} of 255 apart, {decibels:.1f} dB"
    )
