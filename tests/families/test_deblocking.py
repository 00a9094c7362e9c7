"""The network for sources that JPEG damaged: when it draws, and that it draws alone then."""

from __future__ import annotations

import io
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import tileup
from tests.checkpoints.small import (
    CPU,
    SMALL,
    save_both,
    save_deblocking,
    save_small,
    small_network,
)
from tests.doubles import photograph, scene_of
from tileup.checkpoints.describe import describe
from tileup.checkpoints.find import identify
from tileup.checkpoints.load import load_model
from tileup.contracts import Box, Wish
from tileup.errors import ModelError
from tileup.families.bundled import BundledModel


@pytest.fixture
def deblocking(tmp_path: Path) -> Path:
    return save_deblocking(tmp_path / "deblocking.safetensors")


def picture(quality: int | None) -> Image.Image:
    """A picture, and what JPEG leaves of it."""
    image = Image.fromarray((photograph(96, 120) * 255).astype(np.uint8))
    if quality is None:
        return image
    buffer = io.BytesIO()
    image.save(buffer, "jpeg", quality=quality)
    return Image.open(buffer).convert("RGB")


def drawn(image: Image.Image, path: Path, **settings: object) -> np.ndarray:
    return tileup.upscale(image, path, scale=1, **(SMALL | settings)).picture.pixels


def test_what_was_saved_is_what_is_loaded(deblocking: Path, alone: Path) -> None:
    model = load_model(deblocking, CPU)
    assert isinstance(model, BundledModel)
    assert model.spec.deblocks
    assert model.vivid is None
    assert model.deblocking is not None
    for network, seed in ((model.network, 0), (model.deblocking.network, 2)):
        expected = small_network(seed).half().float().state_dict()
        assert all(torch.equal(each, expected[name]) for name, each in network.state_dict().items())
    assert not identify(alone).deblocks


def test_it_is_described(deblocking: Path) -> None:
    titles = [part.title for part in describe(deblocking).parts]
    assert titles == ["network", "network for JPEG's damage"]


def test_tensors_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    wrong = {"deblock.enter.weight": torch.zeros(1)}
    with pytest.raises(ModelError, match=r"deblock\.\* of .* does not fit"):
        load_model(save_small(tmp_path / "wrong.safetensors", **wrong))


@pytest.mark.parametrize("strength", [0.2, 0.8])
@pytest.mark.parametrize("wished", [False, True])
def test_the_wish_chooses_the_network(tmp_path: Path, wished: bool, strength: float) -> None:
    """With one for texture beside it, whose turn it is not where blocks would be drawn on."""
    path = save_both(
        tmp_path / "three.safetensors",
        **{f"deblock.{n}": t.half() for n, t in small_network(2).state_dict().items()},
    )
    source = torch.rand(1, 12, 16, 16) * 2 - 1
    x, sigma, window = (
        source + 0.2 * torch.randn(source.shape),
        torch.tensor([0.2]),
        [Box(0, 0, 16, 16)],
    )
    scene = replace(
        scene_of(source),
        strength=torch.full((1, 1, 16, 16), strength),
        wish=Wish(deblock=wished),
    )
    found = load_model(path, CPU).denoiser(scene)(x, sigma, window)
    first, second = (small_network(s).half().float()(x, sigma, source) for s in (0, 2))
    if wished:
        torch.testing.assert_close(found, second, atol=1e-5, rtol=1e-4)
    else:
        assert (found - second).abs().max() > 1e-3
        assert torch.allclose(found, first, atol=1e-5) == (strength == 0.2)


@pytest.mark.parametrize(("quality", "damaged"), [(None, False), (85, False), (50, True)])
def test_pixels_decide_unless_the_user_does(
    deblocking: Path,
    alone: Path,
    quality: int | None,
    damaged: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    image = picture(quality)
    caplog.set_level(logging.INFO)
    plain, by_itself = drawn(image, alone), drawn(image, deblocking)
    assert ("it is deblocked" in caplog.text) == damaged
    on, off = (drawn(image, deblocking, deblock=each) for each in ("on", "off"))
    assert np.array_equal(off, plain)
    assert np.abs(on - off).max() > 1e-3
    assert np.array_equal(by_itself, on if damaged else off)
