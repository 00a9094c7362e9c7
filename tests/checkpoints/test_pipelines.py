"""Whole runs against diffusers' own img2img pipelines: the same weights, noise, noise levels."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor

from tests.checkpoints.layouts.unet import (
    PREFIX,
    Shape,
    sd1,
    sd2,
    sdxl,
    sdxl_refiner,
    tensors,
    the_unet,
)
from tests.families.building import built_unet
from tileup.contracts import Box, Encoded, Scene
from tileup.families.unet_network import UNetNetwork
from tileup.sampling.guided import GuidedDenoiser
from tileup.sampling.kdiffusion import sample_function
from tileup.tiling.profiles import WindowWeights
from tileup.tiling.tiled import TiledDenoiser
from tileup.torchvision_shield import shield_torchvision

shield_torchvision()

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline, EulerDiscreteScheduler
    from torch.nn import Module

HEIGHT, WIDTH = 16, 24
STEPS, STRENGTH, SEED = 8, 0.6, 11


@dataclass(frozen=True)
class Case:
    shape: Shape
    prediction: str
    pipeline: Callable[[Module, EulerDiscreteScheduler], DiffusionPipeline]


def scheduler(prediction: str) -> EulerDiscreteScheduler:
    from diffusers import EulerDiscreteScheduler

    return EulerDiscreteScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        timestep_spacing="leading",
        steps_offset=1,
        prediction_type="v_prediction" if prediction == "v" else "epsilon",
    )


def plain(unet: Module, schedule: EulerDiscreteScheduler) -> DiffusionPipeline:
    from diffusers import StableDiffusionImg2ImgPipeline

    unet.register_to_config(sample_size=64)  # the pipeline asks, the network does not
    return StableDiffusionImg2ImgPipeline(
        vae=None,
        text_encoder=None,
        tokenizer=None,
        unet=unet,
        scheduler=schedule,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def extra_large(
    unet: Module, schedule: EulerDiscreteScheduler, *, refiner: bool = False
) -> DiffusionPipeline:
    from diffusers import AutoencoderKL, StableDiffusionXLImg2ImgPipeline

    return StableDiffusionXLImg2ImgPipeline(
        # Only its config is looked at: the latents are given.
        vae=AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            block_out_channels=(32,) * 4,
        ),
        text_encoder=None,
        text_encoder_2=None,
        tokenizer=None,
        tokenizer_2=None,
        unet=unet,
        scheduler=schedule,
        requires_aesthetics_score=refiner,
        add_watermarker=False,
    )


def refining(unet: Module, schedule: EulerDiscreteScheduler) -> DiffusionPipeline:
    return extra_large(unet, schedule, refiner=True)


CASES = {
    "sd1": Case(sd1(), "eps", plain),
    "sd2 v": Case(sd2(), "v", plain),
    "sdxl": Case(sdxl(), "eps", extra_large),
    "sdxl refiner": Case(sdxl_refiner(), "eps", refining),
}


def encoded(shape: Shape, seed: int) -> Encoded:
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randn(1, 77, shape.context, generator=generator)
    return Encoded(tokens, torch.randn(1, 1280, generator=generator) if shape.adm else None)


def theirs(case: Case, module: Module, source: Tensor, cfg: float) -> tuple[Tensor, Tensor]:
    """Latents at the end of diffusers' run, and its noise levels."""
    pipeline = case.pipeline(module, scheduler(case.prediction))
    pipeline.set_progress_bar_config(disable=True)
    text, negative = encoded(case.shape, 1), encoded(case.shape, 2)
    pooled = {"pooled_prompt_embeds": text.pooled, "negative_pooled_prompt_embeds": negative.pooled}
    latents = pipeline(
        image=source,
        strength=STRENGTH,
        num_inference_steps=STEPS,
        guidance_scale=cfg,
        prompt_embeds=text.tokens,
        negative_prompt_embeds=negative.tokens,
        generator=torch.Generator().manual_seed(SEED),
        output_type="latent",
        **(pooled if case.shape.adm else {}),
    ).images
    first = STEPS - int(STEPS * STRENGTH)
    return latents, pipeline.scheduler.sigmas[first:]


def ours(case: Case, network: UNetNetwork, source: Tensor, cfg: float, sigmas: Tensor) -> Tensor:
    """The same run through the parts of tileup."""
    scene = Scene(source, torch.zeros(1, 3, 8 * HEIGHT, 8 * WIDTH), (8 * HEIGHT, 8 * WIDTH))
    text, negative = encoded(case.shape, 1), encoded(case.shape, 2)
    tiled = TiledDenoiser(
        GuidedDenoiser(network, case.prediction, scene, text, negative, cfg),
        [[Box(0, 0, HEIGHT, WIDTH)]],
        WindowWeights("feather", 0, torch.empty(0, dtype=torch.float64)),
        height=HEIGHT,
        width=WIDTH,
    )
    noise = torch.randn(source.shape, generator=torch.Generator().manual_seed(SEED))
    return sample_function("euler")(tiled, source + sigmas[0] * noise, sigmas, disable=True)


@functools.cache
def network_of(name: str) -> UNetNetwork:
    """Of a case; nobody changes its weights."""
    return built_unet(tensors(the_unet(CASES[name].shape)))


@pytest.mark.parametrize("cfg", [pytest.param(1.0, marks=pytest.mark.slow), 5.0])
@pytest.mark.parametrize("name", CASES)
def test_one_window_under_euler_is_diffusers_img2img(name: str, cfg: float) -> None:
    case = CASES[name]
    network = network_of(name)
    source = torch.randn(1, 4, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(3))
    wanted, sigmas = theirs(case, network.module, source, cfg)
    assert len(sigmas) == int(STEPS * STRENGTH) + 1
    found = ours(case, network, source, cfg, sigmas)
    assert (wanted - source).norm() / source.norm() > 0.1
    error = float((found - wanted).abs().max() / wanted.abs().max())
    assert error < 1e-4, error


def test_diffusers_own_reading_of_the_file_gives_the_same_weights() -> None:
    """`convert_ldm_unet_checkpoint` on the tensors themselves, as `from_single_file` calls it."""
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

    weights = tensors(the_unet(sdxl()))
    network = built_unet(weights)
    converted = convert_ldm_unet_checkpoint(
        {f"{PREFIX}{name}": tensor for name, tensor in weights.items()},
        {"layers_per_block": 2, "addition_embed_type": "text_time"},
    )
    own = network.module.state_dict()
    assert sorted(converted) == sorted(own)
    assert all(torch.equal(own[name], tensor) for name, tensor in converted.items())
