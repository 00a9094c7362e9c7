"""Where a file's name says of its prediction what nothing else in it does. No torch needed."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tileup.checkpoints.find import Identified
from tileup.families.predictions import USUAL
from tileup.families.view import View
from tileup.settings.values import Settings

WORDS = re.compile(r"(?<![a-z])(?:v[-_ ]?pred(?:iction)?|(?:v[-_ ]?)?z(?:ero[-_ ]?)?t?[-_ ]?snr)")
"""What finetunes trained for v, often up to pure noise, call themselves."""


def prediction_notes(known: Identified, settings: Settings) -> Iterator[str]:
    """What a user may not have meant who leaves the prediction to a file that does not tell it.

    Merging drops the marks that such finetunes have; taken for eps they draw mud.
    """
    told = known.prediction
    if settings.prediction is not None or told.name != "eps" or told.told_by != USUAL:
        return
    if said := View(known.checkpoint, "").said_of(WORDS):
        where, word = said
        yield (
            f"{known.checkpoint.path.name} is taken for one that predicts eps, as is usual in its"
            f" family, but {where} says {word}: --prediction v-zsnr or v may be meant."
        )
