"""The transformer of FLUX against diffusers' pipeline with the same weights."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from tests.checkpoints import originals
from tests.checkpoints.flow import (
    direct_sum,
    euler,
    guided,
    latents,
    pooled_of,
    relative,
    scene_of_latents,
    text_of,
    tiled,
    whole,
)
from tests.checkpoints.layouts.flux import CHANNELS, FULL_WIDTH, HEAD, flux_transformer
from tests.families.building import how, small_vae, transformer_of
from tileup.checkpoints.find import identify
from tileup.contracts import Box, Encoded
from tileup.errors import ModelError
from tileup.families.flux import build_flux
from tileup.families.transformer import TransformerNetwork as Network
from tileup.families.transformer import packed, positions, unpacked
from tileup.plan.noise_levels import FlowLevels
from tileup.tensors.checkpoint import open_checkpoint
from tileup.torchvision_shield import shield_torchvision

if TYPE_CHECKING:
    from diffusers import FluxTransformer2DModel

FEATURES, POOLED = 32, 24
SCENE = scene_of_latents(latents(1, CHANNELS, 8, 12, seed=7))


def _text(rows: int = 1) -> Encoded:
    return text_of(rows, FEATURES, POOLED)


def load(tensors: dict[str, Tensor], dtype: torch.dtype = torch.float32) -> Network:
    return transformer_of(build_flux(tensors, how(dtype=dtype)))


@pytest.fixture(scope="module")
def network() -> Network:
    return load(flux_transformer(2, 2))


def by_diffusers(tensors: dict[str, Tensor], **settings: Any) -> FluxTransformer2DModel:  # noqa: ANN401
    """diffusers' network filled by its own conversion where that is possible: at full width.

    Elsewhere the rows of `linear1` are brought to where its conversion looks for them.
    """
    shield_torchvision()
    from diffusers import FluxTransformer2DModel
    from diffusers.loaders import single_file_utils

    width = tensors["img_in.weight"].shape[0]
    stretched = {
        name: _stretched(each, width) if ".linear1." in name else each
        for name, each in tensors.items()
    }
    converted = single_file_utils.convert_flux_transformer_checkpoint_to_diffusers(stretched)
    state = {
        name: _cut(each, width) if name.startswith("single_") and "norm" not in name else each
        for name, each in converted.items()
    }
    with torch.device("meta"):
        network = FluxTransformer2DModel(
            num_attention_heads=width // HEAD,
            joint_attention_dim=tensors["txt_in.weight"].shape[1],
            pooled_projection_dim=tensors["vector_in.in_layer.weight"].shape[1],
            guidance_embeds="guidance_in.in_layer.weight" in tensors,
            **settings,
        )
    network.load_state_dict(state, assign=True)
    return network.eval()


def _stretched(linear: Tensor, width: int) -> Tensor:
    """q, k, v and the perceptron's rows, each at the start of the place it has in full width."""
    stretched = linear.new_full((7 * FULL_WIDTH, *linear.shape[1:]), torch.nan)
    starts = [0, FULL_WIDTH, 2 * FULL_WIDTH, 3 * FULL_WIDTH]
    parts = linear.split([width, width, width, 4 * width])
    for start, part in zip(starts, parts, strict=True):
        stretched[start : start + len(part)] = part
    return stretched


def _cut(part: Tensor, width: int) -> Tensor:
    """Without the rows that `_stretched` left empty."""
    return part[: width * len(part) // FULL_WIDTH] if len(part) >= FULL_WIDTH else part


def pipeline(transformer: FluxTransformer2DModel) -> Any:  # noqa: ANN401
    from diffusers import FlowMatchEulerDiscreteScheduler, FluxImg2ImgPipeline

    nothing = dict.fromkeys(["text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2"])
    pipe = FluxImg2ImgPipeline(
        FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        small_vae(CHANNELS),
        transformer=transformer,
        **nothing,  # type: ignore[arg-type]
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def by_pipeline(
    pipe: Any,  # noqa: ANN401
    text: Encoded,
    *,
    guidance: float,
    cfg: float,
    steps: int = 5,
) -> Tensor:
    """img2img of SCENE, noise from the seed 5, all steps but the first, which has no picture."""
    result = pipe(
        image=SCENE.source,
        height=64,
        width=96,
        strength=1 - 1.5 / steps,
        num_inference_steps=steps,
        guidance_scale=guidance,
        true_cfg_scale=cfg,
        generator=torch.Generator().manual_seed(5),
        prompt_embeds=text.tokens[:1],
        pooled_prompt_embeds=pooled_of(text)[:1],
        negative_prompt_embeds=text.tokens[1:],
        negative_pooled_prompt_embeds=pooled_of(text)[1:],
        output_type="latent",
    ).images
    return pipe._unpack_latents(result, 64, 96, 8)


def by_tileup(
    network: Network, text: Encoded, guidance: float, cfg: float, times: Tensor
) -> Tensor:
    scene = scene_of_latents(SCENE.source, guidance)
    noise = latents(*SCENE.source.shape, seed=5)
    return euler(guided(network, scene, text, cfg), noise, times)


@pytest.mark.parametrize(
    ("dev", "guidance", "cfg"),
    [(True, 3.5, 1.0), (True, 1.0, 3.0), (False, 0.0, 1.0), (False, 0.0, 2.0)],
    ids=["dev", "dev, true cfg", "schnell", "schnell, true cfg"],
)
def test_img2img_equals_diffusers_pipeline(dev: bool, guidance: float, cfg: float) -> None:
    tensors = flux_transformer(guidance=dev)
    text = _text(2)
    pipe = pipeline(by_diffusers(tensors, num_layers=1, num_single_layers=1))
    expected = by_pipeline(pipe, text, guidance=guidance, cfg=cfg)
    times = pipe.scheduler.sigmas[1:]
    assert len(times) == 5
    found = by_tileup(load(tensors), text, guidance, cfg, times)
    assert relative(found, expected) < 1e-4
    assert relative(expected, SCENE.source) > 0.5


@pytest.mark.slow
def test_img2img_equals_diffusers_pipeline_at_full_width() -> None:
    """One block of each kind, 0.55 billion weights; the conversion is diffusers' as it is."""
    tensors = flux_transformer(1, 1, width=FULL_WIDTH, features=4096, pooled=768)
    text = text_of(2, 4096, 768)
    pipe = pipeline(by_diffusers(tensors, num_layers=1, num_single_layers=1))
    expected = by_pipeline(pipe, text, guidance=2.5, cfg=1, steps=2)
    found = by_tileup(load(tensors), text, 2.5, 1, pipe.scheduler.sigmas[1:])
    assert relative(found, expected) < 1e-4
    assert relative(expected, SCENE.source) > 0.5


@pytest.mark.parametrize("dev", [True, False], ids=["dev", "schnell"])
def test_the_velocity_equals_that_of_a_separate_implementation(dev: bool) -> None:
    tensors = flux_transformer(2, 2, guidance=dev)
    tensors = {name: each.requires_grad_() for name, each in tensors.items()}
    x, sigma, text = latents(2, CHANNELS, 6, 10), torch.tensor([0.1, 4.0]), _text(2)
    call = (x, sigma / (1 + sigma), text.tokens, pooled_of(text), 2.5)
    expected = originals.flux(tensors, *call)
    scene = scene_of_latents(SCENE.source, guidance=2.5)
    found = load(tensors)(x, sigma, [Box(0, 0, 6, 10)] * 2, text, scene)
    assert relative(found, expected.detach()) < 1e-5
    assert not originals.idle(expected, tensors)


def test_several_windows_are_the_weighted_sum_of_their_predictions(
    network: Network,
) -> None:
    """Each is shown to diffusers' network as a picture of its own, from (0, 0)."""
    scene = scene_of_latents(latents(1, CHANNELS, 14, 20, seed=2), guidance=2.0)
    text = _text()
    windows = [Box(top, left, top + 8, left + 12) for top in (0, 6) for left in (0, 8)]
    reference = by_diffusers(flux_transformer(2, 2), num_layers=2, num_single_layers=2)
    pipe = pipeline(reference)

    def velocity(crop: Tensor, time: float) -> Tensor:
        with torch.no_grad():
            tokens = reference(
                pipe._pack_latents(crop, 1, CHANNELS, 8, 12),
                text.tokens,
                text.pooled,
                torch.tensor([time]),
                pipe._prepare_latent_image_ids(1, 4, 6, "cpu", torch.float32),
                torch.zeros(5, 3),
                torch.tensor([2.0]),
            ).sample
        return pipe._unpack_latents(tokens, 64, 96, 8)

    x = 3 * latents(1, CHANNELS, 14, 20)
    expected = direct_sum(velocity, x, 2.0, windows)
    for batch in (1, 3):
        denoiser = tiled(guided(network, scene, text), windows, batch)
        assert relative(denoiser(x, torch.tensor([2.0])), expected) < 1e-5


def test_only_dev_is_told_the_guidance_and_3_5_where_nothing_is_said(
    network: Network,
) -> None:
    x, text = latents(1, CHANNELS, 8, 8), _text()
    schnell = load(flux_transformer(1, 1, guidance=False))

    def told(network: Network, guidance: float | None) -> Tensor:
        scene = scene_of_latents(SCENE.source, guidance)
        return network(x, torch.ones(1), [Box(0, 0, 8, 8)], text, scene)

    assert torch.equal(told(network, None), told(network, 3.5))
    assert relative(told(network, 0.0), told(network, 3.5)) > 0.01
    assert torch.equal(told(schnell, 1.0), told(schnell, 9.0))


def test_packing_and_positions_are_those_of_diffusers() -> None:
    shield_torchvision()
    from diffusers import FluxImg2ImgPipeline as Pipeline

    x = latents(2, 3, 6, 10)
    assert torch.equal(packed(x), Pipeline._pack_latents(x, 2, 3, 6, 10))
    assert torch.equal(unpacked(packed(x), 3, 5), x)
    expected = Pipeline._prepare_latent_image_ids(1, 3, 5, torch.device("cpu"), torch.float32)
    assert torch.equal(positions(3, 5), expected)


def test_diffusers_own_layout_gives_the_same_network(network: Network) -> None:
    reference = by_diffusers(flux_transformer(2, 2), num_layers=2, num_single_layers=2)
    x, text = latents(1, CHANNELS, 8, 8), _text()
    call = (x, torch.ones(1), [whole(SCENE)], text, SCENE)
    assert torch.equal(load(dict(reference.state_dict()))(*call), network(*call))


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float16, 0.02), (torch.bfloat16, 0.1)], ids=str
)
def test_half_precision_is_near(dtype: torch.dtype, tolerance: float) -> None:
    """schnell at s = 0.5: a guidance of 3500 thousandths would be 3504 in bfloat16."""
    x, text = latents(1, CHANNELS, 8, 8), _text()
    call = (x, torch.ones(1), [whole(SCENE)], text, SCENE)
    tensors = flux_transformer(2, 2, guidance=False)
    found, expected = load(tensors, dtype)(*call), load(tensors)(*call)
    assert found.dtype == torch.float32
    assert 0 < relative(found, expected) < tolerance


def test_fp8_is_kept_and_computes_as_its_values() -> None:
    stored = flux_transformer(dtype=torch.float8_e4m3fn)
    small, plain = load(stored), load({name: each.float() for name, each in stored.items()})
    x, text = latents(1, CHANNELS, 8, 8), _text()
    call = (x, torch.ones(1), [whole(SCENE)], text, SCENE)
    assert torch.equal(small(*call), plain(*call))
    assert _bytes(small) < 0.3 * _bytes(plain)


def _bytes(network: Network) -> int:
    return sum(each.nbytes for each in network.module.state_dict().values())


def test_a_part_that_is_missing_or_does_not_fit_is_named() -> None:
    whole_file = flux_transformer()
    for name in (
        "img_in.weight",
        "double_blocks.0.txt_mlp.2.bias",
        "single_blocks.0.norm.key_norm.scale",
        "guidance_in.out_layer.weight",
    ):
        tensors = {each: value for each, value in whole_file.items() if each != name}
        with pytest.raises(ModelError, match=f"small lacks .*{name}"):
            load(tensors)
    for name, value in (
        ("single_blocks.0.linear1.weight", torch.zeros(7 * 256 + 1, 256)),
        ("double_blocks.0.img_attn.qkv.bias", torch.zeros(7)),
        ("vector_in.in_layer.weight", torch.zeros(24)),
    ):
        with pytest.raises(ModelError, match="small does not fit together"):
            load(whole_file | {name: value})
    with pytest.raises(ModelError, match=r"no place for: final_layer\.linear\.lora"):
        load(whole_file | {"final_layer.linear.lora": torch.zeros(1)})
    with pytest.raises(ModelError, match="lacks"):
        load({})


def test_other_kinds_of_flux_are_refused() -> None:
    fill = flux_transformer() | {"img_in.weight": torch.zeros(256, 384)}
    with pytest.raises(ModelError, match=r"takes 384 .* gives 64: .* inpainting or control"):
        load(fill)
    scale = "double_blocks.0.img_attn.norm.query_norm.scale"
    with pytest.raises(ModelError, match="heads of 64 features"):
        load(flux_transformer() | {scale: torch.ones(64)})


@pytest.mark.parametrize("side", [256, 512, 1024, 1536])
def test_noise_levels_are_those_of_diffusers_scheduler(side: int) -> None:
    """mu is linear in the tokens of a window, and e^mu the shift, strength by strength."""
    shield_torchvision()
    from diffusers import FlowMatchEulerDiscreteScheduler
    from diffusers.pipelines.flux.pipeline_flux_img2img import calculate_shift

    tokens = (side // 16) ** 2
    mu = 0.5 + (1.15 - 0.5) * (tokens - 256) / (4096 - 256)
    assert mu == pytest.approx(calculate_shift(tokens), rel=1e-12)
    shift, strengths = math.exp(mu), np.linspace(0, 1, 101)
    low, high = (time / (shift - (shift - 1) * time) for time in (0.001, 0.9999))
    scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    scheduler.set_timesteps(sigmas=list(low + strengths[::-1] * (high - low)), mu=mu)
    sigmas = FlowLevels(shift).sigma(strengths)
    expected = scheduler.sigmas[:-1].numpy()[::-1]
    np.testing.assert_allclose(sigmas / (1 + sigmas), expected, rtol=1e-6)
    assert expected[50] > 0.6


def test_a_file_in_comfyuis_fp8_is_read_as_its_values(tmp_path: Path) -> None:
    """Each matrix with a scale and a mark, as ComfyUI stores them now."""
    plain, stored, values = flux_transformer(), dict[str, Tensor](), dict[str, Tensor]()
    mark = torch.tensor([*json.dumps({"format": "float8_e4m3fn"}).encode()], dtype=torch.uint8)
    for name, tensor in plain.items():
        if tensor.ndim != 2:
            stored[name] = values[name] = tensor
            continue
        scale = tensor.abs().max() / 448
        layer = name.removesuffix(".weight")
        stored[name] = (tensor / scale).to(torch.float8_e4m3fn)
        stored |= {f"{layer}.weight_scale": scale, f"{layer}.comfy_quant": mark.clone()}
        values[name] = stored[name].float() * scale
    save_file(stored, tmp_path / "flux.safetensors")
    assert identify(tmp_path / "flux.safetensors").family == "flux-dev"
    network = load(open_checkpoint(tmp_path / "flux.safetensors").state_dict())
    x, text = latents(1, CHANNELS, 8, 8), _text()
    call = (x, torch.ones(1), [whole(SCENE)], text, SCENE)
    assert torch.equal(network(*call), load(values)(*call))
    assert relative(network(*call), load(plain)(*call)) > 1e-3
    assert _bytes(network) < 0.3 * _bytes(load(plain))
