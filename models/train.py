"""Train the bundled checkpoint: `make train DATA=data HOURS=2`, on a CPU or a GPU.

Every sample is a pure function of (seed, its number), so the order of the data is fixed, an
interrupted run continues as if it had not been interrupted, and more hours simply go on.

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
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional

from tileup.checkpoints.network import Architecture, ResidualUNet

STRIDE = 2
SIGMA_MIN, SIGMA_MAX = 0.008, 0.7  # for pixels in [-1, 1]
CROP = 128
ARCHITECTURE = Architecture(
    channels=3 * STRIDE**2,
    widths=(48, 96, 160),
    down_blocks=(1, 2, 4),
    up_blocks=(2, 2),
    residual_std=0.08,
)
OWN_STEPS = torch.tensor([0.3, 0.35, 0.2, 0.15])
"""How often a batch lies after 0, 1, 2, 3 steps of the network's own; 0 is a step to the truth."""
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


def sample(pictures: Pictures, seed: int, number: int) -> NDArray[np.uint8]:
    """Truth and enlarged source of one crop, uint8, shape (2, CROP, CROP, 3)."""
    rng = np.random.default_rng([seed, number])
    picture = pick(pictures, rng)
    scale = 2.0 if rng.random() < 0.4 else float(np.exp(rng.uniform(np.log(1.5), np.log(4))))
    small = math.ceil((CROP + 24) / scale)
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
    left, top = rng.integers(4, side - CROP - 3, 2).tolist()
    pair = np.stack(
        [np.asarray(each)[top : top + CROP, left : left + CROP] for each in (region, source)]
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

    @classmethod
    def drawn(cls, like: Tensor, generator: torch.Generator) -> Way:
        """A random way: its number of own steps is the same for the whole batch."""
        steps = int(torch.multinomial(OWN_STEPS, 1, generator=generator))
        start, at_start = torch.rand(2, len(like), generator=generator)
        ways = torch.rand(max(steps, 1), len(like), generator=generator)
        ways = torch.where(at_start < 0.2, torch.ones_like(ways), ways)
        shares = [torch.ones(len(like)), *ways.sort(dim=0, descending=True).values]
        return cls(
            start=_column(sigma_of(start * 0.98 + 0.02), like),
            shares=tuple(_column(share, like) for share in shares),
            noise=torch.randn(like.shape, generator=generator).to(like.device),
            own=steps > 0,
        )

    @property
    def sigma(self) -> Tensor:
        """Noise level of each row, shape (B,)."""
        return self.level(self.shares[-1])

    def level(self, share: Tensor) -> Tensor:
        return (self.start * share).clamp(min=SIGMA_MIN / 2).flatten()

    def input(self, truth: Tensor, source: Tensor, network: ResidualUNet) -> Tensor:
        """What the network sees at the end of the way: Euler's steps, exactly."""
        x = source + self.start * self.noise
        for share, following in itertools.pairwise(self.shares):
            clean = truth
            if self.own:
                with torch.no_grad():
                    clean = network(x, self.level(share), source).float()
            x = clean + following / share * (x - clean)
        return x


def _column(values: Tensor, like: Tensor) -> Tensor:
    return values.to(like.device)[:, None, None, None]


class Batches:
    """Batches from `first` on, made ahead by threads; the n-th is the same whoever makes it."""

    def __init__(self, pictures: Pictures, seed: int, size: int, threads: int) -> None:
        self.pictures, self.seed, self.size = pictures, seed, size
        self.pool = ThreadPoolExecutor(threads)

    def one(self, step: int) -> Tensor:
        numbers = range(step * self.size, (step + 1) * self.size)
        return torch.from_numpy(
            np.stack([sample(self.pictures, self.seed, number) for number in numbers])
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
    """Mean PSNR gain over bicubic in dB at scale 2: one step; 8 Euler steps from 0.3, 0.8."""
    gains: dict[str, list[float]] = {"one": [], "d03": [], "d08": []}
    for number, picture in enumerate(pictures):
        truth_image = picture.resize((256, 256), Image.Resampling.LANCZOS)
        small = truth_image.resize((128, 128), Image.Resampling.BICUBIC)
        truth = latents(torch.from_numpy(np.array(truth_image)))[None].to(device)
        pixels = np.array(small.resize((256, 256), Image.Resampling.LANCZOS))
        source = latents(torch.from_numpy(pixels))[None].to(device)
        cubic = np.array(small.resize((256, 256), Image.Resampling.BICUBIC))
        base = _mse(latents(torch.from_numpy(cubic))[None].to(device), truth)
        noise = torch.randn(source.shape, generator=torch.Generator().manual_seed(number))
        for name, denoise, steps in (("one", 0.3, 1), ("d03", 0.3, 8), ("d08", 0.8, 8)):
            levels = sigma_of(torch.linspace(denoise, 0, steps + 1))
            x = source + levels[0].item() * noise.to(device)
            for i in range(steps):
                x0 = network(x, levels[i].to(device)[None], source)
                ratio = float(levels[i + 1] / levels[i]) if i + 1 < steps else 0.0
                x = x0 + ratio * (x - x0)
            gains[name].append(10 * math.log10(base / _mse(x.clamp(-1, 1), truth)))
    return {name: float(np.mean(values)) for name, values in gains.items()}


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
        "window": 160,
        "multiple": STRIDE * 2 ** (len(ARCHITECTURE.widths) - 1),
        "denoise": [0.0, 1.0],
        "sigma": [SIGMA_MIN, SIGMA_MAX],
        "trained": trained,
    }
    tensors = {name: value.half().contiguous().cpu() for name, value in state.items()}
    temporary = path.with_suffix(".part")
    save_file(tensors, temporary, metadata={"tileup": json.dumps(header)})
    temporary.replace(path)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--hours", type=float, default=1.0, help="how much longer to train")
    parser.add_argument("--steps", type=int, help="stop at this step, whatever the time")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rate", type=float, default=5e-4, help="Adam's learning rate")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=1, help="threads that make samples")
    parser.add_argument("--state", type=Path, default=Path("models/state/state.pt"))
    parser.add_argument("--init", type=Path, help="a checkpoint to start from, without a state")
    parser.add_argument("--log", type=Path, default=Path("models/log.csv"))
    parser.add_argument("--out", type=Path, default=Path("models/tileup-small.safetensors"))
    parser.add_argument("--every", type=int, default=500, help="steps between validations")
    return parser.parse_args()


def main() -> None:
    """Train for the given hours from where the last run stopped; export after each validation."""
    arguments = parse_arguments()
    end = time.monotonic() + arguments.hours * 3600
    train, validation = read_pictures(arguments.data)
    device = arguments.device
    torch.manual_seed(arguments.seed)
    network = ResidualUNet(ARCHITECTURE).to(device, memory_format=torch.channels_last)
    average = ResidualUNet(ARCHITECTURE).to(device, memory_format=torch.channels_last)
    average.load_state_dict(network.state_dict())
    optimiser = torch.optim.AdamW(
        network.parameters(), lr=arguments.rate, betas=(0.9, 0.99), weight_decay=1e-4
    )
    step, seconds = 0, 0.0
    if arguments.state.exists():
        state = torch.load(arguments.state, map_location=device, weights_only=True)
        network.load_state_dict(state["network"])
        average.load_state_dict(state["average"])
        optimiser.load_state_dict(state["optimiser"])
        step, seconds = int(state["step"]), float(state["seconds"])
        for group in optimiser.param_groups:
            group["lr"] = arguments.rate
    elif arguments.init is not None:
        weights = load_file(arguments.init)
        network.load_state_dict(weights)
        average.load_state_dict(weights)
    arguments.state.parent.mkdir(parents=True, exist_ok=True)
    arguments.log.parent.mkdir(parents=True, exist_ok=True)

    def checkpoint(loss: float) -> None:
        nonlocal seconds, mark
        seconds, mark = seconds + time.monotonic() - mark, time.monotonic()
        with torch.no_grad():
            figures = validate(average, validation, device)
        temporary = arguments.state.with_suffix(".part")
        torch.save(
            {
                "network": network.state_dict(),
                "average": average.state_dict(),
                "optimiser": optimiser.state_dict(),
                "step": step,
                "seconds": seconds,
            },
            temporary,
        )
        temporary.replace(arguments.state)
        row: dict[str, object] = {
            "step": step,
            "crops": step * arguments.batch,
            "hours": round(seconds / 3600, 3),
            "device": device,
            "rate": arguments.rate,
            "loss": round(loss, 6),
            **{name: round(value, 3) for name, value in figures.items()},
        }
        fresh = not arguments.log.exists()
        with arguments.log.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=list(row))
            if fresh:
                writer.writeheader()
            writer.writerow(row)
        export(average.state_dict(), arguments.out, row)
        print(" ".join(f"{name}={value}" for name, value in row.items()), flush=True)
        mark = time.monotonic()

    mark = time.monotonic()
    losses: list[float] = []
    batches = Batches(train, arguments.seed, arguments.batch, arguments.threads)
    for number, batch in batches.since(step):
        generator = torch.Generator().manual_seed(arguments.seed * 1_000_003 + number)
        truth, source = latents(batch.to(device)).unbind(1)
        way = Way.drawn(truth, generator)
        with torch.autocast(torch.device(device).type, torch.bfloat16):
            x = way.input(truth, source, network).to(memory_format=torch.channels_last)
            prediction = network(x, way.sigma, source)
        # Charbonnier: nearly absolute error, which learns edges sooner than squared error does.
        loss = ((prediction.float() - truth).square() + 0.01**2).sqrt().mean()
        for group in optimiser.param_groups:
            group["lr"] = arguments.rate * min(1.0, (number + 1) / 500)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        step = number + 1
        decay = min(0.999, step / (step + 50))
        with torch.no_grad():
            torch._foreach_lerp_(list(average.parameters()), list(network.parameters()), 1 - decay)
        losses.append(loss.item())
        done = time.monotonic() > end or step == arguments.steps
        if done or step % arguments.every == 0:
            checkpoint(float(np.mean(losses)))
            losses.clear()
        if done:
            return


if __name__ == "__main__":
    main()
