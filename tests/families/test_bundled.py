"""The bundled family: from a file to a denoiser of windows."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import tileup
from tests.checkpoints.small import ARCHITECTURE, header_of, save_small, small_network
from tests.doubles import scene_of
from tileup.checkpoints.find import BUNDLED, find_model, identify
from tileup.checkpoints.load import load_model
from tileup.contracts import Box
from tileup.errors import ModelError
from tileup.families.residual_unet import Architecture, ResidualUNet
from tileup.resources import resource
from tileup.settings.values import Settings

CPU = Settings(device="cpu", dtype="float32")


def test_what_was_saved_is_what_is_loaded(tmp_path: Path) -> None:
    path = save_small(tmp_path / "m.safetensors")
    model = load_model(path, CPU)
    expected = small_network().half().float()
    source = torch.rand(1, 12, 24, 32) * 2 - 1
    x = source + 0.1 * torch.randn(1, 12, 24, 32)
    windows = [Box(0, 0, 16, 16), Box(8, 16, 24, 32)]
    crops = torch.cat([x[..., *box.index] for box in windows])
    sigma = torch.tensor([0.1, 0.3])
    result = model.denoiser(scene_of(source))(crops, sigma, windows)
    for row, box in enumerate(windows):
        one = expected(x[..., *box.index], sigma[row : row + 1], source[..., *box.index])
        torch.testing.assert_close(result[row : row + 1], one, atol=1e-5, rtol=1e-4)
    assert (result - crops).abs().max() > 0.01
    assert model.digest == hashlib.sha256(path.read_bytes()).hexdigest()
    assert model.device == "cpu"


def test_the_source_matters_and_so_does_the_noise_level() -> None:
    network = small_network()
    x, sigma = torch.rand(1, 12, 16, 16), torch.tensor([0.2])
    base = network(x, sigma, torch.zeros_like(x))
    assert (network(x, sigma, torch.ones_like(x)) - base).abs().max() > 0.1
    assert (network(x, sigma * 2, torch.zeros_like(x)) - base).abs().max() > 1e-3


def test_one_noise_level_for_all_is_the_same_level_for_each() -> None:
    network = small_network()
    for parameter in network.parameters():
        parameter.add_(0.05 * torch.randn_like(parameter))
    x, source = torch.rand(2, 3, 12, 16, 24)
    each = network(x, torch.full((3,), 0.2), source)
    with torch.no_grad():
        shared = network(x, torch.tensor([0.2]), source)
        other = network(x, torch.tensor([0.4]), source)
    torch.testing.assert_close(shared, each, atol=1e-5, rtol=1e-4)
    assert (other - each).abs().max() > 1e-3


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_windows_result_does_not_depend_on_what_is_beside_it(dtype: str) -> None:
    denoiser = load_model(settings=Settings(device="cpu", dtype=dtype))
    source = torch.rand(1, 12, 16, 48) * 2 - 1
    crops = torch.cat([source[..., at : at + 16] for at in (0, 16, 32)]) + 0.1 * torch.randn(
        3, 12, 16, 16
    )
    windows = [Box(0, at, 16, at + 16) for at in (0, 16, 32)]
    sigma = torch.tensor([0.2, 0.05, 0.2])
    network = denoiser.denoiser(scene_of(source))
    together = network(crops, sigma, windows)
    for row in range(3):
        alone = network(crops[row : row + 1], sigma[row : row + 1], windows[row : row + 1])
        # Rows share their level's weights; in half precision other weights would round otherwise.
        torch.testing.assert_close(alone[0], together[row], atol=1e-6, rtol=1e-5)
    other = network(crops, sigma.flip(0) * 2, windows)
    assert not torch.equal(other, together), "the noise level matters"


def test_below_its_lowest_noise_level_it_draws_as_at_it() -> None:
    model = load_model(settings=CPU)
    lowest = model.spec.levels.sigma_min
    source = torch.rand(1, 12, 16, 16) * 2 - 1
    network, windows = model.denoiser(scene_of(source)), [Box(0, 0, 16, 16)]
    at = network(source, torch.tensor([lowest]), windows)
    for level in (lowest / 3, lowest / 1000, 1e-9):
        assert torch.equal(network(source, torch.tensor([level]), windows), at)
    assert not torch.equal(network(source, torch.tensor([2 * lowest]), windows), at)


@pytest.mark.parametrize(
    ("low", "more"),
    [(0.02, {"steps": 20}), (0.2, {"scheduler": "karras", "steps": 8}), (0.01, {"max_denoise": 1})],
    ids=str,
)
def test_weak_tiles_beside_strong_ones_are_drawn_as_well_in_mode_sigma(
    low: float, more: dict[str, object]
) -> None:
    """Their noise levels fall far below those that the network knows."""
    with Image.open(resource("docs") / "demo" / "seeding.jpg") as photograph:
        pixels = photograph.crop((150, 60, 247, 121))
    drawn = {
        mode: tileup.upscale(
            pixels, min_denoise=low, tile=64, denoise_mode=mode, device="cpu", **more
        )
        for mode in ("sigma", "schedule")
    }
    assert min(drawn["sigma"].plan.strengths) == low
    apart = np.abs(drawn["sigma"].picture.pixels - drawn["schedule"].picture.pixels)
    assert apart.mean() < 2 / 255
    assert apart.max() < 60 / 255
    assert apart.max() > 0


def test_a_resolution_may_have_no_blocks() -> None:
    header = {**json.loads(header_of())["architecture"], "down_blocks": [0, 1, 1]}
    network = ResidualUNet(Architecture.from_header(header))
    assert len(network.down[0]) == 0
    with pytest.raises(ValueError, match="above 0"):
        Architecture.from_header({**header, "widths": [0, 8, 8]})


def test_an_untrained_network_is_the_enlargement() -> None:
    network = ResidualUNet(ARCHITECTURE)
    source = torch.rand(2, 12, 8, 16)
    x = source + torch.randn_like(source)
    assert torch.equal(network(x, torch.tensor([0.1, 0.7]), source), source)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"leave__weight": torch.zeros(12, 8, 1, 1).half()}, "does not fit"),
        ({"extra": torch.zeros(1)}, "does not fit"),
        ({"leave__bias": torch.full((12,), float("nan")).half()}, "not finite"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(
    tmp_path: Path, changes: dict[str, torch.Tensor], words: str
) -> None:
    path = save_small(tmp_path / "m.safetensors", **changes)
    with pytest.raises(ModelError, match=words):
        load_model(path)


def test_a_header_without_a_network_is_refused(tmp_path: Path) -> None:
    header = json.loads(header_of())
    del header["architecture"]["widths"]
    path = save_small(tmp_path / "m.safetensors", header=json.dumps(header))
    with pytest.raises(ModelError, match="describes no network"):
        load_model(path)


def test_the_shipped_checkpoint_is_small_and_loads() -> None:
    path = find_model(None)
    assert path.stem == BUNDLED
    assert path.stat().st_size <= 20_000_000
    spec = identify(path)
    model = load_model(settings=CPU)
    assert model.spec == spec
    assert spec.window % spec.multiple == 0
    assert spec.multiple % spec.stride == 0
    source = torch.zeros(1, spec.channels, 16, 16)
    flat = model.denoiser(scene_of(source))(source, torch.tensor([0.02]), [Box(0, 0, 16, 16)])
    assert flat.abs().max() < 0.1, "grey stays grey"


STRENGTHS = (0.2, 0.4, 0.6, 0.8)
BUSY = (200, 100, 256, 156)


@pytest.fixture(scope="module", params=[2, 4])
def scale(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture(scope="module")
def drawn(scale: int) -> dict[float, np.ndarray]:
    """The shipped checkpoint at four strengths and four seeds: (4, H, W, 3) for each strength."""
    with Image.open(resource("docs") / "demo" / "seeding.jpg") as photograph:
        pixels = photograph.crop(BUSY)
    model = load_model(settings=CPU)
    return {
        strength: np.stack(
            [
                tileup.upscale(
                    pixels, model, denoise=strength, seed=seed, scale=scale, deblock="off"
                ).picture.pixels
                for seed in range(4)
            ]
        )
        for strength in STRENGTHS
    }


def test_more_strength_leaves_more_to_chance(scale: int, drawn: dict[float, np.ndarray]) -> None:
    """The standard deviation over seeds rises with denoise: strength means something."""
    spread = [float(drawn[strength].std(axis=0).mean()) for strength in STRENGTHS]
    assert spread == sorted(spread)
    assert spread[-1] > {2: 1.8, 4: 2}[scale] * spread[0] > 0


def test_more_strength_draws_more_detail(scale: int, drawn: dict[float, np.ndarray]) -> None:
    energy = [
        float(
            np.square(np.diff(drawn[strength], axis=1)).mean()
            + np.square(np.diff(drawn[strength], axis=2)).mean()
        )
        for strength in STRENGTHS
    ]
    assert energy == sorted(energy)
    assert energy[-1] > {2: 1.1, 4: 1.2}[scale] * energy[0]


@pytest.mark.parametrize("deblock", ["off", "on"])
@pytest.mark.parametrize("denoise", [0.2, 0.8])
def test_it_draws_no_pattern_of_its_own_lattice(denoise: float, deblock: str) -> None:
    """Frequencies at which strides of 2 and 4 pixels would repeat stand out little.

    Single ones of few blocks scatter up to 12 times the median; weights that drew a chess board of
    1 of 255 had thousands.
    """
    with Image.open(resource("docs") / "demo" / "seeding.jpg") as photograph:
        pixels = photograph.crop((160, 80, 288, 208))
    result = tileup.upscale(pixels, denoise=denoise, deblock=deblock, device="cpu")
    grey = result.picture.pixels.mean(axis=2)
    window = np.outer(np.hanning(64), np.hanning(64))
    power = np.zeros((64, 64))
    for top in range(16, 256 - 64 - 16, 32):
        for left in range(16, 256 - 64 - 16, 32):
            block = grey[top : top + 64, left : left + 64]
            power += np.abs(np.fft.fft2((block - block.mean()) * window)) ** 2
    near = np.arange(-6, 7)
    away = np.maximum.outer(np.abs(near), np.abs(near)) >= 3
    for row, column in ((32, 32), (0, 32), (32, 0), (16, 16), (16, 32), (32, 16)):
        around = power[np.ix_((row + near) % 64, (column + near) % 64)][away]
        assert power[row, column] < 15 * np.median(around), (row, column)


@pytest.mark.parametrize("deblock", ["off", "on"])
@pytest.mark.parametrize("value", [0.1, 0.5, 0.9])
def test_a_flat_picture_stays_flat_and_keeps_its_colour(value: float, deblock: str) -> None:
    flat = np.full((40, 40, 3), value, dtype=np.float32)
    flat[..., 2] = 0.5
    result = tileup.upscale(flat, deblock=deblock, device="cpu").picture.pixels
    assert np.abs(result.mean(axis=(0, 1)) - flat[0, 0]).max() < 0.5 / 255
    assert result.std(axis=(0, 1)).max() < 0.5 / 255
    assert result.std() > 0, "it was drawn, not copied"


@pytest.mark.parametrize("denoise", [0.2, 0.8])
@pytest.mark.parametrize(("axis", "deblock"), [(0, "off"), (1, "off"), (0, "on")])
def test_a_smooth_ramp_stays_smooth(denoise: float, axis: int, deblock: str) -> None:
    """No steps, no dither: it differs from the exact ramp by less than half of 1/255."""
    ramp = np.linspace(0.1, 0.9, 60, dtype=np.float32)
    across = np.broadcast_to(ramp[:, None] if axis == 0 else ramp, (60, 60))
    picture = np.ascontiguousarray(np.repeat(across[..., None], 3, axis=2))
    result = tileup.upscale(picture, denoise=denoise, deblock=deblock, device="cpu").picture.pixels
    # Enlarged twofold about the centres of pixels; the outermost have no neighbour to lean on.
    exact = np.interp((np.arange(120) - 0.5) / 2, np.arange(60), ramp)
    error = result - (exact[:, None, None] if axis == 0 else exact[None, :, None])
    inner = error[8:-8, 8:-8]
    assert np.sqrt(np.square(inner).mean()) < 0.5 / 255
    assert np.abs(inner).max() < 3 / 255
    assert np.abs(inner.mean(axis=(0, 1))).max() < 0.5 / 255


def test_the_mean_colour_is_that_of_the_source(drawn: dict[float, np.ndarray]) -> None:
    with Image.open(resource("docs") / "demo" / "seeding.jpg") as photograph:
        source = np.asarray(photograph.crop(BUSY), dtype=np.float64) / 255
    for pictures in drawn.values():
        shift = pictures.mean(axis=(1, 2)) - source.mean(axis=(0, 1))
        assert np.abs(shift).max() < 0.5 / 255


def test_a_photograph_comes_nearer_to_the_truth_than_by_bicubic_and_sharper() -> None:
    """Held out from training, shrunk twofold and enlarged again at strength 0.3."""
    with Image.open(resource("docs") / "demo" / "seeding.jpg") as photograph:
        truth = photograph.crop((180, 80, 372, 272))
    small = truth.resize((96, 96), Image.Resampling.BICUBIC)
    cubic = small.resize((192, 192), Image.Resampling.BICUBIC)
    drawn = tileup.upscale(small, denoise=0.3, device="cpu").image
    exact, plain, ours = (np.asarray(each, dtype=np.float64) for each in (truth, cubic, drawn))
    gain = 10 * np.log10(np.square(plain - exact).mean() / np.square(ours - exact).mean())
    assert gain > 0.5, "decibels; this crop is all hair, which is hard"
    energy = [np.square(np.diff(each, axis=1)).mean() for each in (plain, ours, exact)]
    assert energy[0] * 1.2 < energy[1] < energy[2] * 1.1


def test_half_precision_is_near_and_x0_stays_float32() -> None:
    source = torch.rand(1, 12, 16, 16) * 2 - 1
    x = source + 0.2 * torch.randn(1, 12, 16, 16)
    windows, sigma = [Box(0, 0, 16, 16)], torch.tensor([0.2])
    exact, half = (
        load_model(settings=Settings(device="cpu", dtype=dtype)).denoiser(scene_of(source))(
            x, sigma, windows
        )
        for dtype in ("float32", "bfloat16")
    )
    assert half.dtype is torch.float32
    difference = (half - exact).abs()
    assert 0 < difference.max() < 0.02, "of a range of 2"
    assert difference.mean() < 0.002
