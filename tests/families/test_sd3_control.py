"""ControlNets of SD 3 against separate implementations and diffusers' pipeline."""

from __future__ import annotations

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
from tests.checkpoints.layouts.sd3 import (
    CHANNELS,
    FEATURES,
    POOLED,
    published,
    sd3_control,
    sd3_transformer,
    sd35_control,
    sd35_control_shapes,
)
from tests.families.building import how, shown, small_vae, transformer_of
from tileup.contracts import Box
from tileup.errors import ModelError
from tileup.families.family import ControlFile
from tileup.families.sd3 import build_sd3
from tileup.families.sd3_control import sd3_control_config, textless_config, textless_rules
from tileup.families.transformer import TransformerNetwork
from tileup.tensors.renaming import converted
from tileup.torchvision_shield import shield_torchvision

NETWORK = sd3_transformer(4)
SCENE = scene_of_latents(latents(1, CHANNELS, 8, 12, seed=7))
BOXES = [Box(0, 0, 8, 8), Box(0, 4, 8, 12)]


def load(control: dict[str, Tensor], scale: float = 1.0) -> TransformerNetwork:
    return transformer_of(build_sd3(NETWORK, how(control=ControlFile("tile", control, scale))))


def test_each_window_is_shown_its_part_of_the_picture() -> None:
    """Its latents without the shift, as its authors have them."""
    control, text = sd3_control(), text_of(2, FEATURES, POOLED)
    x, sigma = latents(2, CHANNELS, 8, 8), torch.tensor([0.5, 4.0])
    time = sigma / (1 + sigma)
    raw = torch.cat([SCENE.source[..., *box.index] for box in BOXES]) / 1.5305 + 0.0609
    added = originals.sd3_control(control, x, time, text.tokens, 1.5305 * raw)
    scaled = [0.7 * each for each in added]
    wanted = originals.sd3(NETWORK, x, time, text.tokens, pooled_of(text), scaled)
    network = load(published(control), 0.7)
    found = network(x, sigma, BOXES, text, SCENE)
    assert relative(found, wanted) < 1e-4
    plain = replace(network, control=None)(x, sigma, BOXES, text, SCENE)
    assert relative(plain, wanted) > 0.1
    split = network(x, sigma, BOXES, text, replace(SCENE, control_until=1.0))
    assert relative(split[:1], plain[:1]) < 1e-5
    assert relative(split[1:], wanted[1:]) < 1e-4


@pytest.mark.parametrize("names", ["authors'", "diffusers'"])
def test_those_of_sd35_large_read_no_text(names: str) -> None:
    """They go behind the last block too, and embed latents as the transformer does."""
    control, text = sd35_control(), text_of(2, FEATURES, POOLED)
    file = control | {"control_type": torch.tensor(0)}
    if names == "diffusers'":
        file, _ = converted(control, textless_rules(control), "blur")
    x, sigma = latents(2, CHANNELS, 8, 8), torch.tensor([0.5, 4.0])
    time, pooled = sigma / (1 + sigma), pooled_of(text)
    hint = torch.cat([SCENE.source[..., *box.index] for box in BOXES])
    added = originals.sd35_control(control, NETWORK, x, time, pooled, hint)
    scaled = [0.7 * each for each in added]
    told = (x, time, text.tokens, pooled, scaled)
    wanted = originals.sd3(NETWORK, *told, last=True)
    assert relative(originals.sd3(NETWORK, *told), wanted) > 0.01
    network = load(file, 0.7)
    found = network(x, sigma, BOXES, text, SCENE)
    assert relative(found, wanted) < 1e-4
    plain = replace(network, control=None)(x, sigma, BOXES, text, SCENE)
    assert relative(plain, originals.sd3(NETWORK, x, time, text.tokens, pooled)) < 1e-5
    split = network(x, sigma, BOXES, text, replace(SCENE, control_until=1.0))
    assert relative(split[:1], plain[:1]) < 1e-5
    assert relative(split[1:], wanted[1:]) < 1e-4


@pytest.mark.parametrize("cfg", [1.0, 4.0])
@pytest.mark.parametrize("kind", ["tile", "blur of SD 3.5 large"])
def test_a_run_equals_diffusers_pipeline(kind: str, cfg: float) -> None:
    """But behind the last block, where diffusers adds nothing: there it adds zeros here."""
    shield_torchvision()
    from diffusers import FlowMatchEulerDiscreteScheduler, StableDiffusion3ControlNetPipeline

    control = published(sd3_control()) if kind == "tile" else sd35_control(4)
    if kind != "tile":
        control |= {f"controlnet_blocks.3.{each}": torch.zeros(128) for each in ("bias",)}
        control["controlnet_blocks.3.weight"] = torch.zeros(128, 128)
    network, text = load(control, 0.7), text_of(2, FEATURES, POOLED)
    assert network.control is not None
    nothing = dict.fromkeys(
        ["text_encoder", "text_encoder_2", "text_encoder_3", "tokenizer", "tokenizer_2"]
    )
    pipe = StableDiffusion3ControlNetPipeline(
        network.module,  # type: ignore[arg-type]
        FlowMatchEulerDiscreteScheduler(),
        small_vae(CHANNELS, 1.5305, 0.0609),
        tokenizer_3=None,  # type: ignore[arg-type]
        controlnet=network.control.module,  # type: ignore[attr-defined]
        **nothing,  # type: ignore[arg-type]
    )
    times, noise = [0.7, 0.5, 0.2], latents(*SCENE.source.shape, seed=5)
    expected = shown(pipe, SCENE.source / 1.5305 + 0.0609)(
        height=64,
        width=96,
        sigmas=times,
        num_inference_steps=3,
        guidance_scale=cfg,
        control_image=torch.zeros(1, 3, 64, 96),
        controlnet_conditioning_scale=0.7,
        latents=(1 - times[0]) * SCENE.source + times[0] * noise,
        prompt_embeds=text.tokens[:1],
        pooled_prompt_embeds=pooled_of(text)[:1],
        negative_prompt_embeds=text.tokens[1:],
        negative_pooled_prompt_embeds=pooled_of(text)[1:],
        output_type="latent",
    ).images
    steps = torch.tensor([*times, 0.0])
    found = euler(guided(load(control, 0.7), SCENE, text, cfg), noise, steps)
    assert relative(found, expected) < 1e-4
    plain = euler(guided(replace(network, control=None), SCENE, text, cfg), noise, steps)
    assert relative(plain, expected) > 0.1


def test_sd35_large_at_full_size_fits_diffusers_network() -> None:
    """Settings as diffusers' conversion has them."""
    shield_torchvision()
    from diffusers import SD3ControlNetModel

    shapes = dict(sd35_control_shapes(19, 2432, 2048))
    tensors = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    state, _ = converted(tensors, textless_rules(tensors), "blur")
    config = textless_config(state, "blur")
    with torch.device("meta"):
        network = SD3ControlNetModel(
            num_layers=19,
            num_attention_heads=38,
            joint_attention_dim=None,  # type: ignore[arg-type]
            caption_projection_dim=2048,
            pos_embed_max_size=None,  # type: ignore[arg-type]
            pos_embed_type=None,
            use_pos_embed=False,
            force_zeros_for_pooled_projection=False,
        )
    assert config == {name: network.config[name] for name in config}
    expected = {name: each.shape for name, each in network.state_dict().items()}
    assert {name: each.shape for name, each in state.items()} == expected


def test_full_size_fits_diffusers_network() -> None:
    """Twelve blocks, as SD3-Controlnet-Tile has."""
    shield_torchvision()
    from diffusers import SD3ControlNetModel

    with torch.device("meta"):
        network = SD3ControlNetModel(
            sample_size=128,
            num_layers=12,
            num_attention_heads=24,
            caption_projection_dim=1536,
            pos_embed_max_size=192,
        )
    config = sd3_control_config(network.state_dict(), "control")
    # The table of positions is stored, whatever the size of a sample.
    assert config == {name: network.config[name] for name in config} | {"sample_size": 384}


def test_what_does_not_fit_is_named() -> None:
    control = published(sd3_control())
    with pytest.raises(ModelError, match="num_attention_heads is 3, and the model's 2"):
        load(published(sd3_control(width=192)))
    with pytest.raises(ModelError, match="is not a ControlNet of SD 3"):
        load({n: e for n, e in control.items() if not n.startswith("pos_embed_input.")})
    with pytest.raises(ModelError, match="reads no text but embeds latents"):
        load({n: e for n, e in control.items() if not n.startswith("context_embedder.")})
    with pytest.raises(ModelError, match="num_attention_heads is 3, and the model's 2"):
        load(sd35_control(width=192))
    for kind, words in ((1, "edges"), (2, "depth")):
        with pytest.raises(ModelError, match=f"is shown {words}.*such as blur"):
            load(sd35_control() | {"control_type": torch.tensor(kind)})
    masked = control | {"pos_embed_input.proj.weight": torch.zeros(128, 17, 2, 2)}
    with pytest.raises(ModelError, match="reads a mask besides"):
        load(masked)
