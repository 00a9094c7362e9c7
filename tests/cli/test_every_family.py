"""Each family from its files to a picture: `tileup info`, and two steps of `upscale`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from tests.checkpoints import whole
from tests.checkpoints.layouts import flux, sd3
from tests.checkpoints.layouts.control import sd1_controlnet, sdxl_union
from tests.checkpoints.layouts.flux import flux_control
from tests.checkpoints.layouts.lora import changes, dotted_lora
from tests.checkpoints.layouts.sd3 import sd3_control, sd35_control
from tests.checkpoints.layouts.unet import PREFIX
from tests.checkpoints.whole import Parts, Shelf
from tests.cli.conftest import Command, save
from tests.text import references
from tileup.families.table import FAMILIES
from tileup.tensors.checkpoint import open_checkpoint

SMALL: Mapping[str, str] = {
    "sd1": "sd1",
    "sd2": "sd2",
    "sdxl": "sdxl",
    "sdxl-refiner": "sdxl-refiner",
    "sd3": "sd3",
    "chroma": "chroma",
    "flux-dev": "flux",
    "flux-krea": "flux",
    "flux-kontext": "flux",
    "flux-schnell": "flux-schnell",
    "z-image-turbo": "z-image",
    "z-image": "z-image",
    "lumina2": "lumina2",
    "qwen-image": "qwen-image",
    "flux2-klein": "flux2",
    "flux2-klein-base": "flux2",
    "flux2-dev": "flux2-dev",
}
"""Models of random weights, by family."""


def test_no_family_is_left_out() -> None:
    assert [*SMALL] == [family.name for family in FAMILIES]


KEPT = "with strength 0"


@pytest.fixture(scope="module")
def plain() -> dict[str, np.ndarray]:
    """The picture of each family with nothing added, drawn by the first test that needs it; and
    that of strength 0, which is the same whatever the model."""
    return {}


@pytest.mark.parametrize("name", SMALL)
def test_a_family_is_described_and_draws(
    tileup: Command, folder: Path, shelf: Shelf, plain: dict[str, np.ndarray], name: str
) -> None:
    family = next(each for each in FAMILIES if each.name == name)
    # Two families of one network are told by the name of the file.
    network = f"{name}.safetensors"
    flags = laid(folder, shelf, SMALL[name], network)
    told = tileup("info", network)
    assert told.code == 0, told.err
    assert family.title in told.out
    assert f"{family.name}\n" in told.out.replace(" \n", "\n")
    if KEPT not in plain:
        plain[KEPT] = draws(tileup, *flags, "--denoise", "0", "--no-metadata")
    kept = plain[KEPT]
    drawn = plain[name] = draws(tileup, *flags)
    assert drawn.shape == kept.shape
    assert drawn.std() > 0.05 * 255
    assert np.abs(drawn - kept).max() > 5


CONTROLS: Mapping[str, tuple[str, Callable[[], Mapping[str, Tensor]], str, str]] = {
    "tile of SD 1": ("sd1", sd1_controlnet, "SD 1.x", "tile (by its name)"),
    "union of SDXL": ("sdxl", lambda: sdxl_union()[1], "SDXL", "union of 8 kinds, a tile among"),
    "upscaler of FLUX": (
        "flux-dev",
        lambda: flux.published(flux_control(features=64, pooled=64)),
        "FLUX",
        "upscaler (by its name)",
    ),
    "union of FLUX": (
        "flux-dev",
        lambda: flux.published(flux_control(modes=10, features=64, pooled=64)),
        "FLUX",
        "union of 10 kinds, a tile among them",
    ),
    "tile of SD 3": (
        "sd3",
        lambda: sd3.published(sd3_control(1, features=128, pooled=128)),
        "SD 3",
        "tile (by its name)",
    ),
    "blur of SD 3.5 large": ("sd3", lambda: sd35_control(1, pooled=128), "SD 3.5 large", "blur"),
}
"""The family, the file, and what is told of it."""


@pytest.mark.parametrize("name", CONTROLS)
def test_a_controlnet_is_described_and_acts(
    tileup: Command, folder: Path, shelf: Shelf, plain: dict[str, np.ndarray], name: str
) -> None:
    family, make, acts_on, hint = CONTROLS[name]
    flags = laid(folder, shelf, SMALL[family], f"{family}.safetensors")
    control = f"{name}.safetensors"
    whole.save(folder / control, make())
    told = tileup("info", control)
    assert told.code == 0, told.err
    facts = dict(
        line.split(None, 1) for line in told.out.replace("made for", "made-for").splitlines()
    )
    assert facts["made-for"].strip() == acts_on
    assert hint in facts["hint"]
    assert "a ControlNet: give the model with -m and this file with --control" in told.out
    if family not in plain:
        plain[family] = draws(tileup, *flags)
    drawn = draws(tileup, *flags, "--control", control, "--no-metadata")
    assert np.abs(drawn - plain[family]).max() > 2


ONE_OF_EACH = ("sd3", "chroma", "flux-dev", "z-image", "lumina2", "qwen-image", "flux2-klein")
"""Families of flows, one of each network; those of UNets are in test_storage.py."""


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_a_lora_is_described_and_acts(
    tileup: Command, folder: Path, shelf: Shelf, plain: dict[str, np.ndarray], name: str
) -> None:
    """In the names of the file itself, as programs write it that train the original networks."""
    flags = laid(folder, shelf, SMALL[name], f"{name}.safetensors")
    layers = {
        each.removeprefix(PREFIX).removesuffix(".weight"): tensor.shape
        for each, tensor in open_checkpoint(shelf.path(SMALL[name], torch.float16)).tensors.items()
        if "attn" in each or "attention" in each
        if len(tensor.shape) == 2
    }
    whole.save(folder / "lora.safetensors", dotted_lora(changes(layers), "diffusion_model."))
    told = tileup("info", "lora.safetensors")
    assert told.code == 0, told.err
    assert "a LoRA" in told.out
    family = next(each for each in FAMILIES if each.name == name)
    (line,) = (line for line in told.out.splitlines() if line.startswith("made for"))
    assert family.short in line
    if name not in plain:
        plain[name] = draws(tileup, *flags)
    drawn = draws(tileup, *flags, "--lora", "lora.safetensors", "--no-metadata")
    assert np.abs(drawn - plain[name]).max() > 2


def draws(tileup: Command, *flags: str) -> np.ndarray:
    """The picture that two steps make, without a word about what is left out."""
    size = ("--window", "64", "--overlap", "16", "--steps", "2", "-d", "cpu", "--denoise", "0.6")
    # Of a flag that is given twice, the later counts.
    ran = tileup("upscale", "in.png", "-o", "out.png", "--overwrite", *size, *flags)
    assert ran.code == 0, ran.err
    assert "left out" not in ran.err
    return pixels(Path("out.png"))


def laid(folder: Path, shelf: Shelf, model: str, network: str) -> list[str]:
    """The flags that name the files of a model in half precision, linked into a folder."""
    save(folder / "in.png")
    files = shelf.parts(model, torch.float16)
    for part, path in files.items():
        (folder / (network if part == "network" else path.name)).hardlink_to(path)
    return flags_of(folder, files.keys(), network)


def saved(
    folder: Path, parts: Parts, network: str, dtype: torch.dtype = torch.float32
) -> list[str]:
    """The same of files of a test's own."""
    save(folder / "in.png")
    for part, tensors in parts.items():
        name = network if part == "network" else f"{part}.safetensors"
        whole.save(folder / name, tensors, dtype)
    return flags_of(folder, parts.keys(), network)


def flags_of(folder: Path, parts: Set[str], network: str) -> list[str]:
    flags = ["-m", network]
    for part in parts - {"network"}:
        flags += [f"--{part.replace('_', '-')}", f"{part}.safetensors"]
    if "t5" in parts:
        references.save_t5_tokenizer(folder / "tokenizer.json")
        flags += ["--tokenizer", "tokenizer.json"]
    if "text_encoder" in parts:
        references.save_qwen_tokenizer(folder / "qwen")
        flags += ["--tokenizer", "qwen"]
    return flags


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"), dtype=np.float64)
