"""Small checkpoints of whole models in the original single-file layouts, with random weights."""

from __future__ import annotations

import functools
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from tests.checkpoints.layouts.causal_vae import causal_vae
from tests.checkpoints.layouts.flux import chroma_transformer, flux_transformer
from tests.checkpoints.layouts.flux2 import flux2_transformer
from tests.checkpoints.layouts.llm import language_model
from tests.checkpoints.layouts.lumina2 import lumina2_transformer
from tests.checkpoints.layouts.qwen_image import qwen_image_transformer
from tests.checkpoints.layouts.sd3 import sd3_shapes
from tests.checkpoints.layouts.text import clip_l, open_clip, prefixed, t5
from tests.checkpoints.layouts.unet import (
    PREFIX,
    sd1_unet,
    sd2_unet,
    sdxl_refiner_unet,
    sdxl_unet,
)
from tests.checkpoints.layouts.vae import vae_state_dict
from tests.checkpoints.layouts.weights import random_weights
from tests.checkpoints.layouts.z_image import z_image_transformer

Parts = Mapping[str, Mapping[str, Tensor]]
INNER = 64
"""Width within the perceptrons of text encoders whose features are as wide as those of others."""


def small_vae(channels: int = 4, *, quant: bool = True, seed: int = 0) -> dict[str, Tensor]:
    """A VAE of all levels, narrower than any in use."""
    return vae_state_dict(32, channels, quant, seed, multipliers=(1, 1, 2, 2))


def sd1(seed: int = 0) -> dict[str, Tensor]:
    """SD 1.5 with all parts: the context is 768 wide, everything else is small."""
    return {
        **prefixed(PREFIX, sd1_unet(32, seed)),
        **prefixed("first_stage_model.", small_vae(seed=seed)),
        **prefixed("cond_stage_model.transformer.", clip_l(768, layers=1, inner=INNER)),
    }


def sd2(seed: int = 0, *, v: bool = True) -> dict[str, Tensor]:
    return {
        **prefixed(PREFIX, sd2_unet(64, seed, v=v)),
        **prefixed("first_stage_model.", small_vae(seed=seed)),
        **prefixed("cond_stage_model.model.", open_clip(1024, layers=2, inner=INNER)),
    }


def sdxl(seed: int = 0) -> dict[str, Tensor]:
    return {
        **prefixed(PREFIX, sdxl_unet(32, seed)),
        **prefixed("first_stage_model.", small_vae(seed=seed)),
        **prefixed("conditioner.embedders.0.transformer.", clip_l(768, layers=2, inner=INNER)),
        **prefixed("conditioner.embedders.1.model.", open_clip(1280, layers=2, inner=INNER)),
    }


def sdxl_refiner(seed: int = 0) -> dict[str, Tensor]:
    return {
        **prefixed(PREFIX, sdxl_refiner_unet(32, seed)),
        **prefixed("first_stage_model.", small_vae(seed=seed)),
        **prefixed("conditioner.embedders.0.model.", open_clip(1280, layers=2, inner=INNER)),
    }


def save(path: Path, tensors: Mapping[str, Tensor], dtype: torch.dtype = torch.float32) -> Path:
    """Write a checkpoint; the tensors may share memory."""
    stored: dict[str, Tensor] = {}
    there: set[int] = set()
    for name, tensor in tensors.items():
        cast = tensor.to(dtype) if tensor.is_floating_point() else tensor
        place = cast.untyped_storage().data_ptr()
        stored[name] = cast.clone() if place in there else cast.contiguous()
        there.add(place)
    save_file(stored, path)
    return path


def sd3_parts(seed: int = 0) -> dict[str, dict[str, Tensor]]:
    """SD 3 as its parts are published one by one: the transformer alone, and the others."""
    shapes = sd3_shapes(2, 128, 16, False, 0, features=128, pooled=128)
    return {
        "network": prefixed(PREFIX, random_weights(shapes, seed, torch.float32)),
        "vae": small_vae(16, quant=False, seed=seed),
        "clip_l": clip_l(64, layers=2, projection=64),
        "clip_g": clip_l(64, layers=2, projection=64, seed=3),
        "t5": t5(128),
    }


def chroma_parts(seed: int = 0) -> dict[str, dict[str, Tensor]]:
    """Chroma likewise, which takes no CLIP."""
    return {
        "network": chroma_transformer(features=64, seed=seed),
        "vae": small_vae(16, quant=False, seed=seed),
        "t5": t5(64),
    }


def z_image_parts(seed: int = 0) -> dict[str, dict[str, Tensor]]:
    """Z-Image likewise, which takes a language model."""
    return {
        "network": z_image_transformer(features=64, seed=seed),
        "vae": small_vae(16, quant=False, seed=seed),
        "text_encoder": language_model(),
    }


def lumina2_parts(seed: int = 0) -> dict[str, dict[str, Tensor]]:
    """Lumina 2 likewise."""
    return {
        "network": prefixed(PREFIX, lumina2_transformer(features=64, seed=seed)),
        "vae": small_vae(16, quant=False, seed=seed),
        "text_encoder": language_model(normed=False, sandwiched=True),
    }


def qwen_image_parts(seed: int = 0) -> dict[str, dict[str, Tensor]]:
    """Qwen-Image likewise, with a VAE of its own."""
    return {
        "network": qwen_image_transformer(features=64, seed=seed),
        "vae": causal_vae(seed=seed),
        "text_encoder": language_model(normed=False, biased=True),
    }


def flux2_parts(seed: int = 0, *, guidance: bool = False) -> dict[str, dict[str, Tensor]]:
    """FLUX.2 likewise, whose text is three layers of a deep language model; dev has a guidance."""
    vae = small_vae(32, seed=seed)
    names = {"quant_conv": "encoder.quant_conv", "post_quant_conv": "decoder.post_quant_conv"}
    inner = {
        names.get(name.partition(".")[0], name.partition(".")[0]) + "." + name.partition(".")[2]: e
        for name, e in vae.items()
    }
    generator = torch.Generator().manual_seed(seed)
    inner["bn.running_mean"] = 0.1 * torch.randn(128, generator=generator)
    inner["bn.running_var"] = 1 + torch.rand(128, generator=generator)
    inner["bn.num_batches_tracked"] = torch.tensor(7)
    return {
        "network": flux2_transformer(guidance=guidance, features=192, seed=seed),
        "vae": inner,
        "text_encoder": language_model(layers=30, normed=not guidance),
    }


def flux_parts(seed: int = 0, *, guidance: bool = True) -> dict[str, dict[str, Tensor]]:
    """FLUX likewise: its authors' file holds the transformer alone."""
    return {
        "network": flux_transformer(guidance=guidance, features=64, pooled=64, seed=seed),
        "vae": small_vae(16, quant=False, seed=seed),
        "clip_l": clip_l(64, layers=2),
        "t5": t5(64),
    }


def _alone(make: Callable[[], dict[str, Tensor]]) -> Callable[[], Parts]:
    """A file that holds everything."""
    return lambda: {"network": make()}


MODELS: Mapping[str, Callable[[], Parts]] = {
    "sd1": _alone(sd1),
    "sd2": _alone(sd2),
    "sdxl": _alone(sdxl),
    "sdxl-refiner": _alone(sdxl_refiner),
    "sd3": sd3_parts,
    "chroma": chroma_parts,
    "flux": flux_parts,
    "flux-schnell": functools.partial(flux_parts, guidance=False),
    "z-image": z_image_parts,
    "lumina2": lumina2_parts,
    "qwen-image": qwen_image_parts,
    "flux2": flux2_parts,
    "flux2-dev": functools.partial(flux2_parts, guidance=True),
}
"""By name, the network and what lies in files of its own."""


class Shelf:
    """The files of `MODELS`, written once for all tests: to draw and to write a large one takes
    longer than what most tests do with it. Nobody changes them."""

    def __init__(self, folder: Path) -> None:
        """Args:
        folder: of the whole run; other processes may fill it too, with the same files.
        """
        self.folder = folder

    def parts(self, name: str, dtype: torch.dtype = torch.float32) -> dict[str, Path]:
        """The files of a model by part; the network's is called as the model."""
        kept = self.folder / f"{name}-{str(dtype).removeprefix('torch.')}"
        if not kept.is_dir():
            self._write(kept, name, dtype)
        files = {each.name.partition(".")[0]: each for each in kept.iterdir()}
        for each in files.values():
            assert each.stat().st_mtime == 0, f"a test has changed {each}"
        return {"network" if part == name else part: path for part, path in files.items()}

    def path(self, name: str, dtype: torch.dtype = torch.float32) -> Path:
        """The file of a network, or of a whole model."""
        return self.parts(name, dtype)["network"]

    @staticmethod
    def _write(kept: Path, name: str, dtype: torch.dtype) -> None:
        begun = kept.with_name(f"{kept.name}.{os.getpid()}")
        begun.mkdir(parents=True)
        for part, tensors in MODELS[name]().items():
            own = name if part == "network" else part
            os.utime(save(begun / f"{own}.safetensors", tensors, dtype), (0, 0))
        try:
            begun.rename(kept)
        except OSError:  # another process was there first
            assert kept.is_dir()
            shutil.rmtree(begun)
