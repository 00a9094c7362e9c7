"""Weights of few bits: stored as they are in the file, and computed only where they are used.

A `Packed` tensor has the shape of the weight and says the precision that it is computed in, but
holds what is stored. Whatever is done with it is done with its values, computed for that moment, a
layer at a time. Moving it, taking rows of it and looking up rows keep it packed. So a network of
these needs the memory of its file, whatever it computes in, and its layers are those of everybody.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol, TypeVar, cast

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

Value = TypeVar("Value")
FLOAT8 = (torch.float8_e4m3fn, torch.float8_e5m2)
"""Only stored, never computed in."""
AT_ONCE = 2**20
"""Numbers that are computed at once on a CPU: what lies between fits its caches."""


class Coding(Protocol):
    """How values follow from what is stored."""

    def decoded(self, stored: Sequence[Tensor], shape: tuple[int, ...]) -> Tensor:
        """Values, float32.

        Args:
            stored: as in `Packed`, all rows or some.
            shape: of these rows' values.
        """
        ...

    def largest(self, stored: Sequence[Tensor]) -> Tensor:
        """A number that no value exceeds, whatever its sign; not finite where a value is not."""
        ...


class Operation(Protocol):
    """One of torch's, with its overload."""

    @property
    def _schema(self) -> torch.FunctionSchema: ...

    def __call__(self, *args: object, **kwargs: object) -> object: ...


class Packed(Tensor):
    """A weight of few bits."""

    coding: Coding
    stored: tuple[Tensor, ...]
    """What the file holds: tensors whose first axis is the weight's, and single numbers of no axis
    that count for all rows."""

    @staticmethod
    def __new__(
        cls: type[Packed],
        coding: Coding,
        stored: Sequence[Tensor],
        shape: Sequence[int],
        dtype: torch.dtype = torch.float32,
    ) -> Packed:
        made = Tensor._make_wrapper_subclass(  # pyright: ignore[reportAttributeAccessIssue]
            cls, tuple(shape), dtype=dtype, device=stored[0].device, requires_grad=False
        )
        made.coding, made.stored = coding, tuple(stored)
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl  # pyright: ignore[reportPrivateUsage, reportAssignmentType]

    def __repr__(self, **_: object) -> str:  # pyright: ignore[reportIncompatibleMethodOverride]
        return f"Packed({self.coding}, {tuple(self.shape)}, {self.dtype}, {self.device})"

    @property
    def nbytes(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Of what is stored."""
        return sum(each.nbytes for each in self.stored)

    def data_ptr(self) -> int:
        """Where what is stored begins."""
        return self.stored[0].data_ptr()

    # With these two, nn.Module.to exchanges the whole tensor, and not what lies behind it.
    def __tensor_flatten__(self) -> tuple[list[str], object]:
        names = [f"stored_{number}" for number in range(len(self.stored))]
        return names, (self.coding, tuple(self.shape), self.dtype)

    def __getattr__(self, name: str) -> Tensor:
        if name.startswith("stored_"):
            return self.stored[int(name.removeprefix("stored_"))]
        raise AttributeError(name)

    @staticmethod
    def __tensor_unflatten__(
        inner: Mapping[str, Tensor],
        context: tuple[Coding, tuple[int, ...], torch.dtype],
        size: object,
        stride: object,
    ) -> Packed:
        coding, shape, dtype = context
        return Packed(coding, [*inner.values()], shape, dtype)

    @classmethod
    def __torch_dispatch__(
        cls,
        func: Operation,
        types: Iterable[type],
        args: tuple[object, ...] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        packed = args[0] if args and isinstance(args[0], Packed) else None
        if packed is not None and (keeps := _KEEP.get(func)) is not None:
            kept = keeps(packed, *args[1:], **(kwargs or {}))
            if kept is not None:
                return kept
        if packed is not None and func._schema.is_mutable:  # pyright: ignore[reportPrivateUsage]
            raise RuntimeError(f"{func}: packed weights are not changed in place")
        return func(*tree_map(unpacked, args), **tree_map(unpacked, dict(kwargs or {})))

    def rows(self, change: Callable[[Tensor], Tensor]) -> Packed:
        """The same with other rows.

        Args:
            change: picks or orders the rows of a tensor.
        """
        stored = [change(each) if each.ndim else each for each in self.stored]
        first = next(each for each in stored if each.ndim)
        return Packed(self.coding, stored, (len(first), *self.shape[1:]), self.dtype)

    def cast(self, dtype: torch.dtype) -> Packed:
        """The same, computed in another precision."""
        return Packed(self.coding, self.stored, self.shape, dtype)

    def values(self) -> Tensor:
        """The weight itself, in its precision: computed some rows at a time, as what lies between
        takes several times their size."""
        shape, dtype = tuple(self.shape), self.dtype
        count = shape[0] if shape else 1
        whole = torch.empty(shape, dtype=dtype, device=self.device)
        at_once = AT_ONCE if self.device.type == "cpu" else 32 * AT_ONCE
        step = max(1, at_once * count // max(whole.numel(), 1))
        if step >= count:
            return whole.copy_(self.coding.decoded(self.stored, shape))
        for start in range(0, count, step):
            part = whole[start : start + step]
            stored = [each[start : start + step] if each.ndim else each for each in self.stored]
            part.copy_(self.coding.decoded(stored, tuple(part.shape)))
        return whole

    def largest(self) -> Tensor:
        """A number that no value exceeds, whatever its sign; not finite where a value is not."""
        return self.coding.largest(self.stored)


def largest_of(tensor: Tensor) -> Tensor:
    """The largest number without its sign, NaN where there is one; float32."""
    if not tensor.numel():
        return torch.zeros(())
    if tensor.dtype not in FLOAT8:
        return torch.stack(torch.aminmax(tensor)).float().abs().max()
    # Torch compares no fp8, but its bytes have the order of its values: those below 128 of what is
    # above 0, and the others of what is below it.
    above = tensor.view(torch.int8).max().clamp(min=0).view(torch.uint8)
    below = tensor.view(torch.uint8).max()
    below = torch.where(below > 0x7F, below & 0x7F, 0)
    return torch.maximum(above, below).view(tensor.dtype).float()


def precision(tensor: Tensor) -> torch.dtype:
    """What a weight is stored in."""
    return tensor.stored[0].dtype if isinstance(tensor, Packed) else tensor.dtype


def unpacked(value: Value) -> Value | Tensor:
    """A packed tensor's values; anything else as it is."""
    return value.values() if isinstance(value, Packed) else value


def _moved(
    packed: Packed,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | None = None,
    non_blocking: bool = False,
    **_: object,
) -> Packed | None:
    if dtype is not None and not dtype.is_floating_point:
        return None
    stored = [each.to(device or each.device, non_blocking=non_blocking) for each in packed.stored]
    return Packed(packed.coding, stored, packed.shape, dtype or packed.dtype)


def _detached(packed: Packed) -> Packed:
    return packed.cast(packed.dtype)


def _cloned(packed: Packed, **_: object) -> Packed:
    return Packed(
        packed.coding, [each.clone() for each in packed.stored], packed.shape, packed.dtype
    )


def _split(packed: Packed, sizes: int | Sequence[int], dim: int = 0) -> tuple[Packed, ...] | None:
    if dim != 0:
        return None
    count = packed.shape[0]
    if isinstance(sizes, int):
        sizes = [min(sizes, count - start) for start in range(0, count, sizes)]
    starts = [sum(sizes[:number]) for number in range(len(sizes))]
    return tuple(
        packed.rows(lambda each, start=start, size=size: each[start : start + size])
        for start, size in zip(starts, sizes, strict=True)
    )


def _sliced(
    packed: Packed, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> Packed | None:
    return packed.rows(lambda each: each[start:end:step]) if dim == 0 else None


def _rolled(packed: Packed, shifts: Sequence[int], dims: Sequence[int] = ()) -> Packed | None:
    if tuple(dims) != (0,):
        return None
    return packed.rows(lambda each: _as_bytes(each).roll(tuple(shifts), 0).view(each.dtype))


def _embedded(packed: Packed, ids: Tensor, *_: object, **__: object) -> Tensor:
    found = packed.rows(lambda each: _as_bytes(each)[ids.flatten()].view(each.dtype)).values()
    return found.reshape(*ids.shape, *found.shape[1:])


def _as_bytes(tensor: Tensor) -> Tensor:
    """fp8 cannot be rolled and indexed everywhere; its bytes can."""
    return tensor.view(torch.uint8) if tensor.dtype in FLOAT8 else tensor


_aten = torch.ops.aten
_KEEP = cast(
    Mapping[object, Callable[..., object]],
    {
        _aten.detach.default: _detached,
        _aten.alias.default: _detached,
        _aten.clone.default: _cloned,
        _aten._to_copy.default: _moved,
        _aten.split.Tensor: _split,
        _aten.split_with_sizes.default: _split,
        _aten.slice.Tensor: _sliced,
        _aten.roll.default: _rolled,
        _aten.embedding.default: _embedded,
    },
)
"""What keeps a weight packed, or needs few of its values; None from one of these: it does not."""
