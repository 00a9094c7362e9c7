"""Train the bundled checkpoint: `make train DATA=data HOURS=2`, on a CPU or a GPU.

Every sample is a pure function of (seed, its number), so the order of the data is fixed and an
interrupted run continues as if it had not been interrupted. The learning rate is constant and
falls to 0 over the last part of the hours; more hours start again from there.

What the network learns. The sampler starts from source + noise and moves towards the network's
own predictions, `x := x0 + sigma_next / sigma * (x - x0)`. The training input lies on such a way:
in some batches after one step towards the truth, which teaches the network to use what it sees; in
the others after one to three steps towards its own predictions, which teaches it not to take its
own noise for detail (without those, 8 steps from 0.8 were 3 dB below bicubic, one was 1 dB above).
"""

from __future__ import annotations

import argparse
import csv
import io
import itertools
import json
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from held_out import read_held_out, read_trained_on, refuse_held_out, training_files
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional

from tileup.checkpoints.network import Architecture, ResidualUNet

STRIDE = 2
SIGMA_MIN, SIGMA_MAX = 0.008, 0.7  # for pixels in [-1, 1]
CROP = 128
"""Side of a training crop unless `--crop` says another, pixels."""
ARCHITECTURE = Architecture(
    channels=3 * STRIDE**2,
    widths=(32, 64, 128),
    down_blocks=(0, 1, 4),
    up_blocks=(1, 2),
    residual_std=0.08,
)
OWN_STEPS = torch.tensor([0.2, 0.25, 0.3, 0.25])
"""How often a batch lies after 0, 1, 2, 3 steps of the network's own; 0 is a step to the truth."""
SMOOTH = 0.1
"""Share of the samples that are a flat colour or a ramp, which photographs with their grain are
not: there nothing is to be drawn, with any strength."""
JOINING = 0.5
"""Share of the rows on ways of their own of which a part joins later."""
TEXTURE = 0.05
"""What the contrast of the strongest start counts beside the error of the pixels."""
LATTICE = 4.0
"""What patterns of the network's own lattice count beside the error of the pixels."""
ENDS = ("enter", "leave")
"""Convolutions that Adam trains, beside all biases and scales; Muon trains the others."""
SAVE_EVERY = 50  # steps
KERNELS = [
    Image.Resampling.BICUBIC,
    Image.Resampling.LANCZOS,
    Image.Resampling.BOX,
    Image.Resampling.BILINEAR,
    Image.Resampling.HAMMING,
]


def sigma_of(denoise: Tensor) -> Tensor:
    """Noise level of a strength in [0, 1]: geometric between the two ends."""
    return SIGMA_MIN * (SIGMA_MAX / SIGMA_MIN) ** denoise


def denoise_of(sigma: Tensor) -> Tensor:
    """The strength whose noise level that is."""
    return (sigma / SIGMA_MIN).log() / math.log(SIGMA_MAX / SIGMA_MIN)


def contrast(latents: Tensor) -> Tensor:
    """Root mean square of the differences of neighbours in brightness, around every fourth pixel.

    Args:
        latents: shape (B, 12, h, w); the window is 8 pixels of 2 h by 2 w.
    """
    pixels = functional.pixel_shuffle(latents, STRIDE)
    luma = pixels[:, :1] * 0.299 + pixels[:, 1:2] * 0.587 + pixels[:, 2:] * 0.114
    right, down = luma[..., :-1, 1:] - luma[..., :-1, :-1], luma[..., 1:, :-1] - luma[..., :-1, :-1]
    energy = functional.pad(right.square() + down.square(), (0, 1, 0, 1), mode="replicate")
    return (functional.avg_pool2d(energy, 8, 4) + 1e-6).sqrt()


def lattice_loss(prediction: Tensor, truth: Tensor) -> Tensor:
    """How far each place of the 4 by 4 grid of pixels is from the truth, on average around it.

    A network that is asked for contrast finds the cheapest: a faint pattern that repeats with its
    own lattice. Such a pattern has a mean at each place of the lattice; textures hardly have.

    Args:
        prediction: shape (B, 12, h, w), h and w at least 8.
        truth: the same.

    Returns:
        Shape (B, 48, m, n).
    """
    apart = functional.pixel_unshuffle(prediction - truth, 2)
    return functional.avg_pool2d(apart, 4, 2).abs()


def texture_loss(prediction: Tensor, truth: Tensor, strength: Tensor) -> Tensor:
    """How far contrasts are apart, in logarithms; nothing up to a strength of 0.2, all from 0.8.

    Args:
        prediction: shape (B, 12, h, w).
        truth: the same.
        strength: with which each place started, [0, 1], shape (B, 1, h, w).

    Returns:
        Shape (B, 1, m, n).
    """
    weight = functional.avg_pool2d(((strength - 0.2) / 0.6).clamp(0, 1), 4, 2)
    apart = (contrast(prediction) + 0.02).log() - (contrast(truth) + 0.02).log()
    return apart.abs() * weight


Network = Callable[[Tensor, Tensor, Tensor], Tensor]
Pictures = dict[str, list[Image.Image]]
"""Training crops by category."""


def read_pictures(folder: Path) -> tuple[Pictures, list[Image.Image]]:
    """The training crops, and those of every 30th photograph held out for validation.

    Raises:
        SystemExit: the folder is not there.
    """
    manifest = folder / "train" / "manifest.csv"
    if not manifest.exists():
        raise SystemExit(
            f"train: {manifest} is missing.\n"
            "  Point DATA at a folder with train/manifest.csv and train/images/, for example\n"
            "  make train DATA=/path/to/data"
        )
    rows = list(csv.DictReader(manifest.open(encoding="utf-8")))
    photographs = sorted({row["original_file"] for row in rows})
    held_out = set(photographs[::30])
    train: Pictures = {}
    validation: list[Image.Image] = []
    for row in rows:
        with Image.open(folder / "train" / row["file"]) as image:
            picture = image.convert("RGB")
        kept = (
            validation
            if row["original_file"] in held_out
            else train.setdefault(row["category"], [])
        )
        kept.append(picture)
    return train, validation


def degraded(region: Image.Image, small: int, rng: np.random.Generator) -> Image.Image:
    """Shrink to `small` pixels a side: half the time by clean bicubic, else as life does it."""
    if rng.random() < 0.5:
        return region.resize((small, small), Image.Resampling.BICUBIC)
    if rng.random() < 0.5:
        scale = region.width / small
        region = region.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.1, 0.35) * scale)))
    image = region.resize((small, small), KERNELS[int(rng.integers(len(KERNELS)))])
    if rng.random() < 0.5:
        noise = rng.normal(0, rng.uniform(0.3, 4), (small, small, 3))
        noisy = np.clip(np.asarray(image, dtype=np.float64) + noise, 0, 255)
        image = Image.fromarray(np.rint(noisy).astype(np.uint8))
    if rng.random() < 0.6:
        buffer = io.BytesIO()
        image.save(buffer, "jpeg", quality=int(rng.integers(60, 101)))
        image = Image.open(buffer).convert("RGB")
    return image


def pick(pictures: Pictures, rng: np.random.Generator) -> Image.Image:
    """Half the time any crop, half the time any category first: text and animals are few."""
    if rng.random() < 0.5:
        crops = pictures[sorted(pictures)[int(rng.integers(len(pictures)))]]
    else:
        crops = [each for category in sorted(pictures) for each in pictures[category]]
    return crops[int(rng.integers(len(crops)))]


def busy(region: Image.Image) -> float:
    """How much there is to see: mean difference of neighbours, halved in size against noise."""
    grey = np.asarray(region.convert("L").reduce(2), dtype=np.float32)
    return float(np.abs(np.diff(grey, axis=0)).mean() + np.abs(np.diff(grey, axis=1)).mean())


def smooth(rng: np.random.Generator, crop: int) -> NDArray[np.uint8]:
    """A flat colour half the time, else a ramp in any direction, shape (crop, crop, 3)."""
    start, end = rng.uniform(0, 255, (2, 3))
    if rng.random() < 0.5:
        end = start
    angle = rng.uniform(0, 2 * np.pi)
    rows, columns = np.mgrid[:crop, :crop] - (crop - 1) / 2
    along = 0.5 + (rows * np.sin(angle) + columns * np.cos(angle)) / (crop * 2**0.5)
    return np.rint(start + along[..., None] * (end - start)).astype(np.uint8)


def sample(pictures: Pictures, seed: int, number: int, crop: int = CROP) -> NDArray[np.uint8]:
    """Truth and enlarged source of one crop, uint8, shape (2, crop, crop, 3)."""
    rng = np.random.default_rng([seed, number])
    if rng.random() < SMOOTH:
        return np.stack([smooth(rng, crop)] * 2)
    picture = pick(pictures, rng)
    scale = 2.0 if rng.random() < 0.4 else float(np.exp(rng.uniform(np.log(1.5), np.log(4))))
    small = math.ceil((crop + 24) / scale)
    side = round(small * scale)
    # A crop shrunk first has full colour resolution and the sharpness of a small picture.
    shrink = min(float(rng.uniform(1, 2)) if rng.random() < 0.6 else 1.0, picture.width / side)
    taken = min(math.floor(side * shrink), picture.width)
    places = rng.integers(0, picture.width - taken + 1, (3, 2)).tolist()
    regions = [picture.crop((left, top, left + taken, top + taken)) for left, top in places]
    # Most of most photographs is flat; there is little to learn there.
    region = max(regions, key=busy) if rng.random() < 0.7 else regions[0]
    if taken != side:
        region = region.resize((side, side), Image.Resampling.LANCZOS)
    source = degraded(region, small, rng).resize((side, side), Image.Resampling.LANCZOS)
    left, top = rng.integers(4, side - crop - 3, 2).tolist()
    pair = np.stack(
        [np.asarray(each)[top : top + crop, left : left + crop] for each in (region, source)]
    )
    pair = np.rot90(pair, int(rng.integers(4)), axes=(1, 2))
    return np.ascontiguousarray(pair[:, :, ::-1] if rng.random() < 0.5 else pair)


def latents(pixels: Tensor) -> Tensor:
    """uint8 (..., H, W, 3) to latents in [-1, 1], (..., 12, H / 2, W / 2)."""
    planes = pixels.movedim(-1, -3).float() / 127.5 - 1
    return functional.pixel_unshuffle(planes, STRIDE)


@dataclass(frozen=True, slots=True)
class Way:
    """How the sampler came to where each row of a batch lies. Tensors of shape (B, 1, 1, 1)."""

    start: Tensor
    """Noise level that sampling started from."""
    shares: tuple[Tensor, ...]
    """How much of the start was left after each step, 1 first; the last is where the row lies."""
    noise: Tensor
    """The run's noise, shape (B, C, h, w)."""
    own: bool
    """Whether the steps went towards the network's own predictions, or towards the truth."""
    joins: Tensor
    """After how many steps each place began to take part, shape (B, 1, h, w), whole numbers."""

    @classmethod
    def drawn(cls, like: Tensor, generator: torch.Generator) -> Way:
        """A random way: its number of own steps is the same for the whole batch."""
        steps = int(torch.multinomial(OWN_STEPS, 1, generator=generator))
        start, at_start, even = torch.rand(3, len(like), generator=generator)
        # More weak starts than strong ones: there it must tell its noise from fine texture.
        start = sigma_of(start**1.5 * 0.98 + 0.02)
        ways = torch.rand(max(steps, 1), len(like), generator=generator)
        # Half of the rows come down evenly in log sigma, as the sampler does.
        ways = torch.where(even < 0.5, (SIGMA_MIN / start) ** ways, ways)
        ways = torch.where(at_start < 0.2, torch.ones_like(ways), ways)
        shares = [torch.ones(len(like)), *ways.sort(dim=0, descending=True).values]
        joins = torch.zeros(len(like), 1, *like.shape[2:])
        for place in joins if steps else ():
            part = _part_of(place, generator)
            joining = torch.rand((), generator=generator) < JOINING
            place[part] = joining * torch.randint(1, steps + 1, (), generator=generator)
        return cls(
            start=_column(start, like),
            shares=tuple(_column(share, like) for share in shares),
            noise=torch.randn(like.shape, generator=generator).to(like.device),
            own=steps > 0,
            joins=joins.to(like.device),
        )

    def rows(self, rows: slice) -> Way:
        """Some rows of the batch."""
        shares = tuple(share[rows] for share in self.shares)
        return Way(self.start[rows], shares, self.noise[rows], self.own, self.joins[rows])

    @property
    def sigma(self) -> Tensor:
        """Noise level of each row, shape (B,)."""
        return self.level(self.shares[-1])

    @property
    def strength(self) -> Tensor:
        """With which each place started, shape (B, 1, h, w)."""
        shares = torch.cat(self.shares, dim=1).flatten(1)  # (B, steps + 1)
        begun = shares.gather(1, self.joins.long().flatten(1)).view(self.joins.shape)
        return denoise_of((self.start * begun).clamp(min=SIGMA_MIN))

    def level(self, share: Tensor) -> Tensor:
        """Noise level at a share of the start, shape (B,)."""
        return (self.start * share).clamp(min=SIGMA_MIN / 2).flatten()

    def input(self, truth: Tensor, source: Tensor, network: Network) -> Tensor:
        """What the network sees at the end of the way: Euler's steps, exactly."""
        x = source + self.start * self.noise
        for step, (share, following) in enumerate(itertools.pairwise(self.shares), 1):
            clean = truth
            if self.own:
                with torch.no_grad():
                    clean = network(x, self.level(share), source).float()
            x = clean + following / share * (x - clean)
            # What has not joined yet is the source, with as much of the noise as there is now.
            x = torch.where(self.joins < step, x, source + self.start * following * self.noise)
        return x


def _part_of(place: Tensor, generator: torch.Generator) -> tuple[slice, ...]:
    """A rectangle of a place of shape (1, h, w); at least one of its edges lies within."""
    slices = [slice(None)]
    for length in place.shape[1:]:
        ends = torch.randint(-length // 2, length + length // 2, (2,), generator=generator).tolist()
        slices.append(slice(max(min(ends), 0), max(max(ends), 1)))
    return tuple(slices)


def _column(values: Tensor, like: Tensor) -> Tensor:
    return values.to(like.device)[:, None, None, None]


class Batches:
    """Batches from `first` on, made ahead by threads; the n-th is the same whoever makes it."""

    def __init__(
        self, pictures: Pictures, seed: int, size: int, threads: int, crop: int = CROP
    ) -> None:
        self.pictures, self.seed, self.size, self.crop = pictures, seed, size, crop
        self.pool = ThreadPoolExecutor(threads)

    def one(self, step: int) -> Tensor:
        numbers = range(step * self.size, (step + 1) * self.size)
        return torch.from_numpy(
            np.stack([sample(self.pictures, self.seed, number, self.crop) for number in numbers])
        )

    def since(self, first: int) -> Iterator[tuple[int, Tensor]]:
        ahead = [self.pool.submit(self.one, first + i) for i in range(4)]
        step = first
        while True:
            batch = ahead.pop(0).result()
            ahead.append(self.pool.submit(self.one, step + 4))
            yield step, batch
            step += 1


def validate(network: ResidualUNet, pictures: list[Image.Image], device: str) -> dict[str, float]:
    """Mean PSNR gain over bicubic in dB at scale 2.

    Of one step; of 8 Euler steps from 0.3 (d03) and from 0.8 (d08), and of 4 from 0.8 (f08). And
    the contrast of the last and of 4 steps from 0.2, as shares of the truth's (e08, e02).
    """
    figures: defaultdict[str, list[float]] = defaultdict(list)
    for number, picture in enumerate(pictures):
        truth_image = picture.resize((256, 256), Image.Resampling.LANCZOS)
        small = truth_image.resize((128, 128), Image.Resampling.BICUBIC)
        truth = latents(torch.from_numpy(np.array(truth_image)))[None].to(device)
        pixels = np.array(small.resize((256, 256), Image.Resampling.LANCZOS))
        source = latents(torch.from_numpy(pixels))[None].to(device)
        cubic = np.array(small.resize((256, 256), Image.Resampling.BICUBIC))
        base = _mse(latents(torch.from_numpy(cubic))[None].to(device), truth)
        noise = torch.randn(source.shape, generator=torch.Generator().manual_seed(number))
        for gain, kept, denoise, steps in (
            ("one", None, 0.3, 1),
            ("d03", None, 0.3, 8),
            ("d08", None, 0.8, 8),
            ("f08", "e08", 0.8, 4),
            (None, "e02", 0.2, 4),
        ):
            levels = sigma_of(torch.linspace(denoise, 0, steps + 1))
            x = source + levels[0].item() * noise.to(device)
            for i in range(steps):
                x0 = network(x, levels[i].to(device)[None], source).float()
                ratio = float(levels[i + 1] / levels[i]) if i + 1 < steps else 0.0
                x = x0 + ratio * (x - x0)
            x = x.clamp(-1, 1)
            if gain:
                figures[gain].append(10 * math.log10(base / _mse(x, truth)))
            if kept:
                figures[kept].append(float(contrast(x).mean() / contrast(truth).mean()))
    return {name: float(np.mean(values)) for name, values in figures.items()}


def _mse(a: Tensor, b: Tensor) -> float:
    return float((a - b).square().mean())


def export(state: dict[str, Tensor], path: Path, trained: dict[str, object]) -> None:
    """Write the half-precision checkpoint, with everything needed to build it in its header."""
    header = {
        "format": 1,
        "architecture": {
            "channels": ARCHITECTURE.channels,
            "widths": ARCHITECTURE.widths,
            "down_blocks": ARCHITECTURE.down_blocks,
            "up_blocks": ARCHITECTURE.up_blocks,
            "residual_std": ARCHITECTURE.residual_std,
        },
        "stride": STRIDE,
        "window": 144,
        "multiple": STRIDE * 2 ** (len(ARCHITECTURE.widths) - 1),
        "denoise": [0.0, 1.0],
        "sigma": [SIGMA_MIN, SIGMA_MAX],
        "trained": trained,
    }
    tensors = {name: value.half().contiguous().cpu() for name, value in state.items()}
    temporary = path.with_suffix(".part")
    save_file(tensors, temporary, metadata={"tileup": json.dumps(header)})
    temporary.replace(path)


@dataclass(frozen=True, slots=True)
class Rate:
    """The learning rate at each step: a short start, constant, then straight down to 0."""

    peak: float
    finish: int | None = None
    """The step at which it is 0; None while that is not known."""
    tail: int = 1
    """Over how many steps before that it falls."""
    warm: int = 100

    def at(self, step: int) -> float:
        start = min(1.0, (step + 1) / self.warm)
        left = 1.0 if self.finish is None else (self.finish - step) / self.tail
        return self.peak * start * min(1.0, max(0.0, left))

    def memory(self, step: int) -> float:
        """How much of the running average is kept: of some 1000 steps, and of the last at the end.

        An average that reaches far back would undo what the falling rate has gained.
        """
        horizon = min(1000.0, step + 50.0)
        if self.finish is not None:
            horizon = min(horizon, max(2.0, (self.finish - step) / 4))
        return 1 - 1 / horizon


class Muon(torch.optim.Optimizer):
    """Momentum whose update of each matrix is made orthogonal (Jordan et al. 2024).

    A convolution's weight is a matrix of outputs by inputs and places. The update is scaled to the
    size of Adam's (Liu et al. 2025, arXiv 2502.16982), so that one learning rate serves both.
    """

    def __init__(self, parameters: Iterable[Tensor], lr: float) -> None:
        super().__init__(parameters, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                state = self.state[parameter]
                if not state:
                    state["momentum"] = torch.zeros_like(parameter)
                momentum = state["momentum"].lerp_(parameter.grad, 0.05)
                matrix = parameter.grad.lerp(momentum, 0.95).reshape(len(parameter), -1)
                update = _orthogonal(matrix) * 0.2 * max(matrix.shape) ** 0.5
                parameter.mul_(1 - group["lr"] * 1e-4)
                parameter.add_(update.reshape(parameter.shape), alpha=-group["lr"])


def _orthogonal(matrix: Tensor) -> Tensor:
    """Singular values brought near to 1 by five steps of Newton and Schulz."""
    tall = matrix.shape[0] > matrix.shape[1]
    x = (matrix.T if tall else matrix).bfloat16()
    x = x / (x.norm() + 1e-7)
    for _ in range(5):
        square = x @ x.T
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return (x.T if tall else x).float()


class Trainer:
    """The network, its running average and the optimisers; everything that a resumed run needs.

    Args:
        architecture: of the network.
        seed: of the noise; `advance` at a step is a function of the state, the batch and this.
        rate: learning rate.
        device: where to train.
        workers: parts that a batch is cut into, each computed by a thread of its own. On a busy
            CPU that is faster than threads that wait for each other within each layer.
        texture: what contrast counts beside the error of the pixels.
    """

    def __init__(
        self,
        architecture: Architecture,
        *,
        seed: int,
        rate: Rate,
        device: str,
        workers: int = 1,
        texture: float = TEXTURE,
    ) -> None:
        torch.manual_seed(seed)
        self.seed, self.rate, self.device, self.texture = seed, rate, device, texture
        self.network = ResidualUNet(architecture).to(device, memory_format=torch.channels_last)
        self.average = ResidualUNet(architecture).to(device, memory_format=torch.channels_last)
        self.average.load_state_dict(self.network.state_dict())
        named = list(self.network.named_parameters())
        inner = [p for name, p in named if p.ndim == 4 and not name.startswith(ENDS)]
        outer = [p for name, p in named if p.ndim != 4 or name.startswith(ENDS)]
        self.optimisers = (
            Muon(inner, lr=rate.peak),
            torch.optim.AdamW(outer, lr=rate.peak, betas=(0.9, 0.99), weight_decay=1e-4),
        )
        cuda = torch.device(device).type == "cuda"
        self.call = torch.compile(self.network) if cuda else self.network
        self.workers = 1 if cuda else workers
        self.pool = ThreadPoolExecutor(self.workers)
        self.step, self.seconds = 0, 0.0

    def start_from(self, weights: dict[str, Tensor]) -> None:
        """Begin with the weights of a checkpoint."""
        self.network.load_state_dict(weights)
        self.average.load_state_dict(weights)

    def advance(self, pixels: Tensor) -> float:
        """One step on a batch of uint8 (B, 2, crop, crop, 3); returns the loss."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.step)
        truth, source = latents(pixels.to(self.device)).unbind(1)
        way = Way.drawn(truth, generator)
        parts = [slice(i, None, self.workers) for i in range(self.workers)]
        found = list(self.pool.map(lambda rows: self._part(truth, source, way, rows), parts))
        for parameter, *each in zip(
            self.network.parameters(), *(gradients for _, gradients in found), strict=True
        ):
            parameter.grad = torch.stack(each).sum(dim=0) if len(each) > 1 else each[0]
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = self.rate.at(self.step)
            optimiser.step()
        keep = self.rate.memory(self.step)
        with torch.no_grad():
            torch._foreach_lerp_(
                list(self.average.parameters()), list(self.network.parameters()), 1 - keep
            )
        self.step += 1
        return sum(loss for loss, _ in found)

    def _part(
        self, truth: Tensor, source: Tensor, way: Way, rows: slice
    ) -> tuple[float, tuple[Tensor, ...]]:
        """Loss and gradients of some rows, as their share of the batch's."""
        share, part = truth[rows], way.rows(rows)
        with torch.autocast(torch.device(self.device).type, torch.bfloat16):
            x = part.input(share, source[rows], self.call).to(memory_format=torch.channels_last)
            prediction = self.call(x, part.sigma, source[rows])
        # Charbonnier: nearly absolute error, which learns edges sooner than squared error does.
        prediction = prediction.float()
        loss = ((prediction - share).square() + 0.01**2).sqrt().sum() / truth.numel()
        if self.texture:
            apart = texture_loss(prediction, share, part.strength)
            loss = loss + self.texture * apart.sum() / (apart[0].numel() * len(truth))
            locked = lattice_loss(prediction, share)
            loss = loss + LATTICE * locked.sum() / (locked[0].numel() * len(truth))
        return loss.item(), torch.autograd.grad(loss, list(self.network.parameters()))

    def state(self) -> dict[str, object]:
        return {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimisers": [each.state_dict() for each in self.optimisers],
            "step": self.step,
            "seconds": self.seconds,
            "finish": self.rate.finish,
            "tail": self.rate.tail,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state; a fall of the learning rate that had begun is gone on with."""
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        for optimiser, kept in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(kept)
        self.step, self.seconds = int(state["step"]), float(state["seconds"])
        finish = state.get("finish")
        if finish is not None and finish > self.step:
            self.rate = replace(self.rate, finish=finish, tail=state["tail"])


def save(state: dict[str, object], path: Path) -> None:
    """Write a state whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".part")
    torch.save(state, temporary)
    temporary.replace(path)


def note(row: dict[str, object], path: Path) -> None:
    """Append to the log."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(row))
        if fresh:
            writer.writeheader()
        writer.writerow(row)
    print(" ".join(f"{name}={value}" for name, value in row.items()), flush=True)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--hours", type=float, default=1.0, help="how much longer to train")
    parser.add_argument("--finish", type=int, help="end at this step, whatever the time")
    parser.add_argument(
        "--tail", type=float, default=0.3, help="share of the run in which the rate falls to 0"
    )
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--crop", type=int, default=CROP, help="side of a crop, pixels")
    parser.add_argument("--rate", type=float, default=4e-4, help="learning rate")
    parser.add_argument(
        "--texture", type=float, default=TEXTURE, help="what contrast counts beside pixels"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=1, help="threads that make samples")
    parser.add_argument(
        "--workers", type=int, default=torch.get_num_threads(), help="parts of a batch, on a CPU"
    )
    parser.add_argument("--state", type=Path, default=Path("models/state/state.pt"))
    parser.add_argument("--init", type=Path, help="a checkpoint to start from, without a state")
    parser.add_argument("--log", type=Path, default=Path("models/log.csv"))
    parser.add_argument("--out", type=Path, default=Path("models/tileup-small.safetensors"))
    parser.add_argument("--every", type=int, default=500, help="steps between validations")
    return parser.parse_args()


def main() -> None:
    """Train for the given hours from where the last run stopped; export after each validation."""
    arguments = parse_arguments()
    train, validation = read_pictures(arguments.data)
    refuse_held_out(training_files(arguments.data), read_held_out(), read_trained_on())
    trainer = Trainer(
        ARCHITECTURE,
        seed=arguments.seed,
        rate=Rate(arguments.rate),
        device=arguments.device,
        workers=arguments.workers,
        texture=arguments.texture,
    )
    if arguments.state.exists():
        trainer.restore(
            torch.load(arguments.state, map_location=arguments.device, weights_only=True)
        )
    elif arguments.init is not None:
        trainer.start_from(load_file(arguments.init))
    if trainer.workers > 1:
        torch.set_num_threads(1)
    run(trainer, train, validation, arguments)


def run(
    trainer: Trainer,
    train: Pictures,
    validation: list[Image.Image],
    arguments: argparse.Namespace,
) -> None:
    """Train until the rate has fallen to 0."""
    begin = mark = time.monotonic()
    first, length = trainer.step, arguments.hours * 3600
    if arguments.finish is not None:
        steps = max(1, round(arguments.tail * (arguments.finish - first)))
        trainer.rate = replace(trainer.rate, finish=arguments.finish, tail=steps)
    losses: list[float] = []
    batches = Batches(train, arguments.seed, arguments.batch, arguments.threads, arguments.crop)
    for _, batch in batches.since(trainer.step):
        losses.append(trainer.advance(batch))
        passed = time.monotonic() - begin
        enough = trainer.step - first >= 20 or passed >= length
        if trainer.rate.finish is None and enough and passed >= (1 - arguments.tail) * length:
            # From here on the rate is a function of the step, so that a resumed run has the same.
            pace = passed / (trainer.step - first)
            steps = max(1, round((length - passed) / pace))
            trainer.rate = replace(trainer.rate, finish=trainer.step + steps, tail=steps)
        done = trainer.rate.finish is not None and trainer.step >= trainer.rate.finish
        if not done and trainer.step % arguments.every:
            if trainer.step % SAVE_EVERY == 0:
                trainer.seconds, mark = trainer.seconds + time.monotonic() - mark, time.monotonic()
                save(trainer.state(), arguments.state)
                print(f"step={trainer.step} loss={np.mean(losses):.5f}", flush=True)
            continue
        trainer.seconds, mark = trainer.seconds + time.monotonic() - mark, time.monotonic()
        save(trainer.state(), arguments.state)
        with torch.no_grad(), torch.autocast(torch.device(arguments.device).type, torch.bfloat16):
            figures = validate(trainer.average, validation, arguments.device)
        row: dict[str, object] = {
            "step": trainer.step,
            "crops": trainer.step * arguments.batch,
            "hours": round(trainer.seconds / 3600, 3),
            "device": arguments.device,
            "rate": round(trainer.rate.at(trainer.step), 8),
            "loss": round(float(np.mean(losses)), 6),
            **{name: round(value, 3) for name, value in figures.items()},
        }
        note(row, arguments.log)
        export(trainer.average.state_dict(), arguments.out, row)
        losses.clear()
        mark = time.monotonic()
        if done:
            return


if __name__ == "__main__":
    main()
