"""FLUX.2 against diffusers' network, converter and pipelines, and the network written down anew."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.checkpoints import originals
from tests.checkpoints.flow import euler, guided, latents, relative, scene_of_latents, text_of
from tests.checkpoints.headers import save_head
from tests.checkpoints.layouts.flux2 import CHANNELS, flux2_shapes, flux2_transformer
from tests.checkpoints.layouts.llm import language_model
from tests.checkpoints.layouts.weights import random_weights
from tests.checkpoints.originals_flux2 import flux2
from tests.families.building import how, transformer_of
from tests.text import references
from tileup.checkpoints.find import identified, identify
from tileup.contracts import Box
from tileup.errors import UnknownCheckpointError
from tileup.families.family import Family, Prediction
from tileup.families.flux2 import (
    DEV,
    KLEIN,
    SYSTEM,
    build_flux2,
    flux2_config,
    flux2_rules,
    growth,
    layer_rules,
)
from tileup.families.transformer import TransformerNetwork, unpacked
from tileup.plan.noise_levels import WindowFlowLevels
from tileup.tensors.renaming import converted, targets
from tileup.text.encoder import load_text
from tileup.torchvision_shield import shield_torchvision

FEATURES = 48
SCENE = scene_of_latents(latents(1, CHANNELS, 4, 6, seed=7))


def load(tensors: dict[str, Tensor]) -> TransformerNetwork:
    return transformer_of(build_flux2(tensors, how()))


@pytest.mark.parametrize("told", [None, 2.5], ids=["klein", "dev"])
def test_the_velocity_equals_that_of_a_separate_implementation(told: float | None) -> None:
    tensors = {
        n: e.requires_grad_() for n, e in flux2_transformer(2, 2, guidance=bool(told)).items()
    }
    x, sigma, text = latents(2, CHANNELS, 3, 5), torch.tensor([0.1, 4.0]), text_of(2, FEATURES)
    expected = flux2(tensors, x, sigma / (1 + sigma), text.tokens, told)
    scene = scene_of_latents(SCENE.source, told)
    network = load({name: each.detach() for name, each in tensors.items()})
    found = network(x, sigma, [Box(0, 0, 3, 5)] * 2, text, scene)
    assert relative(found, expected.detach()) < 1e-4
    assert originals.idle(expected, tensors) == set()
    if told:
        usual = network(x, sigma, [Box(0, 0, 3, 5)] * 2, text, SCENE)
        own = flux2(tensors, x, sigma / (1 + sigma), text.tokens, 4.0).detach()
        assert relative(usual, own) < 1e-4
        assert relative(usual, found) > 1e-3


def test_names_are_those_of_diffusers_conversion() -> None:
    """All blocks in all their rows, but in one column: converters only move rows."""
    shield_torchvision()
    from diffusers.loaders import single_file_utils

    thin = [
        (name, (shape[0], 1) if len(shape) == 2 else shape)
        for name, shape in flux2_shapes(8, 48, True, 256, 15360)
    ]
    tensors = random_weights(thin, seed=0)
    found, _ = converted(tensors, flux2_rules(tensors), "flux2")
    expected = single_file_utils.convert_flux2_transformer_checkpoint_to_diffusers(dict(tensors))
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], each) for name, each in expected.items())
    layers = {name.removesuffix(".weight") for name, each in found.items() if each.ndim == 2}
    placed = dict(targets(layer_rules(layers), layers))
    assert {each for target in placed.values() for each in target.modules} == layers


PUBLISHED = {
    "dev": (8, 48, True, 6144, 15360, 32_222_740_480),
    "klein 4B": (5, 20, False, 3072, 7680, 3_875_931_648),
    "klein 9B": (8, 24, False, 4096, 12288, 9_078_571_008),
}
"""Blocks, guidance, width and features of the text of the published networks, and weights."""


@pytest.mark.parametrize("name", PUBLISHED)
def test_full_size_has_the_published_settings(name: str) -> None:
    """But for sizes, they are diffusers' defaults, which are those of dev."""
    shield_torchvision()
    from diffusers import Flux2Transformer2DModel

    double, single, guidance, width, features, count = PUBLISHED[name]
    shapes = dict(flux2_shapes(double, single, guidance, width, features))
    tensors = {each: torch.empty(shape, device="meta") for each, shape in shapes.items()}
    assert sum(each.numel() for each in tensors.values()) == pytest.approx(count, rel=0.01)
    state, _ = converted(tensors, flux2_rules(tensors), "flux2")
    config = flux2_config(state, "flux2")
    with torch.device("meta"):
        network = Flux2Transformer2DModel(
            num_layers=double,
            num_single_layers=single,
            num_attention_heads=width // 128,
            joint_attention_dim=features,
            guidance_embeds=guidance,
        )
    assert config == {key: network.config[key] for key in config} | {"out_channels": CHANNELS}
    expected = {each: tensor.shape for each, tensor in network.state_dict().items()}
    assert {each: tensor.shape for each, tensor in state.items()} == expected


@pytest.mark.parametrize(
    ("told", "cfg"), [(None, 1.0), (None, 4.0), (2.5, 1.0)], ids=["klein", "klein base", "dev"]
)
def test_a_run_equals_diffusers_pipeline(told: float | None, cfg: float) -> None:
    """From a noisy picture down: the pipelines begin with no picture, but take latents."""
    shield_torchvision()
    from diffusers import AutoencoderKLFlux2, FlowMatchEulerDiscreteScheduler
    from diffusers.pipelines import flux2 as pipelines

    network, text = load(flux2_transformer(guidance=bool(told))), text_of(2, FEATURES)
    scene = scene_of_latents(SCENE.source, told)
    vae = AutoencoderKLFlux2(block_out_channels=(2, 2, 2, 2), norm_num_groups=1)
    nothing = dict.fromkeys(["text_encoder", "tokenizer"])
    kind = pipelines.Flux2Pipeline if told else pipelines.Flux2KleinPipeline
    scheduler = FlowMatchEulerDiscreteScheduler()
    pipe = kind(scheduler, vae, transformer=network.module, **nothing)  # type: ignore[arg-type]
    pipe.set_progress_bar_config(disable=True)
    pipe._unpatchify_latents = lambda cells: cells
    negative = {} if told else {"negative_prompt_embeds": text.tokens[1:]}
    times, noise = [0.7, 0.5, 0.2], latents(*SCENE.source.shape, seed=5)
    raw = pipe(
        height=64,
        width=96,
        sigmas=times,
        num_inference_steps=3,
        guidance_scale=told or cfg,
        latents=(1 - times[0]) * SCENE.source + times[0] * noise,
        prompt_embeds=text.tokens[:1],
        output_type="latent",
        **negative,
    ).images
    expected = unpacked(raw, 4, 6, 1) if told else raw / (1 + 1e-4) ** 0.5
    found = euler(guided(network, scene, text, cfg), noise, torch.tensor([*times, 0.0]))
    assert relative(found, expected) < 1e-4
    assert relative(expected, SCENE.source) > 0.5


@pytest.mark.parametrize(("steps", "family"), [(4, KLEIN), (50, DEV)])
@pytest.mark.parametrize("window", [512, 1024, 1536])
def test_the_shift_follows_the_window_as_in_its_authors_program(
    steps: int,
    family: Family,
    window: int,
) -> None:
    shield_torchvision()
    from diffusers.pipelines.flux2.pipeline_flux2 import compute_empirical_mu

    levels = family.levels({}, Prediction("flow", ""), window)
    assert isinstance(levels, WindowFlowLevels)
    mu = compute_empirical_mu((window // 16) ** 2, steps)
    assert levels == WindowFlowLevels.of(window, growth(steps))
    assert np.log(levels.shift) == pytest.approx(mu, abs=1e-6)


MISTRAL = (
    "<s>{% for message in messages %}{% if message.role == 'system' %}"
    "[SYSTEM_PROMPT]{{ message.content[0].text }}[/SYSTEM_PROMPT]{% else %}"
    "[INST]{{ message.content[0].text }}[/INST]{% endif %}{% endfor %}"
)
"""What Mistral Small's own template makes of a system's and a user's message."""
READERS: dict[str, tuple[Family, str, dict[str, float]]] = {
    "klein": (KLEIN, "Qwen3", {"rope_theta": 1e6, "rms_norm_eps": 1e-6}),
    "dev": (DEV, "Mistral", {"rope_theta": 1e9, "rms_norm_eps": 1e-5}),
}
"""Whose language model, transformers' name for its kind, and its settings."""


@pytest.mark.parametrize("name", READERS)
def test_the_prompt_is_read_as_by_diffusers_pipeline(tmp_path: Path, name: str) -> None:
    shield_torchvision()
    from diffusers import Flux2KleinPipeline, Flux2Pipeline
    from diffusers.pipelines.flux2.system_messages import SYSTEM_MESSAGE

    assert SYSTEM == SYSTEM_MESSAGE
    family, kind, numbers = READERS[name]
    weights = language_model(width=32, layers=31, head=16, normed=kind == "Qwen3")
    folder = references.save_qwen_tokenizer(tmp_path / "tokens")
    sizes = {"num_hidden_layers": 31, "num_attention_heads": 2, "num_key_value_heads": 1}
    model = references.language_model(weights, kind, head_dim=16, **sizes, **numbers)
    parts = {"llm": lambda: {n.removeprefix("model."): each for n, each in weights.items()}}
    encoder = load_text(family.text, parts, tokenizer=folder)
    tokenizer = references.qwen_tokenizer(folder)
    reads: Any = Flux2KleinPipeline._get_qwen3_prompt_embeds
    if kind == "Mistral":
        tokenizer.chat_template, tokenizer.padding_side = MISTRAL, "left"
        tokenizer.pad_token = "<pad>"
        reads = Flux2Pipeline._get_mistral_3_small_prompt_embeds
    for text in ("A photo of a cat, sharp", "" if kind == "Qwen3" else "a dog"):
        with torch.no_grad():
            expected = reads(model, tokenizer, text)
        found = encoder.encode(text)[0].tokens
        assert found.shape == expected.shape == (1, 512, 96)
        assert (found - expected).abs().max() < 1e-5 * expected.abs().max()
        filling = expected[:, 100:] if kind == "Qwen3" else expected[:, -50:]
        assert filling.std() > 0.1, "what fills the row must count"


@pytest.mark.parametrize(
    ("name", "sizes", "metadata", "family", "variant"),
    [
        ("flux2_dev_fp8mixed", (1, 1, True, 256, 15360), {}, "flux2-dev", "FLUX.2 dev"),
        ("flux-2-klein-4b", (1, 1, False, 256, 7680), {}, "flux2-klein", "klein 4B (by its name"),
        ("flux-2-klein-9b", (1, 1, False, 256, 12288), {}, "flux2-klein", "klein 9B (by its name"),
        ("flux-2-klein-base-4b", (1, 1, False, 256, 7680), {}, "flux2-klein-base", "klein base 4B"),
        ("mine", (1, 1, False, 256, 7680), {}, "flux2-klein", "by default"),
        (
            "mine",
            (1, 1, False, 256, 12288),
            {"modelspec.title": "FLUX.2 [klein] base 9B"},
            "flux2-klein-base",
            "klein base 9B (by its metadata",
        ),
    ],
)
def test_the_file_is_told(
    tmp_path: Path,
    name: str,
    sizes: tuple[int, int, bool, int, int],
    metadata: dict[str, str],
    family: str,
    variant: str,
) -> None:
    path = save_head(
        tmp_path / f"{name}.safetensors", dict(flux2_shapes(*sizes)), metadata=metadata
    )
    known = identified(path)
    spec, found = known.spec, known.found
    assert found is not None
    assert (spec.family, spec.prediction, spec.channels, spec.stride) == (family, "flow", 128, 16)
    assert (spec.window, spec.multiple, spec.guided) == (1024, 16, family == "flux2-dev")
    assert variant in found.variant
    assert found.family.text.llm is not None
    reader = {15360: "Mistral Small 3.2 24B", 7680: "Qwen3 4B", 12288: "Qwen3 8B"}[sizes[-1]]
    assert found.family.text.llm.title == reader


def test_diffusers_names_and_relatives_are_told(tmp_path: Path) -> None:
    shapes = dict(flux2_shapes(1, 1, True, 256, 15360))
    meta = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    theirs, _ = converted(meta, flux2_rules(meta), "flux2")
    named = {name: tuple(each.shape) for name, each in theirs.items()}
    assert identify(save_head(tmp_path / "d.safetensors", named)).family == "flux2-dev"
    odd = shapes | {"img_in.weight": (256, 64)}
    with pytest.raises(UnknownCheckpointError, match="64 features"):
        identify(save_head(tmp_path / "o.safetensors", odd))
