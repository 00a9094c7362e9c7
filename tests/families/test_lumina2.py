"""Lumina 2 against diffusers' pipeline and converter, and against the network written down anew."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.checkpoints import originals
from tests.checkpoints.flow import euler, guided, latents, relative, scene_of_latents, text_of
from tests.checkpoints.headers import save_head
from tests.checkpoints.layouts.llm import language_model
from tests.checkpoints.layouts.lumina2 import CHANNELS, lumina2_shapes, lumina2_transformer
from tests.checkpoints.layouts.weights import random_weights
from tests.checkpoints.originals_lumina2 import lumina2
from tests.families.building import how, small_vae, transformer_of
from tests.text import references
from tileup.checkpoints.find import identify
from tileup.contracts import Box
from tileup.errors import UnknownCheckpointError
from tileup.families.lumina2 import (
    BEFORE,
    LUMINA2,
    PLACES,
    UNUSED,
    build_lumina2,
    layer_rules,
    lumina2_config,
    lumina2_rules,
)
from tileup.families.transformer import TransformerNetwork
from tileup.plan.noise_levels import FlowLevels
from tileup.tensors.renaming import converted, targets
from tileup.text.encoder import load_text
from tileup.torchvision_shield import shield_torchvision

FEATURES = 48
SCENE = scene_of_latents(latents(1, CHANNELS, 8, 12, seed=7))


def load(tensors: Mapping[str, Tensor]) -> TransformerNetwork:
    return transformer_of(build_lumina2(tensors, how()))


def used(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: each for name, each in tensors.items() if name != UNUSED}


def test_the_velocity_equals_that_of_a_separate_implementation() -> None:
    tensors = {name: each.requires_grad_() for name, each in lumina2_transformer().items()}
    x, sigma, text = latents(2, CHANNELS, 6, 10), torch.tensor([0.1, 4.0]), text_of(2, FEATURES)
    expected = lumina2(used(tensors), x, sigma / (1 + sigma), text.tokens)
    found = load({name: each.detach() for name, each in tensors.items()})(
        x, sigma, [Box(0, 0, 6, 10)] * 2, text, SCENE
    )
    assert relative(found, expected.detach()) < 1e-4
    assert originals.idle(expected, used(tensors)) == set()


def test_full_size_has_the_published_names_and_settings() -> None:
    """Those of diffusers' converter and defaults, which has its widths built in."""
    shield_torchvision()
    from diffusers import Lumina2Transformer2DModel
    from diffusers.loaders import single_file_utils

    shapes = dict(lumina2_shapes(26, 2, 2304, 768, 2304))
    meta = {n: torch.empty(s, device="meta") for n, s in shapes.items() if n != UNUSED}
    state, _ = converted(meta, lumina2_rules(meta), "lumina2")
    with torch.device("meta"):
        network = Lumina2Transformer2DModel(cap_feat_dim=2304)
    config = lumina2_config(state, "lumina2")
    rounded = {"multiple_of": 9216, "ffn_dim_multiplier": 1.0}
    assert config == {name: network.config[name] for name in config} | rounded
    expected = {name: each.shape for name, each in network.state_dict().items()}
    assert {name: each.shape for name, each in state.items()} == expected
    thin = [(n, (s[0], 1) if len(s) == 2 else s) for n, s in shapes.items()]
    tensors = random_weights(thin, seed=0)
    # Both are told the widths by the rows of these, which here have one column.
    found, _ = converted(used(tensors), lumina2_rules(tensors), "lumina2")
    theirs = single_file_utils.convert_lumina2_to_diffusers(dict(tensors))
    assert found.keys() == theirs.keys()
    assert all(torch.equal(found[name], each) for name, each in theirs.items())
    layers = {n.removesuffix(".weight") for n, each in state.items() if each.ndim == 2}
    placed = dict(targets(layer_rules(layers), layers))
    assert {each for target in placed.values() for each in target.modules} == layers


@pytest.mark.parametrize("cfg", [1.0, 4.0])
def test_a_run_equals_diffusers_pipeline(cfg: float) -> None:
    """From a noisy picture down: the pipeline begins with no picture, but takes latents."""
    shield_torchvision()
    from diffusers import FlowMatchEulerDiscreteScheduler, Lumina2Pipeline

    network, text = load(lumina2_transformer()), text_of(2, FEATURES)
    pipe = Lumina2Pipeline(
        network.module,  # type: ignore[arg-type]
        FlowMatchEulerDiscreteScheduler(),
        small_vae(CHANNELS, 0.3611, 0.1159),
        text_encoder=None,  # type: ignore[arg-type]
        tokenizer=None,  # type: ignore[arg-type]
    )
    pipe.set_progress_bar_config(disable=True)
    times, noise = [0.7, 0.5, 0.2], latents(*SCENE.source.shape, seed=5)
    # Of the rows only the first five tokens are told to be there.
    padded = torch.nn.functional.pad(text.tokens, (0, 0, 0, 3), value=9.0)
    mask = torch.tensor([[1] * 5 + [0] * 3])
    expected = pipe(
        height=64,
        width=96,
        sigmas=times,
        num_inference_steps=3,
        guidance_scale=cfg,
        cfg_normalization=False,
        latents=(1 - times[0]) * SCENE.source + times[0] * noise,
        prompt_embeds=padded[:1],
        prompt_attention_mask=mask,
        negative_prompt_embeds=padded[1:],
        negative_prompt_attention_mask=mask,
        output_type="latent",
    ).images
    found = euler(guided(network, SCENE, text, cfg), noise, torch.tensor([*times, 0.0]))
    assert relative(found, expected) < 1e-4
    assert relative(expected, SCENE.source) > 0.5


def test_the_prompt_is_read_as_by_diffusers_pipeline(tmp_path: Path) -> None:
    shield_torchvision()
    from diffusers import Lumina2Pipeline

    weights = language_model(head=32, normed=False, sandwiched=True)
    folder = references.save_qwen_tokenizer(tmp_path / "tokens")
    sizes = {"num_hidden_layers": 3, "num_attention_heads": 2, "num_key_value_heads": 1}
    model = references.language_model(weights, "Gemma2", head_dim=32, **sizes).model
    tokenizer = references.qwen_tokenizer(folder)
    tokenizer.pad_token, tokenizer.padding_side = "<pad>", "right"
    pipe = Lumina2Pipeline(
        None,  # type: ignore[arg-type]
        references.scheduler(flow=True),
        None,  # type: ignore[arg-type]
        model,
        tokenizer,
    )
    assert f"<bos>{pipe.system_prompt} <Prompt Start> " == BEFORE
    pipe.system_prompt = f"<bos>{pipe.system_prompt}"  # which Gemma's tokenizer adds by itself
    parts = {"llm": lambda: {n.removeprefix("model."): each for n, each in weights.items()}}
    encoder = load_text(LUMINA2.text, parts, tokenizer=folder)
    for text in ("A photo of a cat, sharp", ""):
        with torch.no_grad():
            rows, mask, *_ = pipe.encode_prompt(text, False, device="cpu")  # type: ignore[arg-type]
        expected = rows[:, : int(mask.sum())]
        found = encoder.encode(text)[0].tokens
        assert found.shape == expected.shape
        assert (found - expected).abs().max() < 1e-5 * expected.abs().max()
        assert expected.std() > 0.1


def test_the_file_and_its_relatives_are_told(tmp_path: Path) -> None:
    shapes = dict(lumina2_shapes(1, 1, 192, 96, 2304))
    spec = identify(save_head(tmp_path / "m.safetensors", shapes))
    assert (spec.family, spec.prediction, spec.channels, spec.window) == (
        *("lumina2", "flow", 16, 1024),
    )
    assert (spec.multiple, spec.levels) == (16, FlowLevels(6.0))
    meta = {n: torch.empty(s, device="meta") for n, s in shapes.items() if n != UNUSED}
    theirs, _ = converted(meta, lumina2_rules(meta), "lumina2")
    named = {name: tuple(each.shape) for name, each in theirs.items()}
    assert identify(save_head(tmp_path / "d.safetensors", named)).family == "lumina2"
    for extra, words in (
        ({"clip_text_pooled_proj.0.weight": (1024,)}, "with CLIP"),
        ({"x_embedder.weight": (192, 68)}, "68 features"),
    ):
        with pytest.raises(UnknownCheckpointError, match=words):
            identify(save_head(tmp_path / "o.safetensors", shapes | extra))


def test_windows_have_positions_for_8192_pixels() -> None:
    assert min(PLACES[1:]) * 16 == 8192
