"""The transformer of SD 3 against diffusers' pipeline with the same weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
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
from tests.checkpoints.layouts.sd3 import CHANNELS, FEATURES, POOLED, sd3_transformer
from tests.families.building import how, small_vae, transformer_of
from tileup.contracts import Box, Encoded
from tileup.errors import ModelError, UsageError
from tileup.families.sd3 import build_sd3
from tileup.families.transformer import TransformerNetwork as Network
from tileup.plan.noise_levels import FlowLevels
from tileup.torchvision_shield import shield_torchvision

if TYPE_CHECKING:
    from diffusers import SD3Transformer2DModel

VARIANTS = {
    "sd3": {},
    "sd3.5 large": {"qk_norm": True},
    "sd3.5 medium": {"qk_norm": True, "dual": 1},
}
SCENE = scene_of_latents(latents(1, CHANNELS, 8, 12, seed=7))
SHIFT = 3.0


def _text(rows: int = 1) -> Encoded:
    return text_of(rows, FEATURES, POOLED)


def load(tensors: dict[str, Tensor], dtype: torch.dtype = torch.float32) -> Network:
    return transformer_of(build_sd3(tensors, how(dtype=dtype)))


@pytest.fixture(scope="module")
def network() -> Network:
    return load(sd3_transformer(qk_norm=True, dual=1))


def by_diffusers(tensors: dict[str, Tensor], **variant: Any) -> SD3Transformer2DModel:  # noqa: ANN401
    """diffusers' own conversion and network, its settings written down by hand."""
    shield_torchvision()
    from diffusers import SD3Transformer2DModel
    from diffusers.loaders import single_file_utils

    network = SD3Transformer2DModel(
        sample_size=24,
        num_layers=2,
        num_attention_heads=2,
        joint_attention_dim=FEATURES,
        caption_projection_dim=128,
        pooled_projection_dim=POOLED,
        pos_embed_max_size=12,
        dual_attention_layers=tuple(range(variant.get("dual", 0))),
        qk_norm="rms_norm" if variant.get("qk_norm") else None,
    )
    converted = single_file_utils.convert_sd3_transformer_checkpoint_to_diffusers(dict(tensors))
    network.load_state_dict(converted)
    return network.eval()


def pipeline(transformer: SD3Transformer2DModel) -> Any:  # noqa: ANN401
    from diffusers import (
        FlowMatchEulerDiscreteScheduler,
        StableDiffusion3Img2ImgPipeline,
    )

    nothing = dict.fromkeys(
        ["text_encoder", "text_encoder_2", "text_encoder_3", "tokenizer", "tokenizer_2"]
    )
    pipe = StableDiffusion3Img2ImgPipeline(
        transformer,
        FlowMatchEulerDiscreteScheduler(shift=SHIFT),
        small_vae(CHANNELS),
        tokenizer_3=None,  # type: ignore[arg-type]
        **nothing,  # type: ignore[arg-type]
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.mark.parametrize("cfg", [1.0, 4.0])
@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
def test_img2img_equals_diffusers_pipeline(variant: dict[str, int], cfg: float) -> None:
    tensors = sd3_transformer(**variant)  # type: ignore[arg-type]
    text = _text(2)
    pipe = pipeline(by_diffusers(tensors, **variant))
    expected = pipe(
        image=SCENE.source,
        height=64,
        width=96,
        strength=0.6,
        num_inference_steps=6,
        guidance_scale=cfg,
        generator=torch.Generator().manual_seed(5),
        prompt_embeds=text.tokens[:1],
        pooled_prompt_embeds=pooled_of(text)[:1],
        negative_prompt_embeds=text.tokens[1:],
        negative_pooled_prompt_embeds=pooled_of(text)[1:],
        output_type="latent",
    ).images
    times = pipe.scheduler.sigmas[2:]
    assert len(times) == 5
    assert 0.7 < times[0] < 0.95
    noise = latents(*SCENE.source.shape, seed=5)
    found = euler(guided(load(tensors), SCENE, text, cfg), noise, times)
    assert relative(found, expected) < 1e-4
    assert relative(expected, SCENE.source) > 0.5


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
def test_the_velocity_equals_that_of_a_separate_implementation(variant: dict[str, int]) -> None:
    tensors = sd3_transformer(3, **variant)  # type: ignore[arg-type]
    tensors = {name: each.requires_grad_() for name, each in tensors.items()}
    x, sigma, text = latents(2, CHANNELS, 6, 10), torch.tensor([0.1, 4.0]), _text(2)
    expected = originals.sd3(tensors, x, sigma / (1 + sigma), text.tokens, pooled_of(text))
    found = load(tensors)(x, sigma, [Box(0, 0, 6, 10)] * 2, text, SCENE)
    assert relative(found, expected.detach()) < 1e-5
    # The text's queries in the last block are asked for nothing.
    norm = {"joint_blocks.2.context_block.attn.ln_q.weight"} if "qk_norm" in variant else set()
    assert originals.idle(expected, tensors) == norm


def test_several_windows_are_the_weighted_sum_of_their_predictions(
    network: Network,
) -> None:
    scene = scene_of_latents(latents(1, CHANNELS, 14, 20, seed=2))
    text = _text()
    windows = [Box(top, left, top + 8, left + 12) for top in (0, 6) for left in (0, 8)]
    reference = by_diffusers(sd3_transformer(qk_norm=True, dual=1), qk_norm=True, dual=1)

    def velocity(crop: Tensor, time: float) -> Tensor:
        with torch.no_grad():
            return reference(crop, text.tokens, text.pooled, torch.tensor([1000 * time])).sample

    x = 3 * latents(1, CHANNELS, 14, 20)
    expected = direct_sum(velocity, x, 2.0, windows)
    for batch in (1, 3):
        denoiser = tiled(guided(network, scene, text), windows, batch)
        assert relative(denoiser(x, torch.tensor([2.0])), expected) < 1e-5


def test_a_window_beyond_the_table_of_positions_is_refused(network: Network) -> None:
    x, text = latents(1, CHANNELS, 4, 25), _text()
    with pytest.raises(UsageError, match=r"24 latent cells at most.*4 x 25.*--window"):
        network(x, torch.ones(1), [Box(0, 0, 4, 25)], text, SCENE)


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
def test_diffusers_own_layout_gives_the_same_network(variant: dict[str, int]) -> None:
    tensors = sd3_transformer(**variant)  # type: ignore[arg-type]
    again = by_diffusers(tensors, **variant).state_dict()
    x, text = latents(1, CHANNELS, 8, 8), _text()
    call = (x, torch.ones(1), [whole(SCENE)], text, SCENE)
    assert torch.equal(load(tensors)(*call), load(again)(*call))


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float16, 0.02), (torch.bfloat16, 0.1)], ids=str
)
def test_half_precision_is_near(network: Network, dtype: torch.dtype, tolerance: float) -> None:
    x, text = latents(1, CHANNELS, 8, 8), _text()
    call = (x, torch.ones(1), [whole(SCENE)], text, SCENE)
    half = load(sd3_transformer(qk_norm=True, dual=1), dtype)
    found, expected = half(*call), network(*call)
    assert found.dtype == torch.float32
    assert 0 < relative(found, expected) < tolerance


def test_fp8_is_kept_and_computes_as_its_values(network: Network) -> None:
    stored = sd3_transformer(qk_norm=True, dual=1, dtype=torch.float8_e4m3fn)
    small, plain = load(stored), load({name: each.float() for name, each in stored.items()})
    x, text = latents(1, CHANNELS, 8, 8), _text()
    call = (x, torch.ones(1), [whole(SCENE)], text, SCENE)
    assert torch.equal(small(*call), plain(*call))
    assert _bytes(small) < 0.4 * _bytes(plain)


def _bytes(network: Network) -> int:
    return sum(each.nbytes for each in network.module.state_dict().values())


def test_a_part_that_is_missing_or_does_not_fit_is_named() -> None:
    whole_file = sd3_transformer()
    for name in ("pos_embed", "joint_blocks.1.x_block.mlp.fc1.weight", "final_layer.linear.bias"):
        tensors = {each: value for each, value in whole_file.items() if each != name}
        with pytest.raises(ModelError, match=f"small lacks .*{name}"):
            load(tensors)
    for name, value in (
        ("pos_embed", torch.zeros(1, 143, 128)),
        ("x_embedder.proj.weight", torch.zeros(100, 16, 2, 2)),
        ("t_embedder.mlp.0.weight", torch.zeros(128, 255)),
        ("final_layer.linear.weight", torch.zeros(63, 128)),
    ):
        with pytest.raises(ModelError, match="small does not fit together"):
            load(whole_file | {name: value})
    with pytest.raises(ModelError, match=r"no place for: final_layer\.linear\.lora"):
        load(whole_file | {"final_layer.linear.lora": torch.zeros(1)})
    with pytest.raises(ModelError, match="lacks"):
        load({})


def test_noise_levels_are_those_of_diffusers_scheduler() -> None:
    """Shift 3, strength by strength."""
    shield_torchvision()
    from diffusers import FlowMatchEulerDiscreteScheduler

    scheduler = FlowMatchEulerDiscreteScheduler(shift=SHIFT)
    strengths, levels = np.linspace(0, 1, 101), FlowLevels(SHIFT)
    # Strength is the time before the shift, from the one shifted to 0.001 to that to 0.9999.
    low, high = (time / (SHIFT - (SHIFT - 1) * time) for time in (0.001, 0.9999))
    scheduler.set_timesteps(sigmas=list(low + strengths[::-1] * (high - low)))
    sigmas = levels.sigma(strengths)
    expected = scheduler.sigmas[:-1].numpy()[::-1]
    np.testing.assert_allclose(sigmas / (1 + sigmas), expected, rtol=1e-6)
    assert expected[50] > 0.7
