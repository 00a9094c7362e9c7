"""From the names of an original checkpoint to the names that a network has for its weights.

A weight of the original is one of the network, or several that lie in it one below the other. So
what comes out are views of what goes in: nothing is copied, and a memory-mapped file stays mapped.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from tileup.checkpoints.assign import check_same_names
from tileup.errors import ModelError


@dataclass(frozen=True, slots=True)
class Rule:
    """What becomes of one tensor of a file."""

    source: str
    """Its name in the file."""
    targets: tuple[str, ...]
    """Names of its parts in the network, from the first row down."""
    rows: tuple[int, ...] = ()
    """Rows of each part; empty: all parts are of one size."""
    swapped: bool = False
    """Its two halves change places. In the originals' last modulation shift lies above scale, in
    diffusers' scale above shift."""

    def parts(self, tensor: Tensor, name: str) -> Mapping[str, Tensor]:
        """The parts by their names in the network; views, but for swapped halves.

        Raises:
            ModelError: it cannot be divided like this.
        """
        rows = tensor.shape[0] if tensor.ndim else 0
        sizes = self.rows or (rows // len(self.targets),) * len(self.targets)
        if sum(sizes) != rows or (self.swapped and rows % 2):
            raise ModelError(
                f"{name} does not fit together: {self.source} has shape {tuple(tensor.shape)},"
                f" which cannot be divided into {', '.join(self.targets)}"
            )
        if self.swapped:
            first, second = tensor.chunk(2)
            tensor = torch.cat([second, first])
        return dict(zip(self.targets, tensor.split(sizes), strict=True))


def layer(
    source: str, *targets: str, rows: tuple[int, ...] = (), swapped: bool = False
) -> list[Rule]:
    """The rules for the weight and the bias of a layer."""
    return [
        Rule(f"{source}.{each}", tuple(f"{target}.{each}" for target in targets), rows, swapped)
        for each in ("weight", "bias")
    ]


def converted(
    tensors: Mapping[str, Tensor], rules: Iterable[Rule], name: str
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a file under the network's names.

    Returns:
        Tensors by the network's names, and the file's name of each.

    Raises:
        ModelError: a rule's tensor is missing or cannot be divided, or a tensor has no rule.
    """
    by_source = {rule.source: rule for rule in rules}
    check_same_names(by_source, tensors, name)
    state: dict[str, Tensor] = {}
    origin: dict[str, str] = {}
    for source, rule in by_source.items():
        for target, part in rule.parts(tensors[source], name).items():
            state[target], origin[target] = part, source
    return state, origin


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
    """How many blocks of a stack have tensors; a gap in their numbers is found by `converted`."""
    return len(set(_indices(names, rf"{re.escape(stack)}\.(\d+)\.")))


def blocks_with(names: Iterable[str], stack: str, part: str) -> tuple[int, ...]:
    """Numbers of the blocks that have a part: `attn2` in `joint_blocks.0.x_block.attn2.…`."""
    pattern = rf"{re.escape(stack)}\.(\d+)\.(?:.*\.)?{re.escape(part)}\."
    return tuple(sorted(set(_indices(names, pattern))))


def _indices(names: Iterable[str], pattern: str) -> Iterator[int]:
    for each in names:
        if found := re.match(pattern, each):
            yield int(found[1])
