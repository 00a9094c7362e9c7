"""8-bit weights that carry a scale beside them become numbers that mean something.

Such a file has `NAME.scale_weight` or `NAME.weight_scale` for `NAME.weight`, which is to be
multiplied by it (github.com/comfyanonymous/ComfyUI, QUANTIZATION.md), and marks that say so.
Whole numbers mean nothing without such a mark, as they may be rotated, packed or in blocks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tileup.errors import ModelError
from tileup.tensors.formats import Quantization
from tileup.tensors.nvfp4 import FORMAT, WHOLE, packed_nvfp4

if TYPE_CHECKING:
    from torch import Tensor

SCALES = (".scale_weight", ".weight_scale")
"""Ends of names of scales; the weight itself is named `.weight`."""
MARKS = (".comfy_quant", ".scale_input", ".input_scale", WHOLE)
"""Ends of names of what only arithmetic of few bits has a use for, and further scales."""
MARK = "scaled_fp8"
"""The last part of the name of the mark for a whole file."""


def scale_of(name: str) -> str | None:
    """The weight that a scale belongs to, or None where the name is not that of a scale."""
    for end in SCALES:
        if name.endswith(end):
            return f"{name.removesuffix(end)}.weight"
    return None


def is_helper(name: str) -> bool:
    """Whether a tensor serves 8-bit storage alone and is no weight of the network."""
    marks = name.endswith(MARKS) or name.rpartition(".")[2] == MARK
    return marks or scale_of(name) is not None


def unscaled(
    tensors: Mapping[str, Tensor], marks: Mapping[str, Quantization] | None = None
) -> dict[str, Tensor]:
    """The same weights, each that has a scale packed with it, and without marks.

    Args:
        tensors: by name.
        marks: how layers are stored, by the layer's name.

    Raises:
        ModelError: a weight of whole numbers has a scale, and no mark says what it means; it cannot
            have been rotated as its mark says; or its scale has the shape of some other format.
    """
    from tileup.tensors.packed import Packed

    result = {name: tensor for name, tensor in tensors.items() if not is_helper(name)}
    for name, scale in tensors.items():
        weight = scale_of(name)
        if weight is None:
            continue
        if weight not in result:
            result[name] = scale  # whoever builds a network names it as what belongs nowhere
            continue
        stored = result[weight]
        mark = (marks or {}).get(weight.removesuffix(".weight"))
        whole = tensors.get(weight.removesuffix(".weight") + WHOLE)
        if mark is not None and mark.format == FORMAT and whole is not None:
            result[weight] = packed_nvfp4(weight, stored, scale, whole)
            continue
        if not _fits(scale, stored):
            raise ModelError(
                f"{weight} has the shape {list(stored.shape)}, and its scale {list(scale.shape)}:"
                f" that is a format which tileup does not read; give the file in F16, BF16 or FP8"
            )
        coding = Scaled(_rotated(result, weight, mark))
        result[weight] = Packed(coding, (stored, _spread(scale, stored)), stored.shape)
    return result


def _spread(scale: Tensor, weight: Tensor) -> Tensor:
    """A single number, or one for each row in as many axes as the weight has; float32."""
    scale = scale.float()
    if scale.numel() == 1:
        return scale.reshape(())
    return scale.reshape(-1, *[1] * (weight.ndim - 1))


def _fits(scale: Tensor, weight: Tensor) -> bool:
    rows = weight.shape[0] if weight.ndim else 1
    one_a_row = scale.numel() == rows and scale.ndim in (1, weight.ndim) and len(scale) == rows
    return scale.numel() == 1 or one_a_row


def _rotated(tensors: Mapping[str, Tensor], name: str, mark: Quantization | None) -> int:
    """How many columns of a weight were rotated together; 0: none."""
    weight = tensors[name]
    if mark is None and not weight.is_floating_point():
        raise ModelError(
            f"{name} is stored in whole numbers with a scale, and nothing says in which way;"
            f" give the file in F16, BF16 or FP8"
        )
    group = mark.rotated if mark else 0
    if group and (weight.ndim != 2 or weight.shape[1] % group):
        raise ModelError(
            f"{name} is damaged: it is marked as rotated in groups of {group} columns, and has the"
            f" shape {list(weight.shape)}"
        )
    return group


@dataclass(frozen=True, slots=True)
class Scaled:
    """Numbers of 8 bits, perhaps times a scale, perhaps rotated back; as `Coding`."""

    rotated: int = 0
    """Columns that were rotated together; 0: none were."""

    def decoded(self, stored: Sequence[Tensor], shape: tuple[int, ...]) -> Tensor:
        """As `Coding`: of a weight, and its scale where it has one."""
        values = stored[0].float()
        if values is stored[0]:
            values = values.clone()
        for scale in stored[1:]:
            values *= scale
        if self.rotated:
            groups = values.unflatten(1, (-1, self.rotated))
            values = (groups @ rotation(self.rotated).to(values.device)).flatten(1)
        return values.reshape(shape)

    def largest(self, stored: Sequence[Tensor]) -> Tensor:
        """As `Coding`."""
        from tileup.tensors.packed import largest_of

        found = largest_of(stored[0])
        for scale in stored[1:]:
            found = found * scale.abs().max()
        return found * max(self.rotated, 1) ** 0.5


def rotation(size: int) -> Tensor:
    """The matrix that rotates `size` columns, a power of 4: it is symmetric, and its own inverse.

    A regular Hadamard matrix divided by its root: products of one of 4 x 4 with itself.
    """
    import torch

    four = torch.ones(4, 4) - 2 * torch.eye(4).flip(1)
    matrix = torch.ones(1, 1)
    while len(matrix) < size:
        matrix = torch.kron(matrix, four)
    return matrix / size**0.5
