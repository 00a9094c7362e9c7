"""The bundled checkpoint's networks with their coarser resolutions in integers of 8 bits.

Most of what a network multiplies it multiplies below its finest resolution. There maps and weights
are rounded to 8 bits, four of which a CPU with VNNI (AVX-512 or AVX) or AMX multiplies in the time
of one number in float32; sums are exact. The finest resolution, where every error would be seen,
stays in float32. Weights are rounded for each output channel to multiples of 1/127 of the largest
(symmetric), maps to 256 steps between two ends (affine), which were found with photographs and
depend on the noise level: Jacob et al. (2018), arXiv 1712.05877. A checkpoint holds them beside the
weights (`models/ranges.py`).

oneDNN computes it by way of torch, SiLU and sums within the convolution that they follow.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from tileup.families.residual_unet import LEVELS, ResidualBlock, ResidualUNet
from tileup.families.rounding import STEPS, Affine, Point, Ranges, coarse_blocks, in_steps, points

_CELLS = torch.channels_last
NOTHING = Affine(1.0, 0)
"""Stands for numbers in float32."""


class _Weights(NamedTuple):
    """Of a convolution, as oneDNN takes them."""

    packed: Tensor
    scales: Tensor
    """Of each output channel."""
    bias: Tensor
    padding: int

    @classmethod
    def of(cls, weight: Tensor, bias: Tensor) -> _Weights:
        numbers, by_channel = in_steps(weight)
        rounded, scales = numbers.to(torch.int8), by_channel.flatten()
        padding, one = weight.shape[-1] // 2, [1, 1]
        # How an input is rounded may change from call to call, but not that its zero is not 0.
        packed = _ops().qconv_prepack(rounded, scales, 1.0, 1, one, [padding] * 2, one, 1, None)
        return cls(packed, scales, bias, padding)

    def scaled(self, scale: Tensor, bias: Tensor) -> _Weights:
        """Multiplied by something for each output channel, with another bias."""
        return self._replace(scales=self.scales * scale, bias=bias)


def _ops() -> Any:  # noqa: ANN401  They are found when they are called.
    return torch.ops.onednn


class _Rounded(NamedTuple):
    """A rounded map."""

    held: Tensor
    """uint8, shape (B, C, h, w), the channels of a cell side by side in memory."""
    grid: Affine

    def convolved(self, weights: _Weights, to: Affine = NOTHING, *, silu: bool = False) -> Tensor:
        """A convolution of it, rounded to a grid; or in float32."""
        one, pad = [1, 1], [weights.padding] * 2
        zeros = _zeros(len(weights.scales))
        kind = torch.float32 if to is NOTHING else torch.uint8
        return _ops().qconv2d_pointwise(
            *(self.held, *self.grid, weights.packed, weights.scales, zeros, weights.bias),
            *(one, pad, one, 1, *to, kind, "swish" if silu else "none", [], ""),
        )

    def added(self, weights: _Weights, onto: _Rounded, to: Affine) -> _Rounded:
        """A convolution of it plus another map, whose memory may be taken for it, on a grid."""
        one, pad = [1, 1], [weights.padding] * 2
        zeros = _zeros(len(weights.scales))
        held = _ops().qconv2d_pointwise.binary(
            *(self.held, *self.grid, weights.packed, weights.scales, zeros, onto.held),
            *(weights.bias, one, pad, one, 1, *to, torch.uint8, *onto.grid),
            *("sum", 1.0, "none", [], ""),
        )
        return _Rounded(held, to)


@lru_cache(maxsize=8)
def _zeros(count: int) -> Tensor:
    return torch.zeros(count, dtype=torch.int32)


def gathered(maps: Tensor) -> Tensor:
    """Squares of 2x2 cells as one: shape (B, C, h, w) to (B, 4 C, h / 2, w / 2), by row, column and
    channel."""
    rows, channels, high, wide = maps.shape
    cells = _wide(maps).view(rows, high // 2, 2, wide // 2, -1).transpose(2, 3)
    return _narrow(cells.reshape(rows, high // 2, wide // 2, -1), 4 * channels, maps.dtype)


def spread(maps: Tensor) -> Tensor:
    """What `gathered` takes back."""
    rows, channels, high, wide = maps.shape
    cells = _wide(maps).view(rows, high, wide, 2, -1).transpose(2, 3)
    return _narrow(cells.reshape(rows, 2 * high, 2 * wide, -1), channels // 4, maps.dtype)


def _add_spread(fine: Tensor, maps: Tensor) -> None:
    """Add `spread(maps)` in place, without making it. Both are cell by cell in memory."""
    rows, channels, high, wide = maps.shape
    pairs = maps.movedim(1, -1).view(rows, high, wide, 2, channels // 2).transpose(2, 3)
    fine.movedim(1, -1).view(rows, high, 2, wide, channels // 2).add_(pairs)


def _wide(maps: Tensor) -> Tensor:
    """Cell by cell, shape (B, h, w, n), in numbers of 8 bytes where they fit: moved faster."""
    cells = maps.movedim(1, -1).contiguous()
    return cells if cells.shape[-1] * cells.itemsize % 32 else cells.view(torch.int64)


def _narrow(cells: Tensor, channels: int, dtype: torch.dtype) -> Tensor:
    return cells.view(dtype).view(*cells.shape[:3], channels).movedim(-1, 1)


class _Fine(NamedTuple):
    """A convolution in float32, as oneDNN takes it: packed once, with what follows within it."""

    packed: Tensor
    bias: Tensor
    padding: int
    stride: int

    @classmethod
    def of(cls, weight: Tensor, bias: Tensor, stride: int = 1) -> _Fine:
        padding = weight.shape[-1] // 2 if stride == 1 else 0
        weight = weight.contiguous(memory_format=_CELLS)
        packed = torch.ops.mkldnn._reorder_convolution_weight(
            weight, [padding] * 2, [stride] * 2, [1, 1], 1, None
        )
        return cls(packed, bias, padding, stride)

    def __call__(self, maps: Tensor, then: str = "none") -> Tensor:
        """The convolution of maps, and `swish` of it if wanted."""
        return torch.ops.mkldnn._convolution_pointwise(
            *(maps, self.packed, self.bias, [self.padding] * 2, [self.stride] * 2, [1, 1], 1),
            *(then, [], ""),
        )

    def plus(self, maps: Tensor, other: Tensor) -> Tensor:
        """The convolution of maps plus something of its shape."""
        return torch.ops.mkldnn._convolution_pointwise.binary(
            *(maps, other, self.packed, self.bias, [self.padding] * 2, [self.stride] * 2, [1, 1]),
            *(1, "add", None, None, [], None),
        )


class _AtLevel(NamedTuple):
    """What a noise level makes of the network."""

    grids: Mapping[Point, Affine]
    enter: _Fine
    shrink: _Fine
    """Of the finest resolution, on whose way down maps are rounded first: gives steps, plus 1/2."""
    fine: Mapping[nn.Module, _Fine]
    """First convolutions of the blocks of the finest resolution."""
    coarse: Mapping[nn.Module, _Weights]
    """First convolutions of the blocks of coarser resolutions."""


class InInt8:
    """A network whose weights do not change, in float32 and in integers of 8 bits on the CPU.

    A window's result does not depend on what is beside it.

    Args:
        network: in float32, without gradients, of two resolutions at least.
        ranges: of its maps.

    Raises:
        ValueError: the ranges are of another network.
    """

    def __init__(self, network: ResidualUNet, ranges: Ranges) -> None:
        self.network, self.ranges = network, ranges
        self._points = points(network)
        if not self._points or ranges.ends.shape[:2] != (len(self._points), 2):
            raise ValueError(f"ranges of shape {tuple(ranges.ends.shape)} fit no such network")
        self._weights = dict(self._rounded_weights())
        leave, std = network.leave, network.residual_std
        self._leave = _Fine.of(_weight(leave) * std, _bias(leave) * std)
        self._seconds: dict[nn.Module, _Fine] = {
            each: _Fine.of(_weight(each.second), _bias(each.second)) for each in self._fine_blocks()
        }
        self._known: dict[float, _AtLevel] = {}

    def __call__(
        self, x: Tensor, sigma: Tensor, source: Tensor, conditions: Tensor | None = None
    ) -> Tensor:
        """As the network, for one noise level that all share, shape (1,), nearly."""
        network, at = self.network, self._at(sigma)
        fine = at.enter(_side_by_side(x, source, conditions))
        fine = self._through_fine(network.down[0], fine, at)
        begin = Point(network.shrink[0], False)
        steps = at.shrink(fine).clamp_(0, STEPS).to(torch.uint8)
        below = self._below(_Rounded(steps, at.grids[begin]), 1, at)
        _add_spread(fine, below.convolved(self._weights[network.grow[0]]))
        fine = self._through_fine(network.up[0], fine, at)
        if source.dtype != torch.float32:
            return source + self._leave(fine)
        return self._leave.plus(fine, source)

    def _through_fine(self, blocks: nn.Module, fine: Tensor, at: _AtLevel) -> Tensor:
        for block in blocks.children():
            fine = self._seconds[block].plus(at.fine[block](fine, "swish"), fine)
        return fine

    def _below(self, coarse: _Rounded, level: int, at: _AtLevel) -> _Rounded:
        """What a coarser resolution and all below it make of a map."""
        network = self.network
        coarse = self._through(network.down[level], coarse, at)
        if level == len(network.shrink):
            return coarse
        shrink, grow, up = network.shrink[level], network.grow[level], network.up[level]
        kept = _Rounded(gathered(coarse.held), coarse.grid)
        to = at.grids[Point(shrink, False)]
        below = self._below(_Rounded(kept.convolved(self._weights[shrink], to), to), level + 1, at)
        grown = below.added(self._weights[grow], kept, at.grids[Point(up, True)])
        return self._through(up, _Rounded(spread(grown.held), grown.grid), at)

    def _through(self, blocks: nn.Module, coarse: _Rounded, at: _AtLevel) -> _Rounded:
        for block in blocks.children():
            assert isinstance(block, ResidualBlock)
            hidden, after = (at.grids[Point(block.second, True)], at.grids[Point(block, False)])
            lit = _Rounded(coarse.convolved(at.coarse[block], hidden, silu=True), hidden)
            coarse = lit.added(self._weights[block.second], coarse, after)
        return coarse

    def _at(self, sigma: Tensor) -> _AtLevel:
        key = float(sigma)
        if key not in self._known:
            if len(self._known) == LEVELS:
                del self._known[min(self._known)]
            self._known[key] = self._told(sigma.float().cpu())
        return self._known[key]

    def _told(self, sigma: Tensor) -> _AtLevel:
        network = self.network
        grids = dict(zip(self._points, self.ranges.at(sigma), strict=True))
        enter = network.enter.weight.clone()
        std = network.residual_std
        enter[:, : network.leave.out_channels] *= (float(sigma) ** 2 + std**2) ** -0.5
        shrink, grid = network.shrink[0], grids[self._points[0]]
        told = network.embed(sigma)
        shift = grid.zero + 0.5
        return _AtLevel(
            grids,
            _Fine.of(enter, _bias(network.enter)),
            _Fine.of(_weight(shrink) / grid.scale, _bias(shrink) / grid.scale + shift, stride=2),
            {block: _Fine.of(*block.folded(told)) for block in self._fine_blocks()},
            dict(self._told_blocks(told)),
        )

    def _told_blocks(self, told: Tensor) -> Iterator[tuple[nn.Module, _Weights]]:
        for block in coarse_blocks(self.network):
            scale, shift = block.told(told)
            weights = self._weights[block.first]
            yield block, weights.scaled(scale, weights.bias * scale + shift)

    def _rounded_weights(self) -> Iterator[tuple[nn.Module, _Weights]]:
        network = self.network
        for block in coarse_blocks(network):
            for each in (block.first, block.second):
                yield each, _Weights.of(_weight(each), _bias(each))
        for shrink in list(network.shrink)[1:]:
            weight = _weight(shrink).movedim(1, -1).flatten(1)
            yield shrink, _Weights.of(weight[..., None, None], _bias(shrink))
        for grow in network.grow:
            yield grow, _Weights.of(_by_place(_weight(grow)), _by_place(_bias(grow)))

    def _fine_blocks(self) -> Iterator[ResidualBlock]:
        for blocks in (self.network.down[0], self.network.up[0]):
            for block in blocks.children():
                assert isinstance(block, ResidualBlock)
                yield block


def _weight(layer: nn.Module) -> Tensor:
    assert isinstance(layer.weight, Tensor)
    return layer.weight


def _bias(layer: nn.Module) -> Tensor:
    assert isinstance(layer.bias, Tensor)
    return layer.bias


def _by_place(outputs: Tensor) -> Tensor:
    """Output channels of a layer before a pixel shuffle, sorted by row, column and channel."""
    return outputs.unflatten(0, (-1, 4)).transpose(0, 1).flatten(0, 1).contiguous()


def _side_by_side(x: Tensor, source: Tensor, conditions: Tensor | None) -> Tensor:
    """What the network is shown, its difference from the source not yet scaled."""
    channels, more = x.shape[1], 0 if conditions is None else conditions.shape[1]
    cells = torch.empty(len(x), *x.shape[2:], 2 * channels + more)
    seen = cells.movedim(-1, 1)
    torch.sub(x, source, out=seen[:, :channels])
    seen[:, channels : 2 * channels] = source
    if conditions is not None:
        seen[:, 2 * channels :] = conditions
    return seen


def exact() -> bool:
    """Whether torch computes convolutions of such integers here, and right.

    CPUs without VNNI add two products in 16 bits, which the largest overflow.
    """
    chance = torch.Generator().manual_seed(0)
    held = torch.randint(0, STEPS + 1, (1, 64, 9, 9), generator=chance).to(torch.uint8)
    held[..., :4] = STEPS
    weight = torch.randint(-127, 128, (64, 64, 3, 3), generator=chance).float()
    weight[:8] = 127.0
    given = _Rounded(held.contiguous(memory_format=_CELLS), Affine(1.0, 7))
    try:
        return _is_exact(given, weight, torch.linspace(-1, 1, 64))
    except (AttributeError, RuntimeError, TypeError, ValueError):
        return False


def _is_exact(given: _Rounded, weight: Tensor, bias: Tensor) -> bool:
    """Against the same in float64; float32 and its roundings come after the sums."""
    weights = _Weights.of(weight, bias)
    values = given.held.double() - given.grid.zero
    true = functional.conv2d(values, weight.double(), padding=1)
    shift, small = bias.double()[:, None, None], 1e-5
    fine, wide = Affine(0.1, 3), Affine(2.0**18, 120)
    lit = given.convolved(weights.scaled(torch.full_like(bias, small), bias), fine, silu=True)
    summed = given.added(weights, _Rounded(given.held.clone(), given.grid), wide).held
    wanted = functional.silu(true * small + shift)
    most = float(true.abs().max())
    in_float32 = _Fine.of(weight, bias)(values.float().contiguous(memory_format=_CELLS))
    pairs = (
        (in_float32, true + shift, 1e-5 * most),
        (given.convolved(weights), true + shift, 1e-6 * most),
        (lit, (wanted / fine.scale + fine.zero).round().clamp(0, STEPS), 1.0),
        (summed, ((true + shift + values) / wide.scale + wide.zero).round().clamp(0, STEPS), 1.0),
    )
    return all(bool(((found - best).abs() <= near).all()) for found, best, near in pairs)
