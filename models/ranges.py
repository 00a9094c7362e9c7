"""Between which ends the bundled checkpoint's maps are rounded to 8 bits.

    make ranges DATA=data

For each network of a checkpoint, for each map that is rounded (`tileup/families/rounding.py`) and
for four noise levels. They begin with the ends that were met in runs of the sampler; then they are
learned: what a network with rounded weights and maps draws shall be what it draws without, the
gradient passing a rounding as if it were none (Esser et al. 2020, arXiv 1902.08153). Narrow ends
cut what is rare, wide ones round everything more coarsely. Weights stay as they are.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.training.degradations import DAMAGED
from models.training.files import Part, Parts, read_parts, write_parts
from models.training.levels import ARCHITECTURE, SIGMA_MAX, SIGMA_MIN, latents
from models.training.runs import Run, as_shown
from models.training.samples import Batches, Recipe, read_pictures
from models.training.ways import Network
from tileup.families.residual_unet import ResidualUNet
from tileup.families.rounding import (
    LEAST_SILU,
    STEPS,
    Point,
    coarse_blocks,
    in_steps,
    knots,
    points,
    shares,
)

SHIPPED = Path(__file__).resolve().parent / "tileup-small.safetensors"
KNOTS = 4
MET = 24
"""Batches whose ends are where learning begins."""
RATE = 0.02
FLATLY = 4.0
"""What errors count more that a square of 4x4 cells has in common: shades are seen before noise."""
RECIPES = {
    "base": Recipe(crop=96, soft=0.12, letters=0.06),
    "vivid": Recipe(crop=96, soft=0.0, letters=0.02),
    "deblock": Recipe(crop=96, soft=0.05, letters=0.04, clean=0.0, quality=DAMAGED, besides=0.3),
}
"""As each network was trained."""


class Rounding(torch.autograd.Function):
    """Rounds to 256 steps between ends; the gradient of values is 1 within them and 0 beyond."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, low: Tensor, high: Tensor) -> Tensor:  # noqa: ANN401
        scale = (high - low) / STEPS
        zero = (-low / scale).round().clamp(1, STEPS - 1)
        steps = (values / scale + zero).round()
        below, above = steps < 0, steps > STEPS
        found = (steps.clamp(0, STEPS) - zero) * scale
        ctx.save_for_backward(below, above, found - values, high - low)
        return found

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor, Tensor, Tensor]:  # noqa: ANN401
        (gradient,) = gradients
        below, above, moved, wide = ctx.saved_tensors
        within = gradient * ~(below | above)
        wider = _of_rows(within * moved) / wide
        return within, _of_rows(gradient * below) - wider, _of_rows(gradient * above) + wider


def _of_rows(values: Tensor) -> Tensor:
    return values.sum(dim=(1, 2, 3), keepdim=True)


Change = Callable[[int, Tensor], Tensor | None]
"""Called with a point's number and its map; gives what it becomes, or None to leave it."""


@contextmanager
def watched(network: ResidualUNet, change: Change) -> Generator[None]:
    """A network whose maps are seen, and may be changed, where they are rounded."""
    handles = [
        _hook(point, lambda values, number=number: change(number, values))
        for number, point in enumerate(points(network))
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _hook(point: Point, change: Callable[[Tensor], Tensor | None]) -> Any:  # noqa: ANN401
    if not point.given:
        return point.module.register_forward_hook(lambda _, __, found: change(cast(Tensor, found)))

    def before(_: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        found = change(given[0])
        return given if found is None else (found, *given[1:])

    return point.module.register_forward_pre_hook(before)


def with_rounded_weights(network: ResidualUNet) -> ResidualUNet:
    """A copy whose convolutions below the finest resolution have weights of 8 bits."""
    rounded = copy.deepcopy(network)
    layers: list[nn.Module] = [*list(rounded.shrink)[1:], *rounded.grow]
    for block in coarse_blocks(rounded):
        layers += [block.first, block.second]
    for layer in layers:
        weight = cast(Tensor, layer.weight)
        numbers, scales = in_steps(weight)
        weight.copy_(numbers * scales)
    return rounded


@dataclass(frozen=True, slots=True)
class Shown:
    """What a network is shown in a step of a run, and what it draws."""

    x: Tensor
    sigma: Tensor
    source: Tensor
    conditions: Tensor | None
    x0: Tensor


@dataclass(frozen=True, slots=True)
class Calibration:
    """Learns the ends of one network."""

    network: ResidualUNet
    """In float32, without gradients."""
    batches: Batches
    told: bool
    """Whether it is told of texture."""

    def shown(self, first: int) -> Iterator[Shown]:
        """Steps of runs, batch by batch."""
        chance = torch.Generator().manual_seed(first)
        for _, pixels in self.batches.since(first):
            truth, source = latents(pixels).unbind(1)
            yield from self._steps(Run.drawn(truth, chance), source)

    def _steps(self, run: Run, source: Tensor) -> list[Shown]:
        found: list[Shown] = []

        def network(x: Tensor, sigma: Tensor, source: Tensor, texture: Tensor) -> Tensor:
            conditions = texture if self.told else None
            x0 = self.network(x, sigma, source, conditions)
            # A copy: whoever sets its colours may do so in its memory.
            found.append(Shown(x, sigma, source, conditions, x0.clone()))
            return x0

        seen: Network = as_shown(network) if self.told else network
        run.prediction(source, seen)
        return found

    def met(self, count: int) -> Tensor:
        """Ends that occur, shape (points, 2, KNOTS), positive."""
        ends = torch.full((len(points(self.network)), 2, KNOTS), 0.05)
        levels, near = _levels(), torch.zeros(0, dtype=torch.long)

        def note(number: int, values: Tensor) -> None:
            for level, row in zip(near.tolist(), values, strict=True):
                found = torch.stack([-row.min(), row.max()])
                ends[number, :, level] = torch.maximum(ends[number, :, level], found)

        seen = self.shown(0)
        for _ in range(count):
            each = next(seen)
            near = shares(each.sigma, levels).argmax(dim=1)
            with watched(self.network, note):
                self.network(each.x, each.sigma, each.source, each.conditions)
        # A level that no run came near to is as its neighbour.
        return ends.cummax(dim=2).values.flip(2).where(ends.flip(2) == 0.05, ends.flip(2)).flip(2)

    def learned(self, count: int, first: Tensor) -> Tensor:
        """Ends after so many steps from the first ones."""
        logs = first.log().requires_grad_()
        optimiser = torch.optim.Adam([logs], lr=RATE, betas=(0.9, 0.99))
        rounded, seen, mean = with_rounded_weights(self.network), self.shown(MET), 0.0
        for step in range(count):
            optimiser.param_groups[0]["lr"] = RATE * (1 - step / count)
            optimiser.zero_grad()
            loss = self._loss(rounded, logs, next(seen))
            loss.backward()
            optimiser.step()
            mean += (float(loss.detach()) - mean) / min(step + 1, 50)
            if step % 50 == 49:
                print(f"step {step + 1}: squared error {mean:.3f} of 255^2", flush=True)
        return logs.detach().exp()

    def _loss(self, rounded: ResidualUNet, logs: Tensor, shown: Shown) -> Tensor:
        with changed_by(rounded, logs, shown.sigma):
            x0 = rounded(shown.x, shown.sigma, shown.source, shown.conditions)
        apart = (x0 - shown.x0) * 127.5
        return apart.square().mean() + FLATLY * functional.avg_pool2d(apart, 4).square().mean()


@contextmanager
def changed_by(network: ResidualUNet, logs: Tensor, sigma: Tensor) -> Generator[None]:
    """A network whose maps are rounded.

    Args:
        network: with weights that are rounded or not.
        logs: logarithms of ends, shape (points, 2, KNOTS).
        sigma: noise levels of the rows that it will be shown, shape (B,).
    """
    ends = (logs @ shares(sigma, _levels()).float().T).exp()[..., None, None, None]
    lit = {number for number, point in enumerate(points(network)) if _is_lit(point)}

    def change(number: int, values: Tensor) -> Tensor:
        low = torch.full_like(ends[number, 0], LEAST_SILU) if number in lit else -ends[number, 0]
        return cast(Tensor, Rounding.apply(values, low, ends[number, 1]))

    with watched(network, change):
        yield


def _is_lit(point: Point) -> bool:
    """Whether a map comes from SiLU: there the lower end is known."""
    return point.given and isinstance(point.module, nn.Conv2d)


def _levels() -> Tensor:
    return knots(SIGMA_MIN, SIGMA_MAX, KNOTS)


def calibrated(part: Part, name: str, data: Path, steps: int, batch: int) -> Part:
    """A checkpoint's network with its ranges."""
    told = name == "vivid"
    network = ResidualUNet(replace(ARCHITECTURE, conditions=int(told)))
    network.load_state_dict(part.weights)
    network.requires_grad_(False).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    batches = Batches(read_pictures(data)[0], RECIPES[name], seed=5, size=batch, threads=1)
    calibration = Calibration(network, batches, told)
    ends = calibration.learned(steps, calibration.met(MET))
    for number, point in enumerate(points(network)):
        if _is_lit(point):
            ends[number, 0] = -LEAST_SILU
    return replace(part, ranges=ends)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--model", type=Path, default=SHIPPED)
    parser.add_argument("-o", "--out", type=Path, help="by default the model itself")
    names = [each.name for each in fields(Parts)]
    parser.add_argument("--networks", nargs="+", choices=names, default=names)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--batch", type=int, default=8)
    arguments = parser.parse_args()
    parts = read_parts(arguments.model)
    for name in arguments.networks:
        part: Part | None = getattr(parts, name)
        if part is not None:
            print(name, flush=True)
            found = calibrated(part, name, arguments.data, arguments.steps, arguments.batch)
            parts = replace(parts, **{name: found})
    write_parts(parts, arguments.out or arguments.model)


if __name__ == "__main__":
    main()
