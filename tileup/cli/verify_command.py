"""The work of `tileup verify`: whether finished pictures still are what was made."""

from __future__ import annotations

import json
import logging
from pathlib import Path

from tileup.cli.console import NOTICE
from tileup.cli.tables import print_text
from tileup.engine.standard_output import say
from tileup.engine.verify import verify
from tileup.errors import ExitCode
from tileup.wording import counted

log = logging.getLogger(__name__)


def verify_command(folder: str, as_json: bool) -> int:
    """Print what is wrong, or each picture as a line of JSON; returns the exit code."""
    total = wrong = 0
    for finding in verify(Path(folder)):
        total += 1
        wrong += not finding.sound
        if as_json:
            say(json.dumps(finding.to_dict()))
        elif not finding.sound:
            print_text(f"{finding.output}  {finding.verdict}")
    log.log(NOTICE, "%d of %s as made", total - wrong, counted(total, "picture"))
    return ExitCode.SOME_FAILED if wrong else ExitCode.OK
