"""The second network of a bundled checkpoint: where it draws, and that nothing else changes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import distance_transform_edt
from torch.nn import functional

import tileup
from tests.checkpoints.small import (
    ARCHITECTURE,
    CPU,
    SMALL,
    save_both,
    small_network,
    vivid_network,
)
from tests.doubles import DoubleModel, gaussian_denoiser, photograph, scene_of
from tileup.checkpoints.describe import describe
from tileup.checkpoints.find import identify
from tileup.checkpoints.load import load_model
from tileup.contracts import Box, Scene, Wish
from tileup.errors import ModelError
from tileup.families.bundled import BundledModel
from tileup.families.residual_unet import ResidualUNet
from tileup.families.texture import REACH, TextureRange, toned
from tileup.settings.values import DENOISE_MODES, Settings


@pytest.fixture
def both(tmp_path: Path) -> Path:
    return save_both(tmp_path / "both.safetensors")


def loaded(path: Path, settings: Settings = CPU) -> BundledModel:
    model = load_model(path, settings)
    assert isinstance(model, BundledModel)
    return model


def shown(source: torch.Tensor, strength: torch.Tensor, texture: float = 1.0) -> Scene:
    return replace(scene_of(source), strength=strength, wish=Wish(texture=texture))


# --- how much ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("strength", "amount"),
    [(0.0, 0.0), (0.2, 0.0), (0.35, 0.25), (0.5, 0.5), (0.8, 1.0), (1.0, 1.0)],
)
def test_the_amount_of_texture_grows_in_a_straight_line(strength: float, amount: float) -> None:
    found = TextureRange(0.2, 0.8).amount(torch.tensor([strength]))
    assert float(found) == pytest.approx(amount, abs=1e-6)
    if amount in (0, 1):
        assert float(found) == amount, "exactly"


@pytest.mark.parametrize("ends", [(0.8, 0.2), (0.2, 0.2), (-0.1, 0.8), (0.2, 1.1), (0.2, np.nan)])
def test_it_must_grow_within_the_strengths_there_are(ends: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="cannot grow"):
        TextureRange(*ends)


def test_colours_are_those_of_the_source_and_texture_stays() -> None:
    source = torch.rand(2, 12, 20, 36) * 2 - 1
    tint = torch.linspace(-0.1, 0.1, 12)[None, :, None, None].expand_as(source)
    torch.testing.assert_close(toned(source + tint, source), source, atol=1e-6, rtol=0)
    rows, columns = torch.meshgrid(torch.arange(20), torch.arange(36), indexing="ij")
    texture = 0.1 * (-1.0) ** (rows + columns).expand_as(source)
    kept = toned(source + texture, source) - source
    torch.testing.assert_close(kept, texture, atol=0.1 / 9, rtol=0)
    assert toned(source[..., :4, :4], source[..., :4, :4]).shape == (2, 12, 4, 4)


@pytest.mark.parametrize(("height", "width"), [(72, 72), (72, 264), (3, 140), (20, 8), (1, 1)])
def test_colours_are_those_of_the_mean_over_all_cells_within_reach(height: int, width: int) -> None:
    source, drawn = torch.rand(2, 3, 12, height, width, dtype=torch.float64)
    side = 2 * REACH + 1
    wanted = functional.avg_pool2d(drawn - source, side, 1, REACH, count_include_pad=False)
    wanted = drawn - wanted
    learned = toned(drawn.clone().requires_grad_(), source)
    torch.testing.assert_close(learned, wanted, atol=1e-12, rtol=0)
    torch.autograd.backward(learned, torch.rand_like(drawn))  # as training needs it
    found = toned(drawn.clone(memory_format=torch.channels_last), source)
    torch.testing.assert_close(found, wanted, atol=1e-12, rtol=0)


# --- files ------------------------------------------------------------------------------


def test_what_was_saved_is_what_is_loaded(both: Path, alone: Path) -> None:
    assert identify(both).textured
    model = loaded(both)
    assert model.vivid is not None
    assert model.vivid.range == TextureRange(0.2, 0.8)
    for network, saved in (
        (model.network, small_network()),
        (model.vivid.network, vivid_network()),
    ):
        expected = saved.state_dict()
        assert network.state_dict().keys() == expected.keys()
        for name, value in network.state_dict().items():
            assert torch.equal(value, expected[name].half().float()), name
    assert loaded(alone).vivid is None
    assert not identify(alone).textured


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"vivid.enter.weight": torch.zeros(8, 24, 3, 3).half()}, r"vivid\.\* of .* does not fit"),
        ({"vivid.leave.weight": torch.zeros(12, 8, 1, 1).half()}, r"vivid\.\* of .* does not fit"),
        ({"vivid.extra": torch.zeros(1)}, r"vivid\.\* of .* does not fit"),
        ({"vivid.leave.bias": torch.full((12,), np.inf)}, "vivid.leave.bias has values that are"),
        ({"enter.weight": torch.zeros(8, 25, 3, 3).half()}, r"both.safetensors does not fit"),
    ],
    ids=["channels", "size", "unknown", "not finite", "first network"],
)
def test_tensors_that_do_not_fit_are_refused(
    tmp_path: Path, changes: dict[str, torch.Tensor], words: str
) -> None:
    with pytest.raises(ModelError, match=words):
        load_model(save_both(tmp_path / "both.safetensors", **changes))


@pytest.mark.parametrize("texture", [None, [0.2, 0.8], {"from": 0.2}, {"from": "x", "full": 1}])
def test_a_header_must_say_which_strengths_have_texture(tmp_path: Path, texture: object) -> None:
    path = save_both(tmp_path / "both.safetensors", texture=texture)
    with pytest.raises(ModelError, match="its header is wrong"):
        identify(path)


def test_both_are_described(both: Path, alone: Path) -> None:
    one = sum(value.numel() for value in small_network().state_dict().values())
    parts = {part.title: part.amount for part in describe(both).parts}
    counts = {title: amount.total for title, amount in parts.items() if amount is not None}
    assert counts == {"network": one, "network for texture": one + 8 * 9}
    assert describe(both).parameters == 2 * one + 8 * 9
    assert [part.title for part in describe(alone).parts] == ["network"]


# --- which network draws what -----------------------------------------------------------

WINDOWS = [Box(0, 0, 16, 16), Box(0, 16, 16, 32), Box(8, 24, 24, 40), Box(8, 0, 24, 16)]


def canvas() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Noisy latents, source, and strengths: weak on the left, rising on the right."""
    generator = torch.Generator().manual_seed(3)
    source = torch.rand(1, 12, 24, 40, generator=generator) * 2 - 1
    x = source + 0.2 * torch.randn(1, 12, 24, 40, generator=generator)
    strength = torch.linspace(0.2, 0.9, 24).expand(24, 24)
    return x, source, torch.cat([torch.full((24, 16), 0.2), strength], dim=1)[None, None]


def test_a_window_with_texture_is_the_second_networks_as_far_as_is_wished(
    both: Path,
) -> None:
    x, source, strength = canvas()
    sigma = torch.tensor([0.2, 0.2, 0.05, 0.05])
    crops = torch.cat([x[..., *box.index] for box in WINDOWS])
    result = loaded(both).denoiser(shown(source, strength, 0.7))(crops, sigma, WINDOWS)
    first, second = small_network().half().float(), vivid_network().half().float()
    amount = ((strength - 0.2) / 0.6).clamp(0, 1)
    for row, box in enumerate(WINDOWS):
        one, level = source[..., *box.index], sigma[row : row + 1]
        if box.right <= 16:
            expected = first(crops[row : row + 1], level, one)
        else:
            told = amount[..., *box.index]
            assert 0 <= told.min() < told.max() <= 1
            drawn = toned(second(crops[row : row + 1], level, one, told), one)
            expected = 0.3 * first(crops[row : row + 1], level, one) + 0.7 * drawn
        torch.testing.assert_close(result[row : row + 1], expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_windows_result_does_not_depend_on_what_is_beside_it(both: Path, dtype: str) -> None:
    x, source, strength = canvas()
    network = loaded(both, replace(CPU, dtype=dtype)).denoiser(shown(source, strength))
    sigma = torch.tensor([0.2, 0.05, 0.2, 0.2])
    crops = torch.cat([x[..., *box.index] for box in WINDOWS])
    together = network(crops, sigma, WINDOWS)
    assert together.dtype is torch.float32
    for row, box in enumerate(WINDOWS):
        single = network(crops[row : row + 1], sigma[row : row + 1], [box])
        torch.testing.assert_close(single[0], together[row], atol=1e-6, rtol=1e-5)


def reach() -> int:
    """Cells from which a result of the small network can depend on what is shown."""
    deep = range(len(ARCHITECTURE.widths))
    blocks = [*zip(deep, ARCHITECTURE.down_blocks, strict=True)]
    blocks += [*zip(deep, ARCHITECTURE.up_blocks, strict=False)]
    # Two convolutions of a block, one at each end, the grid of the coarsest cells, and colours.
    deepest = 2 ** (len(deep) - 1) - 1
    return sum(2 * count * 2**level for level, count in blocks) + 2 + deepest + REACH


def test_texture_acts_where_it_is_told_and_as_far_as_the_network_sees(tmp_path: Path) -> None:
    """A second network that is the first but for what it makes of the amount of texture."""
    acting = ResidualUNet(replace(ARCHITECTURE, conditions=1))
    state = {name: value.clone() for name, value in small_network().state_dict().items()}
    state["enter.weight"] = torch.cat([state["enter.weight"], torch.randn(8, 1, 3, 3)], dim=1)
    acting.load_state_dict(state)
    model = loaded(save_both(tmp_path / "acting.safetensors", acting))
    assert model.vivid is not None
    width, edge = 96, 48
    assert reach() < edge
    source = torch.rand(1, 12, 16, width) * 2 - 1
    x = source + 0.2 * torch.randn(1, 12, 16, width)
    strength = torch.where(torch.arange(width) < edge, 0.2, 0.8).expand(1, 1, 16, width)
    window, sigma = [Box(0, 0, 16, width)], torch.tensor([0.2])
    plain = toned(model.denoiser(scene_of(source))(x, sigma, window), source)
    drawn = model.denoiser(shown(source, strength))(x, sigma, window)
    apart = (drawn - plain).abs().amax(dim=(0, 1, 2))
    assert apart[: edge - reach()].max() < 1e-6
    assert apart[edge:].min() > 1e-4
    assert apart[edge - 2 : edge].min() > 1e-4, "it sees beyond the cell"


# --- whole pictures ---------------------------------------------------------------------


def drawn(path: Path, **settings: object) -> np.ndarray:
    return tileup.upscale(photograph(40, 56), path, **(SMALL | settings)).picture.pixels


@pytest.mark.parametrize("denoise", [0.05, 0.2])
def test_weak_strength_is_the_first_network_alone(both: Path, alone: Path, denoise: float) -> None:
    result = drawn(both, denoise=denoise)
    assert np.array_equal(result, drawn(alone, denoise=denoise))
    assert np.abs(drawn(both, denoise=0.25) - drawn(alone, denoise=0.25)).max() > 1e-3


def test_without_texture_strong_tiles_are_the_first_networks_too(both: Path, alone: Path) -> None:
    plain = drawn(alone)
    assert np.array_equal(drawn(both, texture=0.0), plain)
    half, full = drawn(both, texture=0.5), drawn(both)
    assert min(np.abs(half - plain).max(), np.abs(full - half).max()) > 1e-3


@pytest.mark.parametrize("mode", DENOISE_MODES)
def test_every_mode_draws_with_both(both: Path, alone: Path, mode: str) -> None:
    result = drawn(both, denoise_mode=mode)
    assert np.isfinite(result).all()
    assert np.array_equal(
        drawn(both, denoise_mode=mode, texture=0.0), drawn(alone, denoise_mode=mode)
    )
    assert np.abs(result - drawn(alone, denoise_mode=mode)).max() > 1e-3


@dataclass
class Telling(DoubleModel):
    """Draws the strength that it is told of, the largest within three cells: it sees that far."""

    def denoiser(self, scene: Scene):  # noqa: ANN201
        told = scene.strength
        assert told is not None
        seen = torch.nn.functional.max_pool2d(told, 7, 1, 3)

        def told_in(x: torch.Tensor, sigma: torch.Tensor, windows: list[Box]) -> torch.Tensor:
            return torch.cat([seen[..., *box.index] for box in windows]).expand_as(x)

        return told_in


def tiles_of(mode: str) -> tuple[np.ndarray, np.ndarray]:
    """What `Telling` draws of tiles of 0.2 to 0.8 side by side, and their strengths, by cell."""
    model = Telling(gaussian_denoiser)
    model.spec = replace(model.spec, textured=True)
    result = tileup.upscale(
        photograph(40, 80), model, denoise_mode=mode, window=64, overlap=8, tile=32, min_tile=8,
        steps=4, color_fix="none",
    )  # fmt: skip
    cells = model.codec.encode(torch.from_numpy(result.picture.pixels).movedim(-1, 0)[None])
    return cells[0, 0].numpy(), result.plan.denoise_map()


def test_a_pass_is_told_of_its_own_strength_alone() -> None:
    """As a plain run is: whatever lies beside a tile, it is drawn as one of its strength."""
    shown, strengths = tiles_of("passes")
    assert len(np.unique(strengths)) > 2
    # Strengths are faded into one another over two cells to each side.
    alone = sum(distance_transform_edt(strengths == each) > 2 for each in np.unique(strengths)) > 0
    assert alone.sum() > 100
    np.testing.assert_allclose(shown[alone], strengths[alone], atol=1e-6)
    told, _ = tiles_of("schedule")
    assert (told[alone] - strengths[alone]).max() > 0.1, "one run is told of all"


def test_a_weak_tile_in_a_window_with_texture_is_the_second_networks(both: Path) -> None:
    """It is told of no texture there, and is another network: the reach is that of a window."""
    model = loaded(both)
    assert model.vivid is not None
    source = torch.rand(1, 12, 16, 64) * 2 - 1
    x = source + 0.2 * torch.randn(1, 12, 16, 64)
    strength = torch.where(torch.arange(64) < 40, 0.2, 0.8).expand(1, 1, 16, 64)
    sigma, windows = torch.tensor([0.2]), [Box(0, 0, 16, 32), Box(0, 32, 16, 64)]
    crops = torch.cat([x[..., :32], x[..., 32:]])
    left, right = model.denoiser(shown(source, strength))(crops, sigma.expand(2), windows)
    first = model.denoiser(scene_of(source))(crops, sigma.expand(2), windows)
    assert torch.equal(left, first[0]), "a window without any is the first network's"
    assert (right - first[1])[..., :8].abs().min() > 0, "though these cells are as weak"


@dataclass
class Watching(DoubleModel):
    """Keeps what it was shown."""

    scene: Scene | None = None

    def denoiser(self, scene: Scene):  # noqa: ANN201
        self.scene = scene
        return super().denoiser(scene)


def test_a_model_is_shown_the_strength_of_each_cell_of_the_padded_canvas() -> None:
    model = Watching(gaussian_denoiser)
    result = tileup.upscale(
        photograph(9, 40), model, window=64, overlap=8, tile=16, min_tile=8, steps=4, texture=0.3
    )
    scene, plan = model.scene, result.plan
    assert scene is not None
    assert scene.strength is not None
    assert scene.wish.texture == 0.3
    assert scene.strength.shape == (1, 1, *scene.source.shape[-2:])
    shown, own = scene.strength[0, 0].numpy(), plan.denoise_map()
    assert len(plan.strengths) > 1
    rows = shown.shape[0]
    assert rows > plan.rows, "this picture is smaller than a window"
    expected = np.pad(own, ((0, rows - plan.rows), (0, 0)), mode="reflect")
    np.testing.assert_allclose(shown, expected, atol=1e-7)
