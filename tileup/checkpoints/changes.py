"""What LoRA files and their relatives change in a layer: each kind in its closed form.

With `scale = alpha / rank`, for a weight W of shape (outputs, inputs, ...):

* LoRA, LoCon: `scale * up @ down`, for convolutions perhaps with one more in the middle;
* LoHa: `scale * (a1 @ b1) * (a2 @ b2)`, element by element (Hyeon-Woo et al. 2022, FedPara);
* LoKr: `scale * kron(w1, w2)`, each of the two whole or a product (Yeh et al. 2024, LyCORIS);
* full differences and norms: what is added itself;
* DoRA: `m * (W + change) / |W + change| - W`, the norm of each row, or of each column, for any
  change above (Liu et al. 2024, arXiv 2402.09353).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class Change(Protocol):
    """What is added to one weight."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the weight: (outputs, inputs, ...); of a kernel all but outputs may be one number.

        Raises:
            RuntimeError, IndexError: its tensors do not fit one another.
        """
        ...

    def delta(self, base: Tensor) -> Tensor:
        """What is added to a weight, float32, in its shape and on its device.

        Args:
            base: the weight as it is, float32.
        """
        ...


class Product:
    """A change that does not depend on the weight."""

    __slots__ = ()

    def product(self, device: torch.device) -> Tensor:
        """The change, float32, on a device; on `meta` only its shape."""
        raise NotImplementedError

    @property
    def shape(self) -> tuple[int, ...]:
        """As `Change`."""
        return _computed_shape(self)

    def delta(self, base: Tensor) -> Tensor:
        """As `Change`."""
        return self.product(base.device).reshape(base.shape)


@dataclass(frozen=True, slots=True)
class LowRank(Product):
    """LoRA and LoCon."""

    down: Tensor
    """Shape (rank, inputs), or (rank, inputs, h, w) for a convolution."""
    up: Tensor
    """Shape (outputs, rank), or with two more axes of size 1."""
    middle: Tensor | None
    """A convolution between the two, shape (rank, rank, h, w); `down` is then 1 x 1."""
    scale: float

    @property
    def shape(self) -> tuple[int, ...]:
        """As `Change`; worked out, as a file has a thousand of these."""
        if self.middle is not None or min(self.up.ndim, self.down.ndim) < 2:
            return _computed_shape(self)
        (outputs, *ranks), (rank, *inputs) = self.up.shape, self.down.shape
        if math.prod(ranks) != rank:
            raise RuntimeError(f"matrices of the ranks {ranks} and {rank}")
        return (outputs, *inputs)

    def product(self, device: torch.device) -> Tensor:
        """As `Product`: (outputs, inputs, ...)."""
        up = _wide(self.up.flatten(1), device) * self.scale
        down = _wide(self.down, device)
        if self.middle is not None:
            middle = _wide(self.middle, device)
            return torch.einsum("oa,abhw,bi->oihw", up, middle, down.flatten(1))
        return (up @ down.flatten(1)).unflatten(1, down.shape[1:])


@dataclass(frozen=True, slots=True)
class Factors:
    """Two matrices whose product counts, perhaps with a convolution in the middle."""

    a: Tensor
    """Shape (outputs, rank), with a middle (rank, outputs)."""
    b: Tensor
    """Shape (rank, inputs)."""
    middle: Tensor | None = None
    """Shape (rank, rank, h, w)."""

    def product(self, device: torch.device) -> Tensor:
        """Float32, shape (outputs, inputs), with a middle (outputs, inputs, h, w)."""
        a, b = _wide(self.a, device), _wide(self.b, device)
        if self.middle is None:
            return a @ b
        return torch.einsum("ab...,ao,bi->oi...", _wide(self.middle, device), a, b)


@dataclass(frozen=True, slots=True)
class FullMatrix:
    """A matrix or kernel that is no product."""

    tensor: Tensor

    def product(self, device: torch.device) -> Tensor:
        """Float32, as it is."""
        return _wide(self.tensor, device)


@dataclass(frozen=True, slots=True)
class Hadamard(Product):
    """LoHa."""

    first: Factors
    second: Factors
    scale: float

    def product(self, device: torch.device) -> Tensor:
        """As `Product`."""
        return self.first.product(device) * self.second.product(device) * self.scale


@dataclass(frozen=True, slots=True)
class Kronecker(Product):
    """LoKr."""

    first: Factors | FullMatrix
    second: Factors | FullMatrix
    scale: float

    def product(self, device: torch.device) -> Tensor:
        """As `Product`; of a kernel without a middle all but outputs are one number."""
        first, second = self.first.product(device), self.second.product(device)
        first = first.reshape(*first.shape, *[1] * (second.ndim - first.ndim))
        return torch.kron(first, second.contiguous()) * self.scale


@dataclass(frozen=True, slots=True)
class Difference(Product):
    """A full difference: of a weight, a bias or a norm."""

    tensor: Tensor
    scale: float = 1.0

    def product(self, device: torch.device) -> Tensor:
        """As `Product`."""
        return _wide(self.tensor, device) * self.scale


@dataclass(frozen=True, slots=True)
class Decomposed:
    """DoRA: a change of the direction, and the length besides."""

    change: Change
    magnitude: Tensor
    """A length for each output, or for each input."""
    by_input: bool
    """For which of the two."""

    @property
    def shape(self) -> tuple[int, ...]:
        """As `Change`."""
        return self.change.shape

    def delta(self, base: Tensor) -> Tensor:
        """As `Change`."""
        changed = base + self.change.delta(base)
        axis = 1 if self.by_input else 0
        others = [each for each in range(base.ndim) if each != axis]
        norm = torch.linalg.vector_norm(changed, dim=others, keepdim=True)
        length = _wide(self.magnitude, base.device).reshape(norm.shape)
        return changed * (length / (norm + torch.finfo(norm.dtype).eps)) - base


@dataclass(frozen=True, slots=True)
class LayerChange:
    """All that a file changes in one layer."""

    name: str
    """The layer in the file's own words."""
    weight: Change | None = None
    bias: Difference | None = None


def fits(shape: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    """Whether a change of one shape can be added to a weight of another.

    A matrix and a 1 x 1 convolution of its size are the same, and so are a kernel and a matrix of
    its rows.
    """
    if len(shape) == 2 and len(wanted) > 2:
        return shape == (wanted[0], torch.Size(wanted[1:]).numel())
    return _without_ones(shape) == _without_ones(wanted)


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    return shape[:2] if set(shape[2:]) <= {1} else shape


def _computed_shape(change: Product) -> tuple[int, ...]:
    """As the product has it, of which nothing is computed."""
    return tuple(change.product(torch.device("meta")).shape)


def _wide(tensor: Tensor, device: torch.device) -> Tensor:
    return tensor.to(device, torch.float32)
