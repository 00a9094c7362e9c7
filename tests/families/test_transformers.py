"""What every transformer of the flow families does, whatever its layers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.checkpoints.flow import latents, relative, row_of, scene_of_latents, text_of
from tests.checkpoints.headers import save_head
from tests.checkpoints.layouts import flux, flux2, lumina2, qwen_image, sd3, z_image
from tests.families.building import how, transformer_of
from tileup.checkpoints.find import identify
from tileup.contracts import Box, Encoded
from tileup.families.chroma import build_chroma
from tileup.families.family import Build
from tileup.families.flux import build_flux
from tileup.families.flux2 import build_flux2
from tileup.families.lumina2 import build_lumina2
from tileup.families.qwen_image import build_qwen_image
from tileup.families.sd3 import build_sd3
from tileup.families.transformer import TransformerNetwork
from tileup.families.z_image import build_z_image

SCENE = scene_of_latents(latents(1, 16, 8, 12, seed=7))


@dataclass(frozen=True, slots=True)
class Case:
    """A small network of a family, and texts for it."""

    network: TransformerNetwork
    text: Callable[[int], Encoded]
    """Of so many rows."""
    channels: int = 16


def _plain(features: int) -> Callable[[int], Encoded]:
    """Text of families that take no feature of the whole prompt."""
    return lambda rows: Encoded(latents(rows, 5, features, seed=3))


CASES: dict[str, Callable[[], Case]] = {
    "flux": lambda: Case(
        transformer_of(build_flux(flux.flux_transformer(2, 2), how())),
        lambda rows: text_of(rows, 32, 24),
    ),
    "chroma": lambda: Case(
        transformer_of(build_chroma(flux.chroma_transformer(), how())), _plain(32)
    ),
    "sd3": lambda: Case(
        transformer_of(build_sd3(sd3.sd3_transformer(qk_norm=True, dual=1), how())),
        lambda rows: text_of(rows, sd3.FEATURES, sd3.POOLED),
    ),
    "z-image": lambda: Case(
        transformer_of(build_z_image(z_image.z_image_transformer(), how())), _plain(48)
    ),
    "lumina2": lambda: Case(
        transformer_of(build_lumina2(lumina2.lumina2_transformer(), how())), _plain(48)
    ),
    "qwen-image": lambda: Case(
        transformer_of(build_qwen_image(qwen_image.qwen_image_transformer(), how())), _plain(48)
    ),
    "flux2": lambda: Case(
        transformer_of(build_flux2(flux2.flux2_transformer(), how())), _plain(48), 128
    ),
}


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]()


def test_each_row_has_its_own_noise_level_and_text(case: Case) -> None:
    x, sigma = latents(3, case.channels, 8, 8), torch.tensor([0.02, 1.0, 50.0])
    text = case.text(3)
    windows = [Box(0, 0, 8, 8)] * 3
    together = case.network(x, sigma, windows, text, SCENE)
    for row in range(3):
        one = slice(row, row + 1)
        alone = case.network(x[one], sigma[one], windows[:1], row_of(text, row), SCENE)
        assert relative(together[one], alone) < 1e-5
    other = case.network(x, sigma.flip(0), windows, text, SCENE)
    assert relative(other[:1], together[:1]) > 0.01


def test_a_window_looks_the_same_wherever_it_lies(case: Case) -> None:
    x, text = latents(1, case.channels, 8, 8), case.text(1)
    corner, inside = (
        case.network(x, torch.ones(1), [box], text, SCENE)
        for box in (Box(0, 0, 8, 8), Box(0, 4, 8, 12))
    )
    assert torch.equal(corner, inside)
    turned = case.network(x.flip(-1), torch.ones(1), [Box(0, 0, 8, 8)], text, SCENE).flip(-1)
    assert relative(turned, corner) > 0.01


@pytest.mark.parametrize(("height", "width"), [(7, 9), (1, 1), (1, 24), (8, 23)])
def test_odd_sides_are_continued_and_cut_off_again(case: Case, height: int, width: int) -> None:
    x, text = latents(2, case.channels, height, width), case.text(1)
    edges = ((0, 0), (0, 0), *((0, -side % case.network.patch) for side in (height, width)))
    even = torch.from_numpy(np.pad(x.numpy(), edges, mode="edge"))
    sigma = torch.tensor([0.5, 2.0])
    found = case.network(x, sigma, [Box(0, 0, height, width)] * 2, text, SCENE)
    expected = case.network(even, sigma, [Box(0, 0, *even.shape[-2:])] * 2, text, SCENE)
    assert torch.equal(found, expected[..., :height, :width])


SAVED: dict[str, tuple[Build, Callable[[], dict[str, Tensor]]]] = {
    "flux-dev": (build_flux, flux.flux_transformer),
    "chroma": (build_chroma, flux.chroma_transformer),
    "flux2-klein": (build_flux2, flux2.flux2_transformer),
}


@pytest.mark.parametrize("name", SAVED)
def test_gains_of_norms_are_called_weight_in_files_that_comfyui_saved(
    tmp_path: Path, name: str
) -> None:
    build, make = SAVED[name]
    tensors = make()
    renamed = {
        key.removesuffix("scale") + "weight" if key.endswith(".scale") else key: each
        for key, each in tensors.items()
    }
    assert renamed.keys() != tensors.keys()
    plain, saved = (build(each, how()).module.state_dict() for each in (tensors, renamed))
    assert plain.keys() == saved.keys()
    assert all(torch.equal(saved[key], each) for key, each in plain.items())
    shapes = {f"model.diffusion_model.{key}": tuple(each.shape) for key, each in renamed.items()}
    assert identify(save_head(tmp_path / "m.safetensors", shapes)).family == name
