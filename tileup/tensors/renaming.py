"""Between the names of an original checkpoint and the names that a network has for its weights.

A weight of the original is one of the network, or several that lie in it one below the other. Read
forwards, a table of such rules loads a file: what comes out are views of what goes in, so nothing
is copied, and a memory-mapped file stays mapped. Read backwards, from the layers of a network that
was built, the same table says which layers a LoRA means that was trained on the original.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tileup.errors import ModelError
from tileup.tensors.names import check_names, in_few_bits

if TYPE_CHECKING:
    from torch import Tensor


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
            tensor = tensor.roll(rows // 2, 0)
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
        ModelError: a rule's tensor is missing or cannot be divided, or one without a rule
            seems to change a weight that it lies beside.
    """
    by_source = {rule.source: rule for rule in rules}
    missing, beyond = by_source.keys() - tensors.keys(), tensors.keys() - by_source.keys()
    check_names(missing, beyond, by_source, name, in_few_bits(tensors))
    state: dict[str, Tensor] = {}
    origin: dict[str, str] = {}
    for source, rule in by_source.items():
        for target, part in rule.parts(tensors[source], name).items():
            state[target], origin[target] = part, source
    return state, origin


@dataclass(frozen=True, slots=True)
class Target:
    """What a change of one layer of the original is added to."""

    modules: tuple[str, ...]
    """Layers whose rows, one after another, are those of the change."""
    swapped: bool = False
    """Whether the halves of its rows lie the other way round (shift and scale)."""


def targets(rules: Iterable[Rule], layers: Collection[str]) -> Iterator[tuple[str, Target]]:
    """The original's layers, and what each has become in a network.

    Args:
        rules: of the network; those for layers that it does not have are passed over.
        layers: names of the network's layers, without `.weight`.
    """
    there = frozenset(layers)
    for rule in rules:
        if rule.source.endswith(".weight"):
            modules = tuple(target.removesuffix(".weight") for target in rule.targets)
            if there.issuperset(modules):
                yield rule.source.removesuffix(".weight"), Target(modules, rule.swapped)
