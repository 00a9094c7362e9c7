"""Small checkpoints of whole models in the original single-file layouts, with random weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from tests.checkpoints.layouts.text import clip_l, open_clip, prefixed
from tests.checkpoints.layouts.unet import (
    PREFIX,
    sd1_unet,
    sd2_unet,
    sdxl_refiner_unet,
    sdxl_unet,
)
from tests.checkpoints.layouts.vae import vae_state_dict


def sd1(seed: int = 0) -> dict[str, Tensor]:
    """SD 1.5 with all parts: the context is 768 wide, everything else is small."""
    return {
        **prefixed(PREFIX, sd1_unet(32, seed)),
        **prefixed("first_stage_model.", vae_state_dict(32, seed=seed)),
        **prefixed("cond_stage_model.transformer.", clip_l(768, layers=1)),
    }


def sd2(seed: int = 0, *, v: bool = True) -> dict[str, Tensor]:
    return {
        **prefixed(PREFIX, sd2_unet(64, seed, v=v)),
        **prefixed("first_stage_model.", vae_state_dict(32, seed=seed)),
        **prefixed("cond_stage_model.model.", open_clip(1024, layers=2)),
    }


def sdxl(seed: int = 0) -> dict[str, Tensor]:
    return {
        **prefixed(PREFIX, sdxl_unet(32, seed)),
        **prefixed("first_stage_model.", vae_state_dict(32, seed=seed)),
        **prefixed("conditioner.embedders.0.transformer.", clip_l(768, layers=2)),
        **prefixed("conditioner.embedders.1.model.", open_clip(1280, layers=2)),
    }


def sdxl_refiner(seed: int = 0) -> dict[str, Tensor]:
    return {
        **prefixed(PREFIX, sdxl_refiner_unet(32, seed)),
        **prefixed("first_stage_model.", vae_state_dict(32, seed=seed)),
        **prefixed("conditioner.embedders.0.model.", open_clip(1280, layers=2)),
    }


def save(path: Path, tensors: Mapping[str, Tensor], dtype: torch.dtype = torch.float32) -> Path:
    """Write a checkpoint; the tensors may share memory."""
    stored = {
        name: tensor.to(dtype, copy=True).contiguous() if tensor.is_floating_point() else tensor
        for name, tensor in tensors.items()
    }
    save_file(stored, path)
    return path
