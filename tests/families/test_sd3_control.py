"""ControlNets of SD 3 against a separate implementation."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.checkpoints import originals
from tests.checkpoints.flow import latents, pooled_of, relative, scene_of_latents, text_of
from tests.checkpoints.layouts.sd3 import (
    CHANNELS,
    FEATURES,
    POOLED,
    published,
    sd3_control,
    sd3_transformer,
)
from tests.families.building import how, transformer_of
from tileup.contracts import Box
from tileup.errors import ModelError
from tileup.families.family import ControlFile
from tileup.families.sd3 import build_sd3
from tileup.families.sd3_control import sd3_control_config
from tileup.families.transformer import TransformerNetwork
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
    with pytest.raises(ModelError, match=r"of SD 3\.5 large that reads no text"):
        load({n: e for n, e in control.items() if not n.startswith("context_embedder.")})
    masked = control | {"pos_embed_input.proj.weight": torch.zeros(128, 17, 2, 2)}
    with pytest.raises(ModelError, match="reads a mask besides"):
        load(masked)
