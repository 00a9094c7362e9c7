"""ControlNets of FLUX.1 against a separate implementation and diffusers' pipeline."""

from __future__ import annotations

import warnings
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.checkpoints import originals
from tests.checkpoints.flow import (
    euler,
    guided,
    latents,
    pooled_of,
    relative,
    scene_of_latents,
    text_of,
)
from tests.checkpoints.layouts.flux import (
    CHANNELS,
    FULL_WIDTH,
    flux_control,
    flux_transformer,
    published,
)
from tests.families.building import how, shown, small_vae, transformer_of
from tileup.contracts import Box
from tileup.errors import ModelError
from tileup.families.family import ControlFile
from tileup.families.flux import build_flux
from tileup.families.flux_control import flux_control_config
from tileup.families.transformer import TransformerNetwork, packed, unpacked
from tileup.torchvision_shield import shield_torchvision

NETWORK = flux_transformer(2, 1)
SCENE = scene_of_latents(latents(1, CHANNELS, 8, 12, seed=7))
BOXES = [Box(0, 0, 8, 8), Box(0, 4, 8, 12)]


def load(control: dict[str, Tensor], scale: float = 1.0) -> TransformerNetwork:
    file = ControlFile("upscaler.safetensors", control, scale)
    return transformer_of(build_flux(NETWORK, how(control=file)))


def expected(control: dict[str, Tensor], x: Tensor, time: Tensor, mode: int | None) -> Tensor:
    text = text_of(2, 32, 24)
    hint = torch.cat([SCENE.source[..., *box.index] for box in BOXES])
    told = (x, time, text.tokens, pooled_of(text))
    added = originals.flux_control(control, *told, hint, mode)
    return originals.flux(NETWORK, *told, 3.5, [0.7 * each for each in added])


@pytest.mark.parametrize("modes", [None, 10], ids=["upscaler", "union"])
def test_each_window_is_shown_its_part_of_the_picture(modes: int | None) -> None:
    control = flux_control(modes=modes)
    x, sigma = latents(2, CHANNELS, 8, 8), torch.tensor([0.5, 4.0])
    wanted = expected(control, x, sigma / (1 + sigma), None if modes is None else 1)
    network = load(published(control), 0.7)
    found = network(x, sigma, BOXES, text_of(2, 32, 24), SCENE)
    assert relative(found, wanted) < 1e-4
    plain = replace(network, control=None)(x, sigma, BOXES, text_of(2, 32, 24), SCENE)
    assert relative(plain, wanted) > 0.1
    # Below a noise level it does not act, and above it does.
    until = replace(SCENE, control_until=1.0)
    split = network(x, sigma, BOXES, text_of(2, 32, 24), until)
    assert relative(split[:1], plain[:1]) < 1e-5
    assert relative(split[1:], wanted[1:]) < 1e-4
    never = network(x, sigma, BOXES, text_of(2, 32, 24), replace(SCENE, control_until=9.0))
    assert torch.equal(never, plain)


@pytest.mark.parametrize("modes", [None, 10], ids=["upscaler", "union"])
def test_a_run_equals_diffusers_pipeline(modes: int | None) -> None:
    shield_torchvision()
    from diffusers import FlowMatchEulerDiscreteScheduler, FluxControlNetPipeline

    network, text = load(published(flux_control(modes=modes)), 0.7), text_of(1, 32, 24)
    assert network.control is not None
    nothing = dict.fromkeys(["text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2"])
    pipe = FluxControlNetPipeline(
        FlowMatchEulerDiscreteScheduler(),
        small_vae(CHANNELS, 0.3611, 0.1159),
        transformer=network.module,  # type: ignore[arg-type]
        controlnet=network.control.module,  # type: ignore[attr-defined]
        **nothing,  # type: ignore[arg-type]
    )
    times, noise = [0.7, 0.5, 0.2], latents(*SCENE.source.shape, seed=5)
    start = (1 - times[0]) * SCENE.source + times[0] * noise
    expected = shown(pipe, SCENE.source / 0.3611 + 0.1159)(
        height=64,
        width=96,
        sigmas=times,
        num_inference_steps=3,
        guidance_scale=3.5,
        control_image=torch.zeros(1, 3, 64, 96),
        control_mode=None if modes is None else 1,
        controlnet_conditioning_scale=0.7,
        latents=packed(start),
        prompt_embeds=text.tokens,
        pooled_prompt_embeds=pooled_of(text),
        output_type="latent",
    ).images
    steps = torch.tensor([*times, 0.0])
    found = euler(guided(network, SCENE, text), noise, steps)
    assert relative(found, unpacked(expected, 4, 6)) < 1e-4
    plain = euler(guided(replace(network, control=None), SCENE, text), noise, steps)
    assert relative(plain, found) > 0.1


def test_full_size_fits_diffusers_network() -> None:
    """Five double blocks, as FLUX.1-dev-Controlnet-Upscaler has."""
    shield_torchvision()
    from diffusers import FluxControlNetModel

    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of diffusers' own
        network = FluxControlNetModel(num_layers=5, num_single_layers=0, guidance_embeds=True)
    config = flux_control_config(network.state_dict(), "control")
    assert config == {name: network.config[name] for name in config} | {"num_mode": None}
    assert config["num_attention_heads"] * 128 == FULL_WIDTH


def test_what_does_not_fit_is_named() -> None:
    control = published(flux_control())
    with pytest.raises(ModelError, match="num_attention_heads is 3, and the model's 2"):
        load(published(flux_control(width=384)))
    with pytest.raises(ModelError, match="joint_attention_dim is 48, and the model's 32"):
        load(published(flux_control(features=48)))
    with pytest.raises(ModelError, match="reads latents, as those called upscaler"):
        load({n: e for n, e in control.items() if not n.startswith("controlnet_x_")})
    with pytest.raises(ModelError, match="without tile"):
        load(published(flux_control(modes=1)))
    with pytest.raises(ModelError, match=r"upscaler\.safetensors .*lacks"):
        load({n: e for n, e in control.items() if not n.startswith("controlnet_blocks.1")})
