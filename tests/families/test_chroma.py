"""Chroma against diffusers' pipeline, and against the network written down anew."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.checkpoints import headers, originals
from tests.checkpoints.flow import (
    euler,
    guided,
    latents,
    relative,
    scene_of_latents,
    text_of,
)
from tests.checkpoints.headers import save_head
from tests.checkpoints.layouts.flux import (
    CHANNELS,
    FULL_WIDTH,
    chroma_transformer,
    flux_shapes,
    guide_shapes,
)
from tests.checkpoints.layouts.text import t5
from tests.checkpoints.layouts.weights import random_weights
from tests.families.building import how, of_latents, small_vae, transformer_of
from tests.text import references
from tileup.checkpoints.find import identify
from tileup.contracts import Box, Encoded
from tileup.errors import UnknownCheckpointError
from tileup.families.chroma import CHROMA, GUIDE, build_chroma, chroma_rules, layer_rules
from tileup.families.transformer import TransformerNetwork
from tileup.tensors.renaming import converted, targets
from tileup.text.encoder import load_text
from tileup.torchvision_shield import shield_torchvision

SCENE = scene_of_latents(latents(1, CHANNELS, 8, 12, seed=7))


def load(tensors: dict[str, Tensor]) -> TransformerNetwork:
    return transformer_of(build_chroma(tensors, how()))


def test_the_velocity_equals_that_of_a_separate_implementation() -> None:
    tensors = {n: each.requires_grad_() for n, each in chroma_transformer(2, 2).items()}
    x, sigma, text = latents(2, CHANNELS, 6, 10), torch.tensor([0.1, 4.0]), text_of(2, 32)
    expected = originals.chroma(tensors, x, sigma / (1 + sigma), text.tokens)
    found = load(tensors)(x, sigma, [Box(0, 0, 6, 10)] * 2, text, SCENE)
    assert relative(found, expected.detach()) < 1e-4
    # A bias before the softmax of a sum over all keys changes nothing.
    assert {name for name in originals.idle(expected, tensors) if "bias" not in name} == set()


def test_names_are_those_of_diffusers_conversion() -> None:
    """All blocks in all their rows, but in one column: converters only move rows."""
    shield_torchvision()
    from diffusers.loaders import single_file_utils

    shapes = [
        (name, (shape[0], 1) if len(shape) == 2 else shape)
        for name, shape in flux_shapes(19, 38, False, FULL_WIDTH, 4096, 768)
        if "_mod." not in name and ".modulation." not in name and "adaLN" not in name
    ]
    shapes = [each for each in shapes if not each[0].startswith(("time_in.", "vector_in."))]
    tensors = random_weights([*shapes, *guide_shapes(FULL_WIDTH, 5)], seed=0)
    found, _ = converted(tensors, chroma_rules(tensors, FULL_WIDTH), "chroma")
    expected = single_file_utils.convert_chroma_transformer_checkpoint_to_diffusers(dict(tensors))
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], each) for name, each in expected.items())
    layers = {name.removesuffix(".weight") for name, each in found.items() if each.ndim == 2}
    placed = dict(targets(layer_rules(layers), layers))
    assert {each for target in placed.values() for each in target.modules} == layers


def pipeline(network: TransformerNetwork) -> Any:  # noqa: ANN401
    from diffusers import ChromaImg2ImgPipeline, FlowMatchEulerDiscreteScheduler

    scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    nothing, vae = dict.fromkeys(["text_encoder", "tokenizer"]), small_vae(CHANNELS)
    pipe = ChromaImg2ImgPipeline(scheduler, vae, transformer=network.module, **nothing)  # type: ignore[arg-type]
    return of_latents(pipe, CHANNELS)


@pytest.mark.parametrize("cfg", [1.0, 3.0])
def test_img2img_equals_diffusers_pipeline(cfg: float) -> None:
    network, text = load(chroma_transformer()), text_of(2, 32)
    pipe = pipeline(network)
    mask = torch.ones(1, text.tokens.shape[1])
    result = pipe(
        image=SCENE.source,
        height=64,
        width=96,
        strength=0.7,
        num_inference_steps=5,
        guidance_scale=cfg,
        generator=torch.Generator().manual_seed(5),
        prompt_embeds=text.tokens[:1],
        prompt_attention_mask=mask,
        negative_prompt_embeds=text.tokens[1:],
        negative_prompt_attention_mask=mask,
        output_type="latent",
    ).images
    expected = pipe._unpack_latents(result, 64, 96, 8)
    denoiser = guided(network, SCENE, text, cfg)
    times = pipe.scheduler.sigmas[pipe.scheduler.begin_index :]
    found = euler(denoiser, latents(*SCENE.source.shape, seed=5), times)
    assert len(times) < 6
    assert relative(found, expected) < 1e-4
    assert relative(expected, SCENE.source) > 0.5


def test_text_without_padding_is_text_whose_padding_is_masked() -> None:
    """512 tokens with diffusers' mask, as true or false, against the few that it leaves."""
    network, x = load(chroma_transformer()), latents(1, CHANNELS, 4, 4)
    tokens = latents(1, 16, 32, seed=9)
    kept = torch.arange(16)[None] < 6
    with torch.no_grad():
        padded = network.module(
            hidden_states=torch.nn.functional.unfold(x, 2, stride=2).transpose(1, 2),
            timestep=torch.tensor([0.5]),
            encoder_hidden_states=tokens,
            img_ids=torch.tensor([(0.0, row, column) for row in (0, 1) for column in (0, 1)]),
            txt_ids=torch.zeros(16, 3),
            attention_mask=torch.cat([kept, torch.ones(1, 4, dtype=torch.bool)], dim=1),
            return_dict=False,
        )[0]
    expected = torch.nn.functional.fold(padded.transpose(1, 2), (4, 4), 2, stride=2)
    found = network(x, torch.ones(1), [Box(0, 0, 4, 4)], Encoded(tokens[:, :6]), SCENE)
    assert relative(found, expected) < 1e-5
    whole = network(x, torch.ones(1), [Box(0, 0, 4, 4)], Encoded(tokens), SCENE)
    assert relative(whole, expected) > 0.01


def test_t5_is_read_as_by_diffusers_pipeline(tmp_path: Path) -> None:
    shield_torchvision()
    from diffusers import ChromaPipeline

    weights = t5(width=64, layers=2, heads=2)
    tokenizer = references.save_t5_tokenizer(tmp_path / "tokenizer.json")
    nothing = dict.fromkeys(["vae", "transformer"])
    pipe = ChromaPipeline(
        text_encoder=references.t5_model(weights, 2, 2),
        tokenizer=references.t5_tokenizer(tokenizer),
        scheduler=references.scheduler(flow=True),
        **nothing,
    )
    prompts = ("A photo of a cat, sharp", "a dog")
    with torch.no_grad():
        tokens, _, mask, other, _, less = pipe.encode_prompt(*prompts, device="cpu")
    encoder = load_text(CHROMA.text, {"t5": lambda: weights}, tokenizer=tokenizer)
    prompt, negative = encoder.encode(*prompts)
    assert negative is not None
    for found, theirs, kept in ((prompt, tokens, mask), (negative, other, less)):
        assert found.pooled is None
        expected = theirs[:, kept[0] > 0]
        assert 3 < expected.shape[1] < 60
        assert found.tokens.shape == expected.shape
        assert (found.tokens - expected).abs().max() < 1e-5
        assert expected.std() > 0.1


def test_the_file_is_told_in_both_layouts(tmp_path: Path) -> None:
    tensors = chroma_transformer()
    shapes = {name: tuple(each.shape) for name, each in tensors.items()}
    theirs, _ = converted(tensors, chroma_rules(tensors, 256), "chroma")
    for name, each in (("own", shapes), ("theirs", {n: tuple(t.shape) for n, t in theirs.items()})):
        spec = identify(save_head(tmp_path / f"{name}.safetensors", each))
        assert (spec.family, spec.prediction, spec.channels) == ("chroma", "flow", 16)
        assert (spec.window, spec.multiple, spec.guided) == (1024, 16, False)
    radiance = shapes | {"nerf_blocks.0.norm.scale": (4,)}
    with pytest.raises(UnknownCheckpointError, match="draws pixels"):
        identify(save_head(tmp_path / "r.safetensors", radiance))
    odd = headers.flux(inputs=68) | {f"{GUIDE}.in_proj.weight": (4, 4)}
    with pytest.raises(UnknownCheckpointError, match="68 features"):
        identify(save_head(tmp_path / "o.safetensors", odd))
