"""Against what others do with the same checkpoint: `make bench-peers DATA=data`.

The plain tiled loop shows the network every window of a grid in every step; so do ComfyUI's tiled
nodes and Ultimate SD Upscale. Counted over all photographs from plans alone: area of the windows
that the loop evaluates over that of tileup's, at the family's own window, overlap and steps. And
measured with a narrow checkpoint of random weights: the loop, tileup, and diffusers' img2img with
and without its tiled VAE on a small picture, and the loop and tileup on a photograph at its own
size; each in a process of its own, one thread, the same canvas, steps, sampler, no guidance. Half
an hour of one core.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from bench.tables import ROOT, pictures, table, write
from bench.vae import peak_bytes
from tests.checkpoints import whole
from tileup.checkpoints.find import find_model, identify
from tileup.checkpoints.load import load_model
from tileup.checkpoints.model import DiffusionModel
from tileup.contracts import Box, Denoiser, ModelSpec, Scene, Wish
from tileup.images.picture import Picture
from tileup.plan.planning import Planned, plan_pixels
from tileup.settings.layers import resolve
from tileup.settings.values import Settings
from tileup.upscaling import upscale_picture

DOCUMENT = "docs/quality.md"
STRENGTHS = {"min_denoise": 0.2, "max_denoise": 0.8}
BUDGETS: tuple[dict[str, object], ...] = ({}, {"budget": 0.5})
SIZES = {1: "their own size", 2: "half their size", 4: "a quarter of their size"}
WAYS = {
    "loop": "plain tiled loop",
    "tileup": "tileup, 0.2 to 0.8",
    "whole": "diffusers' img2img, untiled",
    "vae": "diffusers' img2img, VAE in tiles",
}


@dataclass(frozen=True, slots=True)
class Drawn:
    """A photograph that is drawn."""

    picture: str
    shrunk: int
    """How much it is shrunk to make the input."""
    ways: tuple[str, ...]
    """Keys of WAYS."""


DRAWN = {
    "same-checkpoint": Drawn("aitzgorri_*.jpg", 6, tuple(WAYS)),
    "large-canvas": Drawn("Picture_0B_*.jpg", 1, ("loop", "tileup")),
}
"""0.7 output megapixels, and 18, which no way that is shown the whole canvas can do."""


def grid(height: int, width: int, side: int, overlap: int) -> list[Box]:
    """The fewest windows, evenly placed, that cover a canvas and overlap by so much at least."""
    tops, lefts = (_starts(length, side, overlap) for length in (height, width))
    return [
        Box(top, left, top + min(side, height), left + min(side, width))
        for top in tops
        for left in lefts
    ]


def _starts(length: int, side: int, overlap: int) -> list[int]:
    if length <= side:
        return [0]
    count = math.ceil((length - overlap) / (side - overlap))
    return [round(number * (length - side) / (count - 1)) for number in range(count)]


def looped(
    denoiser: Denoiser, x: Tensor, sigmas: Sequence[float], windows: Sequence[Box], batch: int
) -> Tensor:
    """Euler's steps, each over all windows; where they overlap x0 is their mean.

    Bar-Tal et al. (2023), arXiv 2302.08113. `x` is of shape (1, C, H, W).
    """
    for sigma, following in itertools.pairwise(sigmas):
        total, count = torch.zeros_like(x), torch.zeros_like(x[:, :1])
        for start in range(0, len(windows), batch):
            chosen = windows[start : start + batch]
            crops = torch.cat([x[..., *box.index] for box in chosen])
            answers = denoiser(crops, torch.full((len(chosen),), sigma), chosen)
            for box, x0 in zip(chosen, answers, strict=True):
                total[..., *box.index] += x0
                count[..., *box.index] += 1
        x = x + (x - total / count) * (following - sigma) / sigma
    return x


@dataclass(frozen=True, slots=True)
class Counted:
    """Of one photograph."""

    ratio: float
    """Area of the loop's windows over that of tileup's, over all steps."""
    working: float
    """Share of the cells at work, over all steps."""


def counted(pixels: NDArray[np.float32], spec: ModelSpec, flags: dict[str, object]) -> Counted:
    height, width = (2 * side for side in pixels.shape[:2])
    settings = resolve(spec.family, flags=STRENGTHS | flags)
    made = plan_pixels(pixels, width, height, spec, settings)
    cells, side = spec.stride, spec.window // spec.stride
    windows = grid(-(-height // cells), -(-width // cells), side, settings.overlap // cells)
    loop = settings.steps * side**2 * len(windows)
    return Counted(loop / made.itinerary.evaluated_cells(made.sampler), working_share(made))


def working_share(made: Planned) -> float:
    """Share of the picture's cells that are at work, over all steps."""
    strengths = made.itinerary.strengths.cells()[: made.plan.rows, : made.plan.columns]
    phases = made.itinerary.phases
    working = (each.steps * (strengths >= each.strengths[-1]).sum() for each in phases)
    return float(sum(working)) / (strengths.size * made.itinerary.schedule.steps)


def photographs(data: Path, shrunk: int) -> Iterator[NDArray[np.float32]]:
    for path in pictures(data, "large", "*.jpg"):
        yield np.asarray(shrink(path, shrunk), dtype=np.float32) / 255


def shrink(path: Path, by: int) -> Image.Image:
    with Image.open(path) as image:
        size = (image.width // by, image.height // by)
        return image.convert("RGB").resize(size, Image.Resampling.BICUBIC)


def specs_of(folder: Path) -> dict[str, ModelSpec]:
    """The models that are counted; files of two of them are written."""
    narrow = whole.save(folder / "sd1.safetensors", whole.sd1(), torch.float16)
    large = whole.save(folder / "sdxl.safetensors", whole.sdxl(), torch.float16)
    return {
        "SD 1.5": identify(narrow),
        "SDXL": identify(large),
        "the bundled checkpoint": identify(find_model(None)),
    }


def counts(data: Path, folder: Path) -> str:
    """The table of all photographs, for each family and size."""
    specs = specs_of(folder)
    found: dict[tuple[str, int, int], list[Counted]] = {}
    for shrunk in SIZES:
        for pixels in photographs(data, shrunk):
            for (title, spec), (number, flags) in itertools.product(
                specs.items(), enumerate(BUDGETS)
            ):
                found.setdefault((title, shrunk, number), []).append(counted(pixels, spec, flags))
    rows: list[list[str]] = []
    for title, shrunk in itertools.product(specs, SIZES):
        plain, bounded = (found[title, shrunk, number] for number in range(len(BUDGETS)))
        rows.append(
            [
                f"{title}, {len(plain)} photographs at {SIZES[shrunk]}",
                *spread([each.ratio for each in plain]),
                f"{np.median([1 / each.working for each in plain]):.2f}",
                *spread([each.ratio for each in bounded]),
            ]
        )
    head = ["scale 2, 0.2 to 0.8", "loop / tileup, median", "range", "area / area at work, median"]
    return table([*head, "with `--budget 0.5`, median", "range"], rows)


def spread(values: list[float]) -> tuple[str, str]:
    return f"{np.median(values):.2f}", f"{min(values):.2f} to {max(values):.2f}"


def input_of(data: Path, drawn: Drawn) -> Image.Image:
    """The input; twice its sides are multiples of what the UNet halves."""
    (path,) = pictures(data, "large", drawn.picture)
    small = shrink(path, drawn.shrunk)
    return small.crop((0, 0, small.width // 32 * 32, small.height // 32 * 32))


def settings_of(spec: ModelSpec) -> Settings:
    """The family's own, with a sampler that all ways have, and without guidance."""
    return resolve(spec.family, flags=STRENGTHS | {"sampler": "euler", "cfg": 1.0})


def by_tileup(model: DiffusionModel, small: Image.Image) -> None:
    picture = Picture(np.asarray(small, dtype=np.float32) / 255)
    upscale_picture(picture, model, settings_of(model.spec))


def by_loop(model: DiffusionModel, small: Image.Image) -> None:
    settings, spec = settings_of(model.spec), model.spec
    made = plan_pixels(
        np.asarray(small, dtype=np.float32) / 255, 2 * small.width, 2 * small.height, spec, settings
    )
    pixels = np.asarray(enlarged(small), dtype=np.float32) / 255
    canvas = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    source = model.codec.encode(canvas)
    wish = Wish(settings.prompt, settings.negative, settings.cfg)
    denoiser = model.denoiser(Scene(source, canvas, (2 * small.height, 2 * small.width), wish))
    sigmas = made.itinerary.sigmas
    noise = torch.randn(source.shape, generator=torch.Generator().manual_seed(0))
    side, overlap = (each // spec.stride for each in (spec.window, settings.overlap))
    windows = grid(*source.shape[2:], side, overlap)
    latents = looped(denoiser, source + sigmas[0] * noise, sigmas, windows, spec.batch)
    model.codec.decode(latents)


def by_diffusers(model: DiffusionModel, small: Image.Image, tiled: bool) -> None:
    from diffusers import EulerDiscreteScheduler, StableDiffusionImg2ImgPipeline

    settings, unet = settings_of(model.spec), model.network.module  # type: ignore[attr-defined]
    vae = model.codec.vae.network(torch.float32)
    unet.register_to_config(sample_size=64)
    if tiled:  # as with the published VAE, whose configuration has a sample_size of 512
        vae.tile_sample_min_size, vae.tile_latent_min_size = 512, 64
        vae.enable_tiling()
    pipeline = StableDiffusionImg2ImgPipeline(
        vae=vae,
        text_encoder=None,
        tokenizer=None,
        unet=unet,
        scheduler=EulerDiscreteScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    calls = Calls(unet)
    pipeline(
        prompt_embeds=torch.randn(1, 77, 768),
        image=enlarged(small),
        strength=settings.max_denoise,
        num_inference_steps=round(settings.steps / settings.max_denoise),
        guidance_scale=settings.cfg,
        generator=torch.Generator().manual_seed(0),
    )
    if calls.count != settings.steps:
        raise SystemExit(f"bench: diffusers took {calls.count} steps instead of {settings.steps}")


class Calls:
    """Counts how often a network is called."""

    def __init__(self, network: torch.nn.Module) -> None:
        self.count = 0
        network.register_forward_pre_hook(self._called)

    def _called(self, network: object, args: object) -> None:
        self.count += 1


def enlarged(small: Image.Image) -> Image.Image:
    return small.resize((2 * small.width, 2 * small.height), Image.Resampling.LANCZOS)


DRAW: dict[str, Callable[[DiffusionModel, Image.Image], None]] = {
    "loop": by_loop,
    "tileup": by_tileup,
    "whole": lambda model, small: by_diffusers(model, small, tiled=False),
    "vae": lambda model, small: by_diffusers(model, small, tiled=True),
}


class InNetwork:
    """CPU seconds that a module computes."""

    def __init__(self, network: torch.nn.Module) -> None:
        self.seconds = 0.0
        self._start = 0.0
        network.register_forward_pre_hook(self._begins)
        network.register_forward_hook(self._ends)

    def _begins(self, network: object, args: object) -> None:
        self._start = time.process_time()

    def _ends(self, network: object, args: object, output: object) -> None:
        self.seconds += time.process_time() - self._start


def child(way: str, what: str, checkpoint: Path, data: Path) -> dict[str, float]:
    """CPU seconds and the most memory beyond the loaded model; runs in a process."""
    torch.set_num_threads(1)
    model = load_model(checkpoint, Settings(device="cpu", dtype="float32"))
    small = input_of(data, DRAWN[what])
    if not isinstance(model, DiffusionModel):
        raise SystemExit(f"bench: {checkpoint} is not of a latent family")
    network = InNetwork(model.network.module)  # type: ignore[attr-defined]
    before, start = peak_bytes(reset=True), time.process_time()
    DRAW[way](model, small)
    seconds = time.process_time() - start
    return {"cpu": seconds, "network": network.seconds, "peak": peak_bytes() - before}


def measured(what: str, data: Path, folder: Path) -> str:
    """The table of one photograph."""
    checkpoint = whole.save(folder / "sd1.safetensors", whole.sd1(), torch.float16)
    found: dict[str, dict[str, float]] = {}
    for way in DRAWN[what].ways:
        command = [sys.executable, "-m", "bench.diffusion_peers", "--child", way, "--what", what]
        command += ["--checkpoint", str(checkpoint), "--data", str(data)]
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True, text=True)
        found[way] = json.loads(done.stdout.splitlines()[-1])
        print(what, way, found[way], flush=True)
    ours = found["tileup"]
    rows = [
        [
            WAYS[way],
            *(f"{each[part]:.0f}" for part in ("cpu", "network")),
            *(f"{each[part] / ours[part]:.2f}" for part in ("cpu", "network")),
            f"{each['peak'] / 1e9:.2f} GB",
        ]
        for way, each in found.items()
    ]
    width, height = enlarged(input_of(data, DRAWN[what])).size
    head = [f"one photograph, {width}x{height} px, 12 steps", "CPU-s", "in the UNet"]
    head += ["/ tileup's", "in the UNet", "peak memory beyond the model"]
    return table(head, rows)


TABLES = {"loop": counts, **{what: partial(measured, what) for what in DRAWN}}
"""By its place in the document."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--only", choices=TABLES, help="one of the tables")
    parser.add_argument("--dry", action="store_true", help="print, do not write the document")
    parser.add_argument("--child", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--what", choices=DRAWN, help=argparse.SUPPRESS)
    parser.add_argument("--checkpoint", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    data = arguments.data.resolve()
    if arguments.child:
        print(json.dumps(child(arguments.child, arguments.what, arguments.checkpoint, data)))
        return
    for name, make in TABLES.items():
        if arguments.only in (None, name):
            with tempfile.TemporaryDirectory() as folder:
                text = make(data, Path(folder))
            print(text, flush=True)
            if not arguments.dry:
                write(DOCUMENT, name, text)


if __name__ == "__main__":
    main()
