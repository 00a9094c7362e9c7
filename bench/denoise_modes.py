"""Every denoise mode with every sampler against the true runs: `make bench-modes DATA=data`.

The true run of a strength is a plain img2img run of the whole canvas, on the noise levels that the
mode gives that strength, with the same noise. With a denoiser that works cell by cell a tile should
equal it to rounding. A network sees beyond a tile's border, so there the error is given by the
distance to the nearest other strength.

Writes the tables and the picture of docs/per-tile-denoise.md.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import distance_transform_edt
from torch import Tensor

import tileup
from bench.tables import ROOT, pictures, table, write
from tileup.canvas import padded
from tileup.contracts import Box, Model
from tileup.contracts import Scene as Seen
from tileup.denoise.draft import Draft
from tileup.denoise.rules import run
from tileup.denoise.run import sample_canvas
from tileup.enlarge.lanczos import enlarge
from tileup.images.picture import Picture
from tileup.images.reading import open_picture
from tileup.plan.grid import Grid
from tileup.plan.itinerary import Itinerary, Layout
from tileup.plan.layings import LAYINGS
from tileup.plan.modes import MODES, Canvas
from tileup.plan.noise_levels import TableLevels
from tileup.plan.planning import Planned, plan_picture
from tileup.plan.samplers import SAMPLERS, Sampler
from tileup.plan.schedules import SCHEDULERS, make_schedule
from tileup.sampling.noise import canvas_noise, noise_sampler
from tileup.sampling.steps import CanvasDenoiser, sample
from tileup.settings.layers import resolve
from tileup.settings.values import Settings
from tileup.tiling.profiles import WindowWeights
from tileup.tiling.tiled import SteppedDenoiser, TiledDenoiser
from tileup.upscaling import scene_of

DOCUMENT = "docs/per-tile-denoise.md"
PHOTOGRAPH = "seeding_by_Clements_Engelhardt.jpg"
BANDS = ((0, 16), (16, 32), (32, 64), (64, 10_000))
"""Distances to the nearest other strength, output pixels."""
STRENGTHS = (0.2, 0.8, 0.4, 0.6)
"""Of the tiles of the closed-form canvas."""
SIDE = 16
STEPS = 8
"""Enough for four strengths to start well apart."""


def refused(mode: str, sampler: Sampler) -> bool:
    """The two pairs that do not go together."""
    return sampler.call == "tolerance" and mode in {"schedule", "sigma"}


# --- The closed form --------------------------------------------------------------------------


def tanh_denoiser(x: Tensor, sigma: Tensor, windows: Sequence[Box] = ()) -> Tensor:
    """E[x0 | x] when every cell is -1 or 1 with noise of 0.3 on it: curved, cell by cell."""
    variance = (sigma**2 + 0.3**2)[:, None, None, None]
    level = (sigma**2)[:, None, None, None]
    return (0.3**2 * x + level * torch.tanh(x / variance)) / variance


def closed_form_draft(mode: str, sampler: Sampler) -> Draft:
    """Four square tiles side by side, float64, strengths with hard edges."""
    levels = TableLevels((0.0, 1.0), (0.008, 5.0))
    cells = Grid.of(np.repeat(np.array([STRENGTHS]), SIDE, axis=1).repeat(SIDE, axis=0))
    starts = STRENGTHS if MODES[mode].own_starts else (max(STRENGTHS),)
    schedule = make_schedule(levels, SCHEDULERS["sgm_uniform"], 8, starts)
    layout = Layout(SIDE, SIDE * len(STRENGTHS), SIDE, 0)
    canvas = Canvas(cells, schedule, layout, LAYINGS["cover"], levels, seed=0)
    itinerary = Itinerary(layout, schedule, MODES[mode].runs(canvas), cells)
    source = torch.rand(1, 2, *cells.shape, generator=torch.Generator().manual_seed(0)).double()

    def denoisers(phases: Sequence, order: int, strength: float | None = None) -> SteppedDenoiser:
        def make(windows: Sequence[Sequence[Box]]) -> TiledDenoiser:
            raw = WindowWeights("feather", 0, torch.empty(0, dtype=torch.float64))
            return TiledDenoiser(
                tanh_denoiser, windows, raw, height=layout.rows, width=layout.columns, batch=4
            )

        return SteppedDenoiser(make, [phase.by_step for phase in phases], order)

    return Draft(
        itinerary,
        sampler,
        denoisers,
        source,
        canvas_noise(source, *cells.shape, seed=0),
        seed=0,
        step_noise=noise_sampler(sampler.noise, source, itinerary.sigmas, 0),
    )


def true_runs(
    mode: str, draft: Draft, denoiser: Callable[[float], CanvasDenoiser]
) -> dict[float, Tensor]:
    """The plain run of each strength of a draft, by the denoiser that this strength has."""
    if mode == "sigma":
        ways = {way.phases[0].strengths[0]: way.contraction for way in draft.itinerary.runs}
        return {d: contracted(draft, denoiser(d), factor) for d, factor in ways.items()}
    levels = sorted({each for p in draft.itinerary.phases for each in p.strengths}, reverse=True)
    starts = dict(draft.itinerary.schedule.starts)
    if set(starts) != set(levels):  # an approximation: where the strengths would start on their own
        sigmas = np.array(draft.itinerary.sigmas[:-1])
        starts = {d: int(np.argmin(abs(sigmas - start_sigma(draft, d)))) for d in levels}
    stop = draft.itinerary.schedule.steps
    return {
        d: draft.sample(
            denoiser(d), draft.noised(draft.itinerary.sigmas[starts[d]]), starts[d], stop
        )
        for d in levels
    }


def start_sigma(draft: Draft, strength: float) -> float:
    """Noise level of a strength on a schedule uniform in log sigma, which both models here have."""
    top, steps = max(draft.itinerary.schedule.starts), draft.itinerary.schedule.steps
    return draft.itinerary.sigmas[min(round((1 - strength / top) * steps), steps - 1)]


def contracted(draft: Draft, denoiser: CanvasDenoiser, c: float) -> Tensor:
    """A plain run over c * sigmas."""
    sigmas = [c * sigma for sigma in draft.itinerary.sigmas]
    inner = draft.step_noise
    keys = {float(np.float32(c * s)): s for s in draft.itinerary.sigmas}

    def noise(sigma: Tensor, sigma_next: Tensor) -> Tensor:
        pair = [keys.get(float(np.float32(float(s))), float(s) / c) for s in (sigma, sigma_next)]
        assert inner is not None
        return inner(*(torch.tensor(each, dtype=draft.source.dtype) for each in pair))

    return sample(
        draft.sampler,
        denoiser,
        draft.noised(sigmas[0]),
        sigmas,
        seed=draft.seed,
        noise=noise if inner is not None else None,
        options=draft.options,
    )


def closed_form_errors() -> str:
    """Largest error of any cell, for every pair."""
    rows = []
    for name, sampler in SAMPLERS.items():
        cells: list[str] = [name]
        for mode in MODES:
            if refused(mode, sampler):
                cells.append("refused")
                continue
            draft = closed_form_draft(mode, sampler)
            result = run(mode, draft)
            truth = true_runs(mode, draft, lambda strength: tanh_denoiser)
            worst = max(
                float((result - truth[d])[..., i * SIDE : (i + 1) * SIDE].abs().max())
                for i, d in enumerate(STRENGTHS)
            )
            cells.append(f"{worst:.0e}")
        rows.append(cells)
    return table(["sampler", *MODES], rows)


# --- The network ------------------------------------------------------------------------------


@dataclass
class Scene:
    """One photograph, planned once."""

    picture: Picture
    model: Model
    settings: Settings
    planned: Planned
    enlarged: NDArray[np.float32]
    source: Tensor

    @classmethod
    def of(cls, path: Path, size: int, model: Model) -> Scene:
        """A square, busy above and flat below, of the shrunk photograph; enlarged to `size`."""
        with Image.open(path) as image:
            small = image.convert("RGB").resize((image.width // 4, image.height // 4), 3)
        left, top = small.width * 30 // 100, small.height * 35 // 100
        picture = open_picture(small.crop((left, top, left + size // 2, top + size // 2)))
        settings = resolve(family=model.spec.family, flags={"steps": STEPS})
        planned = plan_picture(picture, model.spec, settings)
        enlarged = enlarge(picture, size, size).pixels
        source = model.codec.encode(padded(enlarged, planned, model.spec.stride))
        return cls(picture, model, settings, planned, enlarged, source)

    def with_settings(self, **changes: object) -> Scene:
        settings = replace(self.settings, **changes)
        planned = plan_picture(self.picture, self.model.spec, settings)
        return replace(self, settings=settings, planned=planned)

    @property
    def seen(self) -> Seen:
        """What the model is shown."""
        canvas = padded(self.enlarged, self.planned, self.model.spec.stride)
        return scene_of(self.source, canvas, self.planned, self.settings)

    def run(self) -> tuple[Tensor, float]:
        """Latents and seconds."""
        start = time.perf_counter()
        latents = sample_canvas(self.planned, self.seen, self.model, self.settings, None)
        return latents, time.perf_counter() - start

    def pixels(self, latents: Tensor) -> NDArray[np.float64]:
        height, width = self.enlarged.shape[:2]
        decoded = self.model.codec.decode(latents)[0, :, :height, :width].clamp(0, 1)
        return decoded.movedim(0, -1).double().numpy()

    def true_runs(self) -> dict[float, NDArray[np.float64]]:
        """Pixels of a plain run of each strength over the whole canvas, in the same windows."""
        itinerary, sampler = self.planned.itinerary, self.planned.sampler
        mode = self.settings.denoise_mode
        layout, seen = itinerary.layout, self.seen
        raw = WindowWeights("feather", 2 * layout.margin, torch.empty(0))
        everywhere = Grid.of(np.ones((self.planned.plan.rows, self.planned.plan.columns), bool))
        windows = LAYINGS["cover"](everywhere, layout, range(1), 0)[0]

        def denoiser(strength: float) -> CanvasDenoiser:
            assert seen.strength is not None
            alone = replace(seen, strength=torch.full_like(seen.strength, strength))
            network = self.model.denoiser(alone)
            return TiledDenoiser(
                network, [windows], raw, height=layout.rows, width=layout.columns, batch=4
            )

        draft = Draft(
            itinerary,
            sampler,
            lambda phases, order, strength=None: denoiser(
                strength or max(self.planned.plan.strengths)
            ),
            self.source,
            canvas_noise(
                self.source, self.planned.plan.rows, self.planned.plan.columns, self.settings.seed
            ),
            seed=self.settings.seed,
            step_noise=noise_sampler(
                sampler.noise, self.source, itinerary.sigmas, self.settings.seed
            ),
        )
        return {d: self.pixels(x) for d, x in true_runs(mode, draft, denoiser).items()}


def strength_pixels(planned: Planned) -> NDArray[np.float64]:
    plan = planned.plan
    cells = plan.denoise_map()
    full = cells.repeat(plan.stride, axis=0).repeat(plan.stride, axis=1)
    return full[: plan.height, : plan.width]


def errors_by_distance(
    result: NDArray[np.float64], truth: dict[float, NDArray[np.float64]], map_: NDArray[np.float64]
) -> list[float]:
    """Root mean square error, of 255, in each band of distance to the nearest other strength."""
    squares: list[list[NDArray[np.float64]]] = [[] for _ in BANDS]
    for strength, exact in truth.items():
        inside = np.isclose(map_, strength)
        distance = distance_transform_edt(inside) if not inside.all() else np.full(map_.shape, 1e9)
        error = np.square((result - exact) * 255).mean(axis=2)
        for band, (near, far) in zip(squares, BANDS, strict=True):
            band.append(error[inside & (distance > near) & (distance <= far)])
    found = [np.concatenate(band) for band in squares]
    return [float(np.sqrt(each.mean())) if each.size else float("nan") for each in found]


def roughness(pixels: NDArray[np.float64], where: NDArray[np.bool_]) -> float:
    """Noise estimate: median absolute second difference across both axes, of 255, by Immerkaer's
    mask (1996), in standard deviations."""
    grey = pixels.mean(axis=2) * 255
    mask = (
        grey[:-2, :-2] + grey[:-2, 2:] + grey[2:, :-2] + grey[2:, 2:]
        - 2 * (grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:])
        + 4 * grey[1:-1, 1:-1]
    )  # fmt: skip
    return float(np.median(np.abs(mask[where[1:-1, 1:-1]])) / 0.6745 / 6)


def network_tables(scene: Scene) -> tuple[str, str, dict[str, NDArray[np.float64]]]:
    """By distance for the default sampler; far from other strengths for all; and the pictures."""
    near_rows, shown = [], {}
    far: dict[str, list[str]] = {name: [name] for name in SAMPLERS}
    truths: dict[tuple[str, bool], dict[float, NDArray[np.float64]]] = {}
    uniform = scene.planned.cost.uniform_megapixel_steps
    for mode in MODES:
        for name, sampler in SAMPLERS.items():
            if refused(mode, sampler):
                far[name].append("refused")
                continue
            staged = scene.with_settings(denoise_mode=mode, sampler=name)
            latents, seconds = staged.run()
            result, map_ = staged.pixels(latents), strength_pixels(staged.planned)
            # All modes but `sigma` are held against the same runs.
            key = (name, mode == "sigma")
            truths[key] = truths.get(key) or staged.true_runs()
            errors = errors_by_distance(result, truths[key], map_)
            print(mode, name, *(f"{each:.2f}" for each in errors), f"{seconds:.0f} s", flush=True)
            far[name].append(f"{errors[-1]:.2f}")
            if name != "euler":
                continue
            shown[mode] = result
            flat = np.isclose(map_, scene.settings.min_denoise)
            kept = staged.with_settings(skip_below=0.21)
            kept_result = kept.pixels(kept.run()[0])
            held = strength_pixels(kept.planned) == 0
            drift = np.abs((kept_result - scene.enlarged) * 255)[held].max()
            near_rows.append(
                [
                    mode,
                    *(f"{each:.2f}" for each in errors),
                    f"{roughness(result, flat):.2f}",
                    f"{drift:.0e}" if drift else "0",
                    f"{staged.planned.cost.megapixel_steps / uniform:.0%}",
                    f"{seconds:.1f} s",
                ]
            )
    flat = np.isclose(strength_pixels(scene.planned), scene.settings.min_denoise)
    near_rows.append(
        [
            "the source",
            *[""] * 4,
            f"{roughness(scene.enlarged.astype(float), flat):.2f}",
            "",
            "",
            "",
        ]
    )
    bands = [f"{near} to {far_} px" if far_ < 1000 else f"over {near} px" for near, far_ in BANDS]
    head = ["mode", *bands, "noise in flat tiles", "drift of kept tiles", "cost", "time"]
    return table(head, near_rows), table(["sampler", *MODES], list(far.values())), shown


def strip(scene: Scene, shown: dict[str, NDArray[np.float64]], path: Path) -> None:
    """One row of crops per mode: a flat part and a busy one, beside the source."""
    rows = {"source": scene.enlarged.astype(np.float64), **shown}
    boxes = ((8, 8), (140, 96), (200, 230))
    side, zoom, gap = 112, 2, 6
    font = ImageFont.load_default(20)
    page = Image.new(
        "RGB", (120 + len(boxes) * (side * zoom + gap), len(rows) * (side * zoom + gap)), "white"
    )
    draw = ImageDraw.Draw(page)
    for row, (name, pixels) in enumerate(rows.items()):
        top = row * (side * zoom + gap)
        draw.text((6, top + side), name, fill="black", font=font)
        image = Image.fromarray(np.rint(pixels * 255).astype(np.uint8))
        for column, (x, y) in enumerate(boxes):
            crop = image.crop((x, y, x + side, y + side)).resize(
                (side * zoom, side * zoom), Image.Resampling.NEAREST
            )
            page.paste(crop, (120 + column * (side * zoom + gap), top))
    page.save(path, quality=90)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--size", type=int, default=384, help="side of the canvas, pixels")
    parser.add_argument("--dry", action="store_true", help="print, do not write the document")
    arguments = parser.parse_args()
    output: Callable[[str, str], None] = (
        (lambda name, text: None)
        if arguments.dry
        else (lambda name, text: write(DOCUMENT, name, text))
    )
    closed = closed_form_errors()
    print(closed, flush=True)
    output("closed-form", closed)
    (path,) = pictures(arguments.data, "large", PHOTOGRAPH)
    scene = Scene.of(path, arguments.size, tileup.load_model(dtype="float32"))
    near, far, shown = network_tables(scene)
    print(near, far, sep="\n\n")
    output("by-distance", near)
    output("by-sampler", far)
    if not arguments.dry:
        strip(scene, shown, ROOT / "docs" / "denoise-modes.jpg")


if __name__ == "__main__":
    main()
