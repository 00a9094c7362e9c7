"""The bundled networks in integers of 8 bits: what oneDNN computes is what rounding to those steps
gives, a window's result is its own, and what ships hardly differs from float32."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from models.ranges import watched, with_rounded_weights
from tests.checkpoints.small import save_deblocking, save_small, small_network, vivid_network
from tileup.checkpoints.load import load_model
from tileup.errors import ModelError, UsageError
from tileup.families import in_int8, runtimes
from tileup.families.bundled import BundledModel
from tileup.families.in_int8 import InInt8, exact, gathered, spread
from tileup.families.residual_unet import LEVELS, ResidualUNet
from tileup.families.rounding import STEPS, Affine, Ranges, knots, points, shares
from tileup.families.runtimes import computed_by, pick_runtime
from tileup.settings.values import Settings

needs_integers = pytest.mark.skipif(not exact(), reason="this CPU adds products of 8 bits wrongly")
DEMO = Path(__file__).parents[2] / "docs" / "demo"


def enlivened(network: ResidualUNet, seed: int = 3) -> ResidualUNet:
    """With second convolutions that count."""
    torch.manual_seed(seed)
    for parameter in network.parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))
    return network


def by_chance(network: ResidualUNet, rows: int, side: int) -> tuple[Tensor, Tensor, Tensor | None]:
    """Noisy windows, their source, and conditions where the network has any."""
    chance = torch.Generator().manual_seed(side)
    channels = network.leave.out_channels
    source = 2 * torch.rand(rows, channels, side, side, generator=chance) - 1
    x = source + 0.2 * torch.randn(source.shape, generator=chance)
    more = network.enter.in_channels - 2 * channels
    return x, source, torch.rand(rows, 1, side, side, generator=chance) if more else None


def ranges_of(network: ResidualUNet) -> Ranges:
    """Ends that cut the largest values of what `by_chance` gives."""
    ends = torch.full((len(points(network)), 2, 2), 0.1)
    x, source, conditions = by_chance(network, 4, 16)

    def note(number: int, values: Tensor) -> None:
        low, high = (values.quantile(q) for q in (0.002, 0.998))
        ends[number] = torch.stack([-low, high]).clamp(min=0.1)[:, None]

    with watched(network, note):
        network(x, torch.full((4,), 0.2), source, conditions)
    return Ranges.of(ends, 0.01, 0.7)


@contextmanager
def rounded_maps(network: ResidualUNet, grids: list[Affine]) -> Generator[None]:
    def change(number: int, values: Tensor) -> Tensor:
        scale, zero = grids[number]
        return ((values / scale + zero).round().clamp(0, STEPS) - zero) * scale

    with watched(network, change):
        yield


@needs_integers
@pytest.mark.parametrize("make", [small_network, vivid_network], ids=["plain", "told"])
def test_it_is_the_network_with_rounded_weights_and_maps(
    make: Callable[[], ResidualUNet],
) -> None:
    """Against float64, map by map. A value in the middle between two steps may go to either."""
    network = enlivened(make())
    ranges, sigma = ranges_of(network), torch.tensor([0.2])
    x, source, conditions = by_chance(network, 3, 24)
    found = InInt8(network, ranges)(x, sigma, source, conditions)
    in_steps = with_rounded_weights(network).double()
    exactly = (None if each is None else each.double() for each in (x, source, conditions))
    x64, source64, conditions64 = exactly
    assert x64 is not None
    assert source64 is not None
    sigmas = sigma.double().expand(3)
    with rounded_maps(in_steps, ranges.at(sigma)):
        expected = in_steps(x64, sigmas, source64, conditions64)
    apart = (found - expected).abs()
    unrounded = network(x, sigma, source, conditions)
    moved = (unrounded - expected).abs()
    assert apart.mean() < moved.mean() / 20, "it is these steps and no others"
    assert apart.max() < moved.max()
    assert (unrounded - source).abs().mean() > 5 * moved.mean(), "and near the network"


@needs_integers
def test_a_window_is_the_same_to_the_bit_whatever_is_beside_it() -> None:
    network = enlivened(small_network())
    computed, sigma = InInt8(network, ranges_of(network)), torch.tensor([0.2])
    x, source, _ = by_chance(network, 3, 24)
    together = computed(x, sigma, source)
    layout = torch.channels_last
    laid = (each.contiguous(memory_format=layout) for each in (x, source))
    x_laid, source_laid = laid
    assert torch.equal(computed(x_laid, sigma, source_laid), together)
    for row in range(3):
        only = slice(row, row + 1)
        torch.testing.assert_close(computed(x[only], sigma, source[only]), together[only])
    assert torch.equal(computed(x, sigma, source), together), "nothing is left of the call before"


@needs_integers
@pytest.mark.parametrize("side", [4, 8, 20])
def test_small_windows_and_double_precision(side: int) -> None:
    network = enlivened(small_network())
    computed, sigma = InInt8(network, ranges_of(network)), torch.tensor([0.2])
    x, source, _ = by_chance(network, 2, side)
    found = computed(x, sigma, source)
    assert found.shape == x.shape
    double = computed(x.double(), sigma, source.double())
    assert double.dtype == torch.float64
    torch.testing.assert_close(double.float(), found)


@needs_integers
def test_what_is_kept_of_noise_levels_changes_nothing() -> None:
    network = enlivened(small_network())
    kept = InInt8(network, ranges_of(network))
    x, source, _ = by_chance(network, 1, 8)
    levels = torch.linspace(0.01, 0.7, LEVELS + 2).split(1)
    first = [kept(x, level, source) for level in levels]
    assert len(kept._known) == LEVELS
    again = [kept(x, level, source) for level in levels]
    assert all(torch.equal(one, two) for one, two in zip(first, again, strict=True))
    assert not torch.equal(first[0], first[-1])


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("channels", [3, 8, 64])
def test_squares_of_cells_are_gathered_by_row_column_and_channel(
    channels: int, dtype: torch.dtype
) -> None:
    maps = torch.arange(2 * channels * 24).view(2, channels, 4, 6).to(dtype)
    cells = functional.pixel_unshuffle(maps, 2).unflatten(1, (channels, 4)).transpose(1, 2)
    assert torch.equal(gathered(maps), cells.flatten(1, 2))
    assert torch.equal(spread(gathered(maps)), maps)
    layout = torch.channels_last
    assert torch.equal(gathered(maps.contiguous(memory_format=layout)), gathered(maps))


@pytest.mark.parametrize(("low", "high"), [(-1.0, 1.0), (-0.278, 200.0), (-9.0, 0.01)])
def test_a_grid_holds_zero_exactly_and_its_ends_nearly(low: float, high: float) -> None:
    scale, zero = Affine.between(low, high)
    assert 1 <= zero <= STEPS - 1
    assert scale == pytest.approx((high - low) / STEPS)
    ends = (np.array([0, STEPS]) - zero) * scale
    assert np.abs(ends - [low, high]).max() <= scale


def test_ends_grow_geometrically_between_noise_levels() -> None:
    ends = torch.tensor([[[1.0, 4.0, 4.0], [2.0, 2.0, 32.0]]])
    ranges = Ranges.of(ends, 0.01, 0.64)
    for sigma, low, high in (
        (0.01, 1.0, 2.0),
        (0.08, 4.0, 2.0),
        (math.sqrt(0.01 * 0.08), 2.0, 2.0),
        (math.sqrt(0.08 * 0.64), 4.0, 8.0),
        (0.001, 1.0, 2.0),
        (5.0, 4.0, 32.0),
    ):
        (grid,) = ranges.at(torch.tensor([sigma]))
        assert grid.scale == pytest.approx((low + high) / STEPS, rel=1e-5)
    many = shares(torch.tensor([0.001, 0.02, 0.3, 9.0]), knots(0.01, 0.64, 5))
    torch.testing.assert_close(many.sum(dim=1), torch.ones(4, dtype=torch.float64))


@pytest.mark.parametrize(
    "ends", [torch.ones(17, 2), torch.ones(17, 2, 1), -torch.ones(17, 2, 4)], ids=["2", "1", "-"]
)
def test_ends_that_cannot_be_are_refused(ends: Tensor) -> None:
    with pytest.raises(ValueError, match="ends are positive"):
        Ranges.of(ends, 0.01, 0.7)


def test_ranges_of_another_network_are_refused() -> None:
    network = small_network()
    for count in (len(points(network)) - 1, 0):
        with pytest.raises(ValueError, match="fit no such network"):
            InInt8(network, Ranges(torch.ones(count, 2, 2), knots(0.01, 0.7, 2)))
    with pytest.raises(ValueError, match="there are none"):
        computed_by("int8", network)


class Shipped:
    """The shipped networks, computed in both ways, and a photograph."""

    def __init__(self) -> None:
        self.exact, self.rounded = (
            load_model(None, Settings(device="cpu", runtime=runtime))
            for runtime in ("torch", "int8")
        )
        path = DEMO / "seeding.jpg"
        with Image.open(path) as image:
            small = image.convert("RGB").crop((0, 0, 144, 144))
        pixels = np.asarray(small.resize((288, 288), Image.Resampling.LANCZOS), dtype=np.float32)
        planes = torch.from_numpy(pixels / 127.5 - 1).movedim(-1, 0)[None]
        self.source = functional.pixel_unshuffle(planes, 2)

    def networks(self, name: str) -> tuple[Callable[..., Tensor], Callable[..., Tensor]]:
        found: list[Callable[..., Tensor]] = []
        for model in (self.exact, self.rounded):
            assert isinstance(model, BundledModel)
            assert model.vivid is not None
            assert model.deblocking is not None
            named = {
                "first": model.remembering,
                "texture": partial(model.vivid.remembering, conditions=self.texture),
                "JPEG": model.deblocking,
            }
            found.append(named[name])
        return found[0], found[1]

    @property
    def texture(self) -> Tensor:
        return torch.full_like(self.source[:, :1], 0.8)


@pytest.fixture(scope="module")
def shipped() -> Shipped:
    return Shipped()


@needs_integers
@pytest.mark.parametrize("level", [0.008, 0.05, 0.3, 0.7])
@pytest.mark.parametrize(("name", "most"), [("first", 0.3), ("texture", 0.6), ("JPEG", 0.3)])
def test_the_shipped_networks_hardly_differ_from_float32(
    shipped: Shipped, name: str, level: float, most: float
) -> None:
    """By the square mean over a photograph; what they draw is several times that."""
    in_float32, in_int8 = shipped.networks(name)
    noise = torch.randn(shipped.source.shape, generator=torch.Generator().manual_seed(1))
    x, sigma = shipped.source + level * noise, torch.tensor([level])
    with torch.no_grad():
        expected = in_float32(x, sigma, shipped.source).float()
        found = in_int8(x, sigma, shipped.source)
    apart, drawn = (
        (each * 127.5).square().mean().sqrt()
        for each in (found - expected, expected - shipped.source)
    )
    assert 0 < apart < most
    assert drawn > 3 * apart


@needs_integers
def test_a_flat_colour_stays_flat(shipped: Shipped) -> None:
    """Where nothing is to be drawn, no step shows."""
    _, in_int8 = shipped.networks("first")
    ramp = torch.linspace(-0.9, 0.9, 96).expand(1, 12, 16, 96).contiguous()
    drawn = in_int8(ramp.clone(), torch.tensor([0.008]), ramp) - ramp
    shade = functional.avg_pool2d(drawn[..., 4:-4], 4)
    assert shade.abs().max() * 127.5 < 1.0
    assert shade.diff(dim=-1).abs().max() * 127.5 < 0.5


def test_without_exact_sums_it_is_not_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_int8, "_is_exact", lambda *_: False)  # pyright: ignore[reportUnknownLambdaType]
    assert not exact()
    monkeypatch.setattr(runtimes, "exact", lambda: False)
    with pytest.raises(UsageError, match="does not add products of 8 bits exactly"):
        pick_runtime("int8", "cpu", torch.float32)
    assert runtimes.timed_rounded("torch", torch.float32) == "torch"


def test_a_torch_without_these_operations_is_told_from_one_that_has_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Nothing:
        def __getattr__(self, name: str) -> object:
            raise AttributeError(name)

    monkeypatch.setattr(in_int8, "_ops", Nothing)
    assert not exact()


def test_a_checkpoint_says_how_its_maps_are_rounded_or_is_not(tmp_path: Path) -> None:
    silent = save_small(tmp_path / "silent.safetensors")
    with pytest.raises(ModelError, match="does not say how its maps are rounded"):
        load_model(silent, Settings(device="cpu", runtime="int8"))
    half = save_deblocking(tmp_path / "half.safetensors")
    assert load_model(half, Settings(device="cpu")).runtime != "int8"
    wrong = save_small(tmp_path / "wrong.safetensors", ranges=torch.ones(2, 2, 2))
    with pytest.raises(ModelError, match=r"ranges of .* is wrong: ranges of shape"):
        load_model(wrong, Settings(device="cpu", runtime="int8"))
    assert load_model(wrong, Settings(device="cpu", runtime="torch")).runtime == "torch"


@needs_integers
def test_a_checkpoint_with_ranges_is_computed_so(tmp_path: Path) -> None:
    ends = ranges_of(small_network()).ends.half()
    path = save_small(tmp_path / "m.safetensors", ranges=ends)
    model = load_model(path, Settings(device="cpu", runtime="int8"))
    assert isinstance(model, BundledModel)
    assert isinstance(model.remembering, InInt8)
    torch.testing.assert_close(model.remembering.ranges.ends, ends.double())


def test_what_does_not_compute_integers_is_refused() -> None:
    with pytest.raises(UsageError, match="runtime int8 computes in integers of 8 bits"):
        Settings(runtime="int8", dtype="float32")
    with pytest.raises(UsageError, match="runtime int8 computes on the CPU"):
        pick_runtime("int8", "cuda:0", torch.float32)


def test_points_are_met_in_their_order() -> None:
    network = small_network()
    met: list[int] = []
    x, source, _ = by_chance(network, 1, 8)
    with watched(network, lambda number, _: met.append(number)):
        network(x, torch.tensor([0.2]), source)
    assert met == list(range(len(points(network))))
    modules = {point.module for point in points(network)}
    assert not any(isinstance(each, nn.ModuleList) and not len(each) for each in modules)
