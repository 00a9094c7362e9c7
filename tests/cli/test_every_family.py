"""Each family from its files to a picture: `tileup info`, and two steps of `upscale`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torch import Tensor

from tests.checkpoints import whole
from tests.checkpoints.layouts.control import sdxl_union
from tests.checkpoints.layouts.flux import flux_control, published
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
    "qwen-image": whole.qwen_image_parts,
    "flux2-klein": whole.flux2_parts,
    "flux2-klein-base": whole.flux2_parts,
    "flux2-dev": lambda: whole.flux2_parts(guidance=True),
}
"""Files of random weights, by family."""


def test_no_family_is_left_out() -> None:
    assert [*SMALL] == [family.name for family in FAMILIES]


@pytest.mark.parametrize("name", SMALL)
def test_a_family_is_described_and_draws(tileup: Command, folder: Path, name: str) -> None:
    family = next(each for each in FAMILIES if each.name == name)
    # Two families of one network are told by the name of the file.
    network = f"{name}.safetensors"
    flags = saved(folder, SMALL[name](), network)
    told = tileup("info", network)
    assert told.code == 0, told.err
    assert family.title in told.out
    assert f"{family.name}\n" in told.out.replace(" \n", "\n")
    size = ("--window", "64", "--overlap", "16", "--steps", "2", "-d", "cpu")
    for denoise, name_out in (("0", "kept.png"), ("0.6", "drawn.png")):
        ran = tileup("upscale", "in.png", "-o", name_out, "--denoise", denoise, *size, *flags)
        assert ran.code == 0, ran.err
    drawn, kept = (pixels(folder / each) for each in ("drawn.png", "kept.png"))
    assert drawn.shape == kept.shape
    assert np.abs(drawn - kept).max() > 5


def test_a_union_controlnet_acts(tileup: Command, folder: Path) -> None:
    flags = saved(folder, {"network": whole.sdxl()}, "sdxl.safetensors")
    whole.save(folder / "promax.safetensors", sdxl_union()[1])
    size = ("--window", "64", "--overlap", "16", "--steps", "2", "-d", "cpu", "--denoise", "0.6")
    for name, scale in (("with.png", "1"), ("without.png", "0")):
        control = ("--control", "promax.safetensors", "--control-scale", scale)
        ran = tileup("upscale", "in.png", "-o", name, *size, *control, *flags)
        assert ran.code == 0, ran.err
    assert np.abs(pixels(folder / "with.png") - pixels(folder / "without.png")).max() > 2


def test_a_controlnet_of_flux_acts(tileup: Command, folder: Path) -> None:
    flags = saved(folder, whole.flux_parts(), "flux.safetensors")
    whole.save(folder / "upscaler.safetensors", published(flux_control(features=64, pooled=64)))
    size = ("--window", "64", "--overlap", "16", "--steps", "2", "-d", "cpu", "--denoise", "0.6")
    for name, scale in (("with.png", "1"), ("without.png", "0")):
        control = ("--control", "upscaler.safetensors", "--control-scale", scale)
        ran = tileup("upscale", "in.png", "-o", name, *size, *control, *flags)
        assert ran.code == 0, ran.err
    assert np.abs(pixels(folder / "with.png") - pixels(folder / "without.png")).max() > 2


def saved(folder: Path, parts: Parts, network: str) -> list[str]:
    """The flags that name the files of a model."""
    save(folder / "in.png")
    for part, tensors in parts.items():
        name = network if part == "network" else f"{part}.safetensors"
        whole.save(folder / name, tensors)
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
