"""What must not change, and what must, when the input or a setting changes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from tests.denoise.drafts import Windowed
from tests.doubles import DoubleModel, blurring_denoiser, mixture_denoiser, photograph, spec
from tileup.canvas import padded
from tileup.codec.space_to_depth import PixelCodec
from tileup.contracts import Denoiser
from tileup.denoise.draft import Draft
from tileup.denoise.rules import run
from tileup.enlarge.lanczos import enlarge
from tileup.images.reading import open_picture
from tileup.plan.planning import Planned, plan_picture
from tileup.plan.samplers import SAMPLERS
from tileup.sampling.noise import canvas_noise, noise_sampler
from tileup.settings.values import DENOISE_MODES, Settings
from tileup.upscaling import upscale_picture

SMALL = Settings(tile=64, min_tile=8, overlap=8, steps=6)
STRIDE_1 = spec(stride=1, window=32, multiple=1)
"""One pixel to a cell, so that latents turn with the picture."""
Turn = Callable[[NDArray[np.float32]], NDArray[np.float32]]
TURNS: dict[str, Turn] = {
    "left to right": lambda pixels: pixels[:, ::-1],
    "upside down": lambda pixels: pixels[::-1],
    "transposed": lambda pixels: pixels.swapaxes(0, 1),
}


def latents_of(
    pixels: NDArray[np.float32], turn: Turn, settings: Settings, denoiser: Denoiser
) -> tuple[Planned, NDArray[np.float64]]:
    """Sample a turned picture with noise that is turned as well; float64.

    It is turned after enlarging, which rounds to float32 along one axis and then the other.
    """
    planned = plan_picture(open_picture(np.ascontiguousarray(turn(pixels))), STRIDE_1, settings)
    straight = enlarge(open_picture(pixels), 2 * pixels.shape[1], 2 * pixels.shape[0])
    enlarged = np.ascontiguousarray(turn(straight.pixels))
    source = PixelCodec(1).encode(padded(enlarged, planned, 1)).double()
    height, width = 2 * pixels.shape[0], 2 * pixels.shape[1]
    noise = canvas_noise(torch.zeros(1, 3, height, width).double(), height, width, settings.seed)
    plane = np.ascontiguousarray(turn(noise[0].movedim(0, -1).numpy()))
    draft = Draft(
        planned.itinerary,
        planned.sampler,
        Windowed(denoiser, planned.itinerary.layout, side=32),
        source,
        torch.from_numpy(plane).movedim(-1, 0)[None].contiguous(),
        seed=settings.seed,
        step_noise=noise_sampler(
            planned.sampler.noise, source, planned.itinerary.sigmas, settings.seed
        ),
    )
    latents = run(settings.denoise_mode, draft)
    return planned, latents[0].movedim(0, -1).numpy()


@pytest.mark.parametrize("turn", TURNS.values(), ids=list(TURNS))
@pytest.mark.parametrize("mode", DENOISE_MODES)
@pytest.mark.parametrize("name", ["euler", "dpmpp_2m"])
def test_a_turned_picture_comes_out_turned(turn: Turn, mode: str, name: str) -> None:
    """Canvas a multiple of the largest tile, a denoiser that looks the same from every side."""
    pixels = photograph(64, 96)
    settings = replace(SMALL, denoise_mode=mode, sampler=name)
    straight_plan, straight = latents_of(pixels, lambda same: same, settings, mixture_denoiser)
    turned_plan, turned = latents_of(pixels, turn, settings, mixture_denoiser)
    assert len(straight_plan.plan.strengths) > 2
    np.testing.assert_array_equal(
        turn(straight_plan.plan.denoise_map()[..., None]), turned_plan.plan.denoise_map()[..., None]
    )
    np.testing.assert_allclose(turned, turn(straight), atol=1e-9)
    assert np.abs(straight - straight[:, ::-1]).max() > 0.1, "the picture is not its own mirror"


def test_raising_only_max_denoise_leaves_kept_tiles_untouched() -> None:
    picture = open_picture(photograph(64, 96))
    low, high = (
        upscale_picture(
            picture,
            DoubleModel(blurring_denoiser),
            replace(SMALL, min_denoise=0.0, max_denoise=each, detail_threshold=0.05),
        )
        for each in (0.5, 0.9)
    )
    kept = low.plan.denoise_map().repeat(2, 0).repeat(2, 1) == 0
    np.testing.assert_array_equal(low.plan.denoise_map() == 0, high.plan.denoise_map() == 0)
    assert 0.1 < kept.mean() < 0.9
    np.testing.assert_array_equal(low.picture.pixels[kept], high.picture.pixels[kept])
    assert np.abs(low.picture.pixels - high.picture.pixels)[~kept].max() > 0.05


@pytest.mark.parametrize("name", ["euler", "heun", "dpmpp_2m", "dpmpp_sde"])
def test_on_fixed_noise_levels_a_weak_tile_does_not_see_how_strong_others_are(name: str) -> None:
    from tests.denoise.drafts import SIDE, draft_of, itinerary_of

    def result(strengths: list[float]) -> Tensor:
        itinerary = itinerary_of(strengths, strongest=0.8, scheduler="sgm_uniform")
        return run("schedule", draft_of(itinerary, SAMPLERS[name], mixture_denoiser))

    one, other = result([0.2, 0.4, 0.8]), result([0.2, 0.8, 0.8])
    weak = slice(0, SIDE)
    torch.testing.assert_close(one[..., weak], other[..., weak], atol=1e-10, rtol=0)
    assert (one - other)[..., SIDE : 2 * SIDE].abs().max() > 1e-3


@pytest.mark.parametrize("mode", DENOISE_MODES)
def test_the_batch_changes_nothing_beyond_rounding(mode: str) -> None:
    picture = open_picture(photograph(40, 60))
    one, other = (
        upscale_picture(
            picture, DoubleModel(blurring_denoiser), replace(SMALL, denoise_mode=mode, batch=batch)
        )
        for batch in (1, 7)
    )
    np.testing.assert_allclose(one.picture.pixels, other.picture.pixels, atol=1e-5)


@pytest.mark.parametrize("mode", DENOISE_MODES)
@pytest.mark.parametrize("name", sorted(SAMPLERS))
def test_every_mode_runs_with_every_sampler(mode: str, name: str) -> None:
    """All but the two pairs that are refused; cost as planned, kept tiles kept."""
    if name == "dpm_adaptive" and mode in {"schedule", "sigma"}:
        return
    model = DoubleModel(blurring_denoiser)
    picture = open_picture(photograph(40, 60))
    chosen = replace(SMALL, denoise_mode=mode, sampler=name, skip_below=0.25)
    result = upscale_picture(picture, model, chosen)
    kept = result.plan.denoise_map().repeat(2, 0).repeat(2, 1) == 0
    assert 0 < kept.mean() < 1
    enlarged = enlarge(picture, 120, 80).pixels
    np.testing.assert_array_equal(result.picture.pixels[kept], enlarged[kept])
    assert np.abs(result.picture.pixels - enlarged)[~kept].max() > 0.01
    if result.cost.exact:
        assert model.counting.windows == result.cost.model_calls


@pytest.mark.parametrize("windows", ["cover", "spot"])
@pytest.mark.parametrize("mode", DENOISE_MODES)
def test_cost_is_exact_for_every_way_to_lay_windows(mode: str, windows: str) -> None:
    for name in ("euler", "heun", "dpmpp_2m", "dpm_fast"):
        model = DoubleModel(blurring_denoiser)
        chosen = replace(SMALL, denoise_mode=mode, windows=windows, sampler=name)
        result = upscale_picture(open_picture(photograph(50, 70)), model, chosen)
        assert model.counting.windows == result.cost.model_calls > 0
        assert model.counting.cells * 4 / 1e6 == pytest.approx(result.cost.megapixel_steps)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_device_changes_nothing_beyond_rounding() -> None:
    from tileup.checkpoints.load import load_model

    picture = open_picture(photograph(64, 96))
    one, other = (
        upscale_picture(
            picture,
            load_model(settings=Settings(device=device, dtype="float32")),
            Settings(tile=64, steps=4),
        )
        for device in ("cpu", "cuda:0")
    )
    np.testing.assert_allclose(one.picture.pixels, other.picture.pixels, atol=2e-2)
