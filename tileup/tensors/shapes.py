"""What names and shapes of tensors tell of a network: sizes and numbers of blocks."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from tileup.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor


def shape(tensors: Mapping[str, Tensor], key: str, axes: int, name: str) -> tuple[int, ...]:
    """Shape of a tensor that sizes are read from.

    Raises:
        ModelError: it is missing, has another number of axes, or an axis without length.
    """
    if key not in tensors:
        raise ModelError(
            f"{name} lacks the tensor {key}; the file is incomplete or of another kind"
        )
    found = tuple(tensors[key].shape)
    if len(found) != axes or 0 in found:
        raise ModelError(f"{name} does not fit together: {key} has shape {found}, not {axes} axes")
    return found


def block_count(names: Iterable[str], stack: str) -> int:
    """How many blocks of a stack have tensors; a gap in their numbers is found by `build`.

    Not the highest number: one odd name must not ask for a million blocks.
    """
    return len(set(_numbers(names, stack, r"(\d+)\.")))


def blocks_with(names: Iterable[str], stack: str, part: str) -> tuple[int, ...]:
    """Numbers of the blocks that have a part: `attn2` in `joint_blocks.0.x_block.attn2.…`."""
    pattern = rf"(\d+)\.(?:.*\.)?{re.escape(part)}\."
    return tuple(sorted({int(each) for each in _numbers(names, stack, pattern)}))


def _numbers(names: Iterable[str], stack: str, pattern: str) -> Iterator[str]:
    """What a pattern finds first behind the name of the stack."""
    start, compiled = f"{stack}.", re.compile(pattern)
    for each in names:
        if each.startswith(start) and (found := compiled.match(each, len(start))):
            yield found[1]
