"""How networks of tests are built."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from tileup.families.family import Building, Built
from tileup.families.transformer import TransformerNetwork
from tileup.families.unet_network import UNetNetwork, load_unet
from tileup.plan.noise_levels import training_levels
from tileup.torchvision_shield import shield_torchvision


def how(name: str = "small", **options: Any) -> Building:  # noqa: ANN401
    """In float32 on the CPU, unless something else is said."""
    usual = {"levels": training_levels(), "dtype": torch.float32, "device": "cpu"}
    return Building(name, **(usual | options))


def transformer_of(built: Built) -> TransformerNetwork:
    """A transformer that satisfies `Network`."""
    assert isinstance(built.network, TransformerNetwork)
    return built.network


def built_unet(tensors: Mapping[str, Tensor], sizes: int = 6, **options: Any) -> UNetNetwork:  # noqa: ANN401
    """A UNet that satisfies `Network`."""
    network = load_unet(tensors, how(**options), sizes).network
    assert isinstance(network, UNetNetwork)
    return network


def small_vae(channels: int, scale: float = 0.18215, shift: float | None = None) -> Any:  # noqa: ANN401
    """diffusers' `AutoencoderKL` of 8 pixels per cell, for pipelines that only need to have one.

    Args:
        channels: of its latents.
        scale, shift: of them, where a pipeline asks for it.
    """
    shield_torchvision()
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(2, 2, 2, 2),
        norm_num_groups=1,
        latent_channels=channels,
        scaling_factor=scale,
        shift_factor=shift,
    )


def of_latents(pipe: Any, channels: int) -> Any:  # noqa: ANN401
    """A quiet img2img pipeline of diffusers that takes latents for its picture, as FLUX's does."""
    from diffusers.image_processor import VaeImageProcessor

    pipe.set_progress_bar_config(disable=True)
    pipe.image_processor = VaeImageProcessor(vae_scale_factor=16, vae_latent_channels=channels)
    return pipe


def shown(pipe: Any, raw: Tensor) -> Any:  # noqa: ANN401
    """A quiet pipeline of diffusers whose VAE makes these latents of whatever picture it is given.

    Args:
        pipe: with a VAE.
        raw: as an encoder gives them, neither shifted nor scaled.
    """
    pipe.set_progress_bar_config(disable=True)
    found = SimpleNamespace(sample=lambda generator=None: raw)
    pipe.vae.encode = lambda picture: SimpleNamespace(latent_dist=found)
    return pipe
