"""Enlarging by a model: against its own arithmetic, whole against tiled, and what is refused."""

from __future__ import annotations

import importlib.util
import pickle
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor

from tests.checkpoints.layouts.compact import compact, compact_state_dict
from tests.images.pictures import SIZES, random_picture
from tileup.enlarge.esrgan import (
    MARGIN,
    RAMP,
    fading,
    import_spandrel,
    load_enlarger,
    spans,
)
from tileup.enlarge.lanczos import enlarge
from tileup.errors import ExitCode, MissingExtraError, ModelError, TileupError
from tileup.images.picture import Picture

needs_spandrel = pytest.mark.skipif(
    importlib.util.find_spec("spandrel") is None, reason="spandrel is not installed"
)
SMALL = 2 * MARGIN + RAMP + 8
"""Side of a tile of which a picture of 100 pixels has many."""


def saved(folder: Path, tensors: dict[str, Tensor], name: str = "x.safetensors") -> Path:
    save_file(tensors, folder / name)
    return folder / name


def nearest(pixels: NDArray[np.float32], scale: int) -> NDArray[np.float32]:
    return pixels.repeat(scale, axis=0).repeat(scale, axis=1)


@pytest.mark.parametrize("length", [1, 5, SMALL, SMALL + 1, 2 * SMALL, 333, 1000])
@pytest.mark.parametrize("tile", [SMALL, 256])
@pytest.mark.parametrize("scale", [1, 2, 3])
def test_weights_sum_to_one_and_vanish_at_inner_edges(length: int, tile: int, scale: int) -> None:
    tiles = spans(length, tile)
    total = np.zeros(scale * length)
    for each, weight in zip(tiles, fading(tiles, scale), strict=True):
        assert each.stop - each.start == min(tile, length)
        assert weight.min() >= 0
        total[scale * each.start : scale * each.stop] += weight
        if each.start > 0:
            assert_array_equal(weight[: scale * MARGIN], 0)
        if each.stop < length:
            assert_array_equal(weight[-scale * MARGIN :], 0)
    assert_allclose(total, 1, atol=1e-6)
    assert tiles[-1].stop == length


@needs_spandrel
@pytest.mark.parametrize("size", [*SIZES, (150, 83)])
@pytest.mark.parametrize("scale", [2, 4])
def test_pixels_are_those_of_the_network(tmp_path: Path, size: tuple[int, int], scale: int) -> None:
    """In tiles: its receptive field of four pixels lies within the margin."""
    tensors = compact_state_dict(scale)
    pixels = random_picture(*size).pixels
    tiled = load_enlarger(saved(tmp_path, tensors), tile=SMALL).enlarged(pixels)
    image = torch.from_numpy(pixels).movedim(-1, 0)[None]
    expected = compact(tensors, image, scale).clamp(0, 1)[0].movedim(0, -1).numpy()
    assert_allclose(tiled, expected, atol=2e-6)
    assert np.abs(tiled - nearest(pixels, scale)).max() > 0.05


@needs_spandrel
@pytest.mark.parametrize(("width", "height"), [(66, 42), (50, 31), (200, 100), (33, 20), (1, 1)])
def test_any_size_by_lanczos_from_there(tmp_path: Path, width: int, height: int) -> None:
    """A network of zeros repeats pixels."""
    picture = random_picture(33, 21)
    enlarger = load_enlarger(saved(tmp_path, compact_state_dict(gain=0)))
    expected = enlarge(Picture(pixels=nearest(picture.pixels, 2)), width, height).pixels
    assert_array_equal(enlarger(picture, width, height).pixels, expected)


@needs_spandrel
def test_everything_else_is_as_with_lanczos(tmp_path: Path) -> None:
    alpha = np.random.default_rng(5).random((21, 33), dtype=np.float32)
    alpha[:4] = 0
    picture = random_picture(alpha=alpha, deep=True, icc=b"icc", dpi=(72.0, 72.0), format="png")
    enlarger = load_enlarger(saved(tmp_path, compact_state_dict()))
    result, plain = enlarger(picture, 70, 50), enlarge(picture, 70, 50)
    assert result.alpha is not None
    assert plain.alpha is not None
    assert_array_equal(result.alpha, plain.alpha)
    assert replace(result, pixels=plain.pixels, alpha=plain.alpha) == plain
    dark = picture.pixels.copy()
    dark[:4] = 0
    hidden = enlarger(replace(picture, pixels=dark), 70, 50)
    assert_array_equal(hidden.pixels, result.pixels)  # What cannot be seen leaves no fringe.
    assert np.abs(result.pixels - plain.pixels).max() > 0.05
    assert not np.array_equal(result.pixels, np.rint(result.pixels * 255) / 255)


@needs_spandrel
def test_the_same_size_gives_the_same_pixels(tmp_path: Path) -> None:
    picture = random_picture(33, 21)
    enlarger = load_enlarger(saved(tmp_path, compact_state_dict()))
    assert enlarger(picture, 33, 21) is picture


@needs_spandrel
@pytest.mark.parametrize("name", ["x.pth", "x.pt", "x.ckpt", "x.safetensors"])
def test_files_and_layouts(tmp_path: Path, name: str) -> None:
    """An ESRGAN of one block, as its training wrote it: under `params_ema` in a .pth."""
    import_spandrel()
    from spandrel.architectures.ESRGAN import ESRGAN

    torch.manual_seed(0)
    network = ESRGAN(num_filters=8, num_blocks=1, scale=4)
    tensors = {key: each.contiguous() for key, each in network.state_dict().items()}
    path = tmp_path / name
    if path.suffix == ".safetensors":
        save_file(tensors, path)
    else:
        torch.save({"params_ema": tensors}, path)
    enlarger = load_enlarger(path)
    assert enlarger.scale == 4
    pixels = random_picture(9, 7).pixels
    with torch.no_grad():
        expected = network(torch.from_numpy(pixels).movedim(-1, 0)[None]).clamp(0, 1)
    found = enlarger.enlarged(pixels)
    assert_allclose(found, expected[0].movedim(0, -1).numpy(), atol=1e-5)
    assert found.std() > 0


@needs_spandrel
@pytest.mark.parametrize("size", SIZES)
def test_a_model_that_wants_sides_of_a_multiple_takes_any(
    tmp_path: Path, size: tuple[int, int]
) -> None:
    """Real-ESRGAN x2 wants multiples of 4: mirrored behind, repeated where too thin, cut off."""
    import_spandrel()
    from spandrel.architectures.ESRGAN import ESRGAN

    torch.manual_seed(0)
    network = ESRGAN(in_nc=12, num_filters=8, num_blocks=1, scale=4, shuffle_factor=2)
    tensors = {key: each.contiguous() for key, each in network.state_dict().items()}
    enlarger = load_enlarger(saved(tmp_path, tensors), tile=1000)
    pixels = random_picture(*size).pixels
    missing = [-size[1] % 4, -size[0] % 4]
    mirrored = [min(each, side - 1) for each, side in zip(missing, size[::-1], strict=True)]
    padded = np.pad(pixels, [*((0, each) for each in mirrored), (0, 0)], "reflect")
    rest = [(0, each - done) for each, done in zip(missing, mirrored, strict=True)]
    with torch.no_grad():
        image = torch.from_numpy(np.pad(padded, [*rest, (0, 0)], "edge")).movedim(-1, 0)[None]
        expected = network(image).clamp(0, 1)[0, :, : 2 * size[1], : 2 * size[0]]
    found = enlarger.enlarged(pixels)
    assert found.shape == (2 * size[1], 2 * size[0], 3)
    assert_allclose(found, expected.movedim(0, -1).numpy(), atol=1e-5)


class Exploit:
    """Would make a file where it is unpickled without care."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.path,)


@needs_spandrel
def test_wrong_files_are_refused(tmp_path: Path) -> None:
    html = tmp_path / "page.safetensors"
    html.write_text("<!doctype html><title>Log in</title>")
    cut = saved(tmp_path, compact_state_dict(), "cut.safetensors")
    cut.write_bytes(cut.read_bytes()[:-100])
    empty = tmp_path / "empty.pth"
    empty.touch()
    code = tmp_path / "code.pth"
    code.write_bytes(pickle.dumps({"params": Exploit(tmp_path / "made")}))
    listed = tmp_path / "list.pth"
    torch.save([torch.zeros(1)], listed)
    broken = compact_state_dict()
    broken["body.2.weight"][0, 0, 0, 0] = torch.nan
    misshapen = compact_state_dict() | {"body.2.weight": torch.zeros(8, 5, 3, 3)}
    lora = {"lora_unet_down_blocks_0.lora_up.weight": torch.zeros(4, 4)}
    for path, words in {
        tmp_path / "missing.pth": "is not a file; give lanczos or the path",
        tmp_path: "is not a file; give lanczos or the path",
        html: "cannot be read as tensors",
        cut: "cannot be read as tensors",
        empty: "cannot be read as tensors",
        code: "cannot be read as tensors",
        listed: "holds no named tensors",
        saved(tmp_path, lora, "lora.safetensors"): "not an upscaler that spandrel knows",
        saved(tmp_path, misshapen, "shape.safetensors"): "does not load: .*size mismatch",
        saved(tmp_path, broken, "nan.safetensors"): r"body\.2\.weight has values that are not",
        saved(tmp_path, compact_state_dict(1), "same.safetensors"): "does not enlarge",
        saved(
            tmp_path, compact_state_dict(channels=1), "grey.safetensors"
        ): "for pictures of 1 channel$",
    }.items():
        with pytest.raises(ModelError, match=words) as caught:
            load_enlarger(path)
        assert str(path) in str(caught.value)
    assert not (tmp_path / "made").exists()


@needs_spandrel
def test_values_that_are_not_finite_are_an_error(tmp_path: Path) -> None:
    tensors = compact_state_dict()
    tensors["body.0.weight"] *= 1e30
    tensors["body.2.weight"] *= 1e30
    enlarger = load_enlarger(saved(tmp_path, tensors))
    with pytest.raises(TileupError, match="not finite numbers; try another --upscaler"):
        enlarger(random_picture(), 66, 42)


def test_a_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "spandrel", None)
    with pytest.raises(MissingExtraError, match=r"tileup\[esrgan\]") as caught:
        load_enlarger(saved(tmp_path, compact_state_dict()))
    assert caught.value.exit_code == ExitCode.MISSING_EXTRA


@needs_spandrel
def test_importing_it_leaves_no_stand_in_behind() -> None:
    import_spandrel()
    loaded: Mapping[str, object] = {**sys.modules}
    hidden = loaded["torchvision"] is None
    inside = [name for name in sys.modules if name.startswith("torchvision.")]
    assert not hidden or not inside
