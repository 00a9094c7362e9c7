"""Tables and text on standard output, for terminals and for pipes."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from io import StringIO

from tileup.cli.console import printable
from tileup.engine.standard_output import can_hold, say

_PIPE_WIDTH = 120
_RULE = "─"


def print_table(heads: Sequence[str], rows: Iterable[Sequence[str]], numbers: bool = True) -> None:
    """Print a table.

    Args:
        heads: a word for each column.
        rows: the cells.
        numbers: whether the cells are numbers, to be lined up at the right.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    plain = box.Box(str(box.SIMPLE_HEAD).replace(_RULE, "-"), ascii=True)
    table = Table(box=box.SIMPLE_HEAD if can_hold(_RULE) else plain, pad_edge=False)
    for head in heads:
        table.add_column(head, justify="right" if numbers else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    width = None if sys.stdout.isatty() else _PIPE_WIDTH
    drawn = StringIO()
    Console(file=drawn, width=width, force_terminal=sys.stdout.isatty()).print(table)
    say(drawn.getvalue(), end="")


def print_text(text: str) -> None:
    """Print text as it is."""
    say(printable(text))
