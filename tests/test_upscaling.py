"""One picture from end to end, with denoisers whose answers are known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from tests.doubles import DoubleModel, blurring_denoiser, mixture_denoiser, photograph, spec
from tileup.canvas import put_back
from tileup.checkpoints.load import load_model
from tileup.contracts import Box, Model, Step
from tileup.enlarge.lanczos import enlarge
from tileup.errors import TileupError
from tileup.images.picture import Picture
from tileup.images.reading import open_picture
from tileup.plan.planning import plan_picture
from tileup.plan.samplers import SAMPLERS
from tileup.settings.values import Settings
from tileup.upscaling import upscale_picture

SMALL = Settings(tile=64, min_tile=8, overlap=8, steps=4)


@settings(max_examples=40, deadline=None)
@given(
    width=st.integers(1, 90),
    height=st.integers(1, 60),
    low=st.sampled_from([0.0, 0.2, 0.5]),
    high=st.sampled_from([0.5, 0.8, 1.0]),
    steps=st.integers(1, 6),
    sampler=st.sampled_from(sorted(SAMPLERS.keys() - {"dpm_adaptive"})),
    overlap=st.sampled_from([0, 8]),
    batch=st.integers(1, 9),
)
def test_the_denoiser_is_called_as_often_as_the_cost_says(
    width: int,
    height: int,
    low: float,
    high: float,
    steps: int,
    sampler: str,
    overlap: int,
    batch: int,
) -> None:
    chosen = replace(
        SMALL,
        min_denoise=low,
        max_denoise=high,
        steps=steps,
        sampler=sampler,
        overlap=overlap,
        batch=batch,
    )
    model = DoubleModel(blurring_denoiser)
    told: list[Step] = []
    result = upscale_picture(open_picture(photograph(height, width)), model, chosen, told.append)
    assert (result.picture.width, result.picture.height) == (2 * width, 2 * height)
    if not result.plan.strengths:
        assert result.cost.model_calls == 0
        return
    assert model.counting.windows == result.cost.model_calls > 0
    assert model.counting.cells * 2**2 / 1e6 == pytest.approx(result.cost.megapixel_steps)
    assert max(model.counting.batches) <= batch
    assert told[-1].calls == told[-1].total_calls == result.cost.model_calls
    assert told[-1].phase == told[-1].phases == len(result.planned.itinerary.phases)


def test_tiles_of_strength_zero_are_the_enlarged_pixels() -> None:
    picture = open_picture(photograph(48, 80))
    result = upscale_picture(
        picture, DoubleModel(mixture_denoiser), replace(SMALL, min_denoise=0.0, max_denoise=0.9)
    )
    enlarged = enlarge(picture, 160, 96)
    kept = np.zeros((96, 160), dtype=bool)
    for tile in result.plan.tiles:
        if tile.denoise == 0:
            kept[result.plan.pixel_box(tile).index] = True
    assert 0.1 < kept.mean() < 0.9
    np.testing.assert_array_equal(result.picture.pixels[kept], enlarged.pixels[kept])
    changed = np.abs(result.picture.pixels - enlarged.pixels).max(axis=2)
    assert changed[~kept].mean() > 0.01


def test_what_is_put_back_is_clipped_and_faded() -> None:
    picture = open_picture(photograph(48, 80))
    planned = plan_picture(picture, spec(), replace(SMALL, min_denoise=0.0))
    drawn = np.full((96, 160, 3), 2.0, dtype=np.float32)
    drawn[:, :40] = -1.0
    pixels = put_back(drawn, np.full_like(drawn, 0.5), planned)
    assert pixels.min() >= 0
    assert pixels.max() == 1
    kept = planned.plan.denoise_map().repeat(2, 0).repeat(2, 1) == 0
    assert (pixels[kept] == 0.5).all()
    assert ((pixels > 0.5) & (pixels < 1)).any(), "it fades in"


@pytest.mark.parametrize("grey", [True, False])
def test_a_grey_page_stays_grey(grey: bool) -> None:
    """Also where it is stored as RGB; the model gives colours to both."""

    def colouring(x: Tensor, sigma: Tensor, windows: Sequence[Box]) -> Tensor:
        tint = torch.linspace(-0.4, 0.4, x.shape[1]).reshape(1, -1, 1, 1)
        return blurring_denoiser(x, sigma, windows) + tint.to(x)

    page = photograph(48, 80)
    page = np.repeat(page[..., :1], 3, axis=2) if grey else page
    result = upscale_picture(open_picture(page), DoubleModel(colouring), SMALL)
    pixels = result.picture.pixels
    spread = (pixels.max(axis=2) - pixels.min(axis=2)).max()
    assert (spread == 0) == grey
    assert np.abs(pixels - enlarge(open_picture(page), 160, 96).pixels).max() > 0.05


def test_strength_zero_everywhere_is_the_enlarged_picture_and_needs_no_model() -> None:
    def never(x: Tensor, sigma: Tensor, windows: Sequence[Box]) -> Tensor:
        raise AssertionError("a kept picture needs no model")

    picture = open_picture(photograph(20, 30))
    chosen = replace(SMALL, min_denoise=0.0, max_denoise=0.0)
    result = upscale_picture(picture, DoubleModel(never), chosen)
    np.testing.assert_array_equal(result.picture.pixels, enlarge(picture, 60, 40).pixels)


@pytest.mark.parametrize("batch", [1, 3, 64])
def test_the_batch_does_not_change_the_picture(batch: int) -> None:
    picture = open_picture(photograph(40, 60))
    one, other = (
        upscale_picture(picture, DoubleModel(blurring_denoiser), replace(SMALL, batch=size))
        for size in (2, batch)
    )
    np.testing.assert_allclose(one.picture.pixels, other.picture.pixels, atol=1e-5)


def test_windows_do_not_show_with_a_denoiser_that_works_cell_by_cell() -> None:
    """Other windows, other overlaps, other weights: the same picture away from other strengths."""
    picture = open_picture(photograph(40, 60))
    uniform = replace(SMALL, min_denoise=0.6, max_denoise=0.6)
    pictures = [
        upscale_picture(picture, DoubleModel(mixture_denoiser), each).picture.pixels
        for each in (
            uniform,
            replace(uniform, window=64, overlap=0),
            replace(uniform, window=16, overlap=4, weights="gaussian"),
            replace(uniform, window=48, overlap=16, weights="uniform"),
        )
    ]
    for other in pictures[1:]:
        np.testing.assert_allclose(other, pictures[0], atol=2e-5)


@pytest.mark.parametrize(
    "change",
    [{"min_denoise": 0.4}, {"max_denoise": 0.6}, {"seed": 1}, {"steps": 5}, {"sampler": "heun"}],
    ids=str,
)
def test_settings_that_matter_change_the_picture(change: dict[str, object]) -> None:
    picture = open_picture(photograph(48, 80))
    before, again, after = (
        upscale_picture(picture, DoubleModel(mixture_denoiser), each).picture.pixels
        for each in (SMALL, SMALL, replace(SMALL, **change))
    )
    np.testing.assert_array_equal(before, again)
    assert np.abs(before - after).max() > 1 / 255


def test_values_that_are_not_finite_are_an_error_not_a_black_tile() -> None:
    def broken(x: Tensor, sigma: Tensor, windows: Sequence[Box]) -> Tensor:
        return torch.where(torch.tensor(windows[0].top == 0), x * float("nan"), x)

    with pytest.raises(TileupError, match="not finite"):
        upscale_picture(open_picture(photograph(40, 60)), DoubleModel(broken), SMALL)


def test_what_on_step_raises_stops_the_work() -> None:
    class StopError(Exception):
        pass

    def stop(step: Step) -> None:
        raise StopError

    model = DoubleModel(blurring_denoiser)
    with pytest.raises(StopError):
        upscale_picture(open_picture(photograph(40, 60)), model, SMALL, stop)
    assert len(model.counting.batches) == 1


@pytest.mark.parametrize(("width", "height"), [(1, 1), (1, 37), (53, 1), (5, 3), (31, 33)])
@pytest.mark.parametrize("scale", [1.0, 1.37, 4.0])
def test_pathological_sizes(width: int, height: int, scale: float) -> None:
    result = upscale_picture(
        open_picture(photograph(height, width)),
        DoubleModel(blurring_denoiser),
        replace(SMALL, scale=scale),
    )
    assert np.isfinite(result.picture.pixels).all()
    assert result.picture.pixels.shape == (
        max(1, int(height * scale + 0.5)),
        max(1, int(width * scale + 0.5)),
        3,
    )


def test_alpha_and_greyness_are_carried_over() -> None:
    pixels = (photograph(20, 30) * 255).astype(np.uint8)
    alpha = np.linspace(0, 255, 30).astype(np.uint8)[None, :, None].repeat(20, axis=0)
    result = upscale_picture(
        open_picture(np.concatenate([pixels, alpha], axis=2)),
        DoubleModel(blurring_denoiser),
        SMALL,
    )
    assert result.picture.alpha is not None
    assert result.picture.alpha.shape == (40, 60)
    grey = upscale_picture(open_picture(pixels[..., 0]), DoubleModel(blurring_denoiser), SMALL)
    assert grey.picture.grey
    assert grey.image.mode == "L"


def test_rows_put_back_one_by_one_are_those_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    picture = open_picture(photograph(48, 80))
    planned = plan_picture(picture, spec(), replace(SMALL, min_denoise=0.0))
    drawn = photograph(96, 160, seed=1)
    enlarged = 1 - drawn
    whole = put_back(drawn, enlarged, planned)
    assert not np.array_equal(whole, drawn)
    for band in (1, 7):
        monkeypatch.setattr("tileup.canvas._BAND", band)
        np.testing.assert_array_equal(put_back(drawn, enlarged, planned), whole)


def both_ways(
    picture: Picture, model: Model, chosen: Settings, told: list[Step]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Pixels drawn as a whole, and row by row in small bands; the second's steps are told."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tileup.plan.by_rows.SMALLEST", 10**9)
        whole = upscale_picture(picture, model, chosen).picture.pixels
        patch.setattr("tileup.plan.by_rows.SMALLEST", 1)
        patch.setattr("tileup.denoise.stream.BAND", 7)
        patch.setattr("tileup.denoise.stream._PIECE", 500)
        patch.setattr("tileup.upscaling.sample_canvas", None)
        return whole, upscale_picture(picture, model, chosen, told.append).picture.pixels


@pytest.mark.parametrize("grey", [True, False])
@pytest.mark.parametrize("scale", [1.7, 2])
@pytest.mark.parametrize(("width", "height"), [(61, 50), (40, 77)])
def test_row_by_row_is_the_same_picture_to_the_bit(
    width: int, height: int, scale: float, grey: bool
) -> None:
    """With kept tiles, a grey page, and sizes that no stride divides."""

    def rounding(x: Tensor, sigma: Tensor, windows: Sequence[Box]) -> Tensor:
        return blurring_denoiser(x.contiguous(), sigma).contiguous()

    page = photograph(height, width)
    page = np.repeat(page[..., :1], 3, axis=2) if grey else page
    chosen = replace(SMALL, scale=scale, min_denoise=0.0, max_denoise=0.9, batch=3)
    told: list[Step] = []
    model = DoubleModel(rounding)
    whole, rows = both_ways(open_picture(page), model, chosen, told)
    np.testing.assert_array_equal(rows, whole)
    assert np.abs(rows - enlarge(open_picture(page), *rows.shape[1::-1]).pixels).max() > 0.01
    assert told[-1].calls == told[-1].total_calls
    assert told[-1].phase == told[-1].phases


def test_row_by_row_the_shipped_model_draws_the_same_picture_to_the_bit() -> None:
    """In tiles of strengths that its second network draws, and others."""
    model = load_model(None, Settings(device="cpu", dtype="float32"))
    chosen = Settings(device="cpu", tile=64, min_tile=32, steps=2, min_denoise=0.1)
    whole, rows = both_ways(open_picture(photograph(152, 112)), model, chosen, [])
    np.testing.assert_array_equal(rows, whole)


@pytest.mark.parametrize(
    "change",
    [
        {"denoise_mode": "sigma"},
        {"sampler": "heun"},
        {"sampler": "euler_ancestral"},
        {"s_churn": 1.0},
        {"color_fix": "adain"},
        {"window": 256},
    ],
    ids=str,
)
def test_what_needs_the_whole_canvas_is_drawn_as_a_whole(change: dict[str, object]) -> None:
    """Row by row such a run would fail, or give another picture."""
    model = DoubleModel(lambda x, sigma, windows: blurring_denoiser(x.contiguous(), sigma))
    chosen = replace(SMALL, **change)
    picture = open_picture(photograph(40, 60))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tileup.canvas.stream_canvas", None)
        patch.setattr("tileup.plan.by_rows.SMALLEST", 1)
        upscale_picture(picture, model, chosen)
        with pytest.raises(TypeError):
            upscale_picture(picture, model, SMALL)
