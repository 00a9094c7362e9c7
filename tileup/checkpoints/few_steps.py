"""Whether a model says that it was made for few steps, or is made so by a LoRA. No torch needed."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tileup.checkpoints.find import Identified, find_model
from tileup.checkpoints.prompted import loras_of
from tileup.errors import ModelError
from tileup.families.view import View
from tileup.settings.values import Settings
from tileup.tensors.checkpoint import open_checkpoint

WORDS = re.compile(r"turbo|lightning|(?<![a-z])(?:hyper|dmd2?|lcm)(?![a-z])")
"""What such files call themselves."""
HIGHEST = 2.0
"""Guidance that they bear."""


def few_steps_notes(known: Identified, settings: Settings) -> Iterator[str]:
    """What a user may not have meant who guides a model that was made for few steps.

    Args:
        known: the checkpoint; its family's defaults know of a family made so.
        settings: with LoRAs, some of which are made for that.
    """
    if settings.cfg <= HIGHEST or known.found is None:
        return
    for name, view in _files(known, settings):
        if said := view.said_of(WORDS):
            where, word = said
            yield (
                f"{name} is made for few steps, says {where} ({word}), and cfg {settings.cfg:g}"
                f" burns such pictures: --preset fast suits it."
            )
            return


def _files(known: Identified, settings: Settings) -> Iterator[tuple[str, View]]:
    yield known.checkpoint.path.name, View(known.checkpoint, "")
    for file, _ in loras_of(settings):
        try:
            lora = open_checkpoint(find_model(file))
        except ModelError:
            continue  # said where it is loaded
        yield lora.path.name, View(lora, "")
