"""The work of `tileup verify`: whether finished pictures still are what was made."""

from __future__ import annotations

import json
import logging
from functools import partial

from tileup.cli.console import NOTICE
from tileup.cli.tables import print_text
from tileup.engine.models import loaded
from tileup.engine.redraw import Redrawing, parse_share
from tileup.engine.standard_output import say
from tileup.engine.verify import verify
from tileup.errors import ExitCode
from tileup.storage.remote import place
from tileup.wording import counted

log = logging.getLogger(__name__)


def verify_command(folder: str, redraw: str | None, as_json: bool) -> int:
    """Print what is wrong, or each picture as a line of JSON; returns the exit code.

    Args:
        folder: of outputs, with a journal.
        redraw: a share of the pictures, as a percentage, to be drawn again.
        as_json: a line of JSON for each picture.
    """
    share = 0 if redraw is None else parse_share(redraw)
    redrawing = Redrawing(partial(loaded, None)) if share else None
    total = wrong = redrawn = 0
    for finding in verify(place(folder), redrawing, share):
        total += 1
        wrong += not finding.sound
        redrawn += finding.redrawn
        if as_json:
            say(json.dumps(finding.to_dict()))
        elif not finding.sound:
            print_text(f"{finding.output}  {finding.verdict}")
    drawn = f", {redrawn} of them drawn again" if share else ""
    log.log(NOTICE, "%d of %s as made%s", total - wrong, counted(total, "picture"), drawn)
    return ExitCode.SOME_FAILED if wrong else ExitCode.OK
