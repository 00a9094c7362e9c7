"""Each family from its files to a picture: `tileup info`, and two steps of `upscale`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
from tests.cli.conftest import Command, save
from tests.text import references
from tileup.families.table import FAMILIES

Parts = Mapping[str, Mapping[str, Tensor]]


def alone(make: Callable[[], dict[str, Tensor]]) -> Callable[[], Parts]:
    """A file that holds everything."""
    return lambda: {"network": make()}


SMALL: Mapping[str, Callable[[], Parts]] = {
    "sd1": alone(whole.sd1),
    "sd2": alone(whole.sd2),
    "sdxl": alone(whole.sdxl),
    "sdxl-refiner": alone(whole.sdxl_refiner),
    "sd3": whole.sd3_parts,
    "chroma": whole.chroma_parts,
    "flux-dev": whole.flux_parts,
    "flux-krea": whole.flux_parts,
    "flux-kontext": whole.flux_parts,
    "flux-schnell": lambda: whole.flux_parts(guidance=False),
    "z-image-turbo": whole.z_image_parts,
    "z-image": whole.z_image_parts,
    "lumina2": whole.lumina2_parts,
    "qwen-image": whole.qwen_image_parts,
    "flux2-klein": whole.flux2_parts,
    "flux2-klein-base": whole.flux2_parts,
    "flux2-dev": lambda: whole.flux2_parts(guidance=True),
}
"""Files of random weights, by family."""


def test_no_family_is_left_out() -> None:
    assert [*SMALL] == [family.name for family in FAMILIES]


@pytest.fixture(scope="module")
def plain() -> dict[str, np.ndarray]:
    """The picture of each family with nothing added, drawn by the first test that needs it."""
    return {}


@pytest.mark.parametrize("name", SMALL)
def test_a_family_is_described_and_draws(
    tileup: Command, folder: Path, plain: dict[str, np.ndarray], name: str
) -> None:
    family = next(each for each in FAMILIES if each.name == name)
    # Two families of one network are told by the name of the file.
    network = f"{name}.safetensors"
    flags = saved(folder, SMALL[name](), network, torch.float16)
    told = tileup("info", network)
    assert told.code == 0, told.err
    assert family.title in told.out
    assert f"{family.name}\n" in told.out.replace(" \n", "\n")
    kept = draws(tileup, *flags, "--denoise", "0", "--no-metadata")
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
    tileup: Command, folder: Path, plain: dict[str, np.ndarray], name: str
) -> None:
    family, make, acts_on, hint = CONTROLS[name]
    flags = saved(folder, SMALL[family](), f"{family}.safetensors", torch.float16)
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
    tileup: Command, folder: Path, plain: dict[str, np.ndarray], name: str
) -> None:
    """In the names of the file itself, as programs write it that train the original networks."""
    parts = SMALL[name]()
    flags = saved(folder, parts, f"{name}.safetensors", torch.float16)
    names = {each.removeprefix(PREFIX): tensor for each, tensor in parts["network"].items()}
    layers = {
        each.removesuffix(".weight"): tuple(tensor.shape)
        for each, tensor in names.items()
        if "attn" in each or "attention" in each
        if tensor.ndim == 2
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


def saved(
    folder: Path, parts: Parts, network: str, dtype: torch.dtype = torch.float32
) -> list[str]:
    """The flags that name the files of a model."""
    save(folder / "in.png")
    for part, tensors in parts.items():
        name = network if part == "network" else f"{part}.safetensors"
        whole.save(folder / name, tensors, dtype)
    flags = ["-m", network]
    for part in parts.keys() - {"network"}:
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
