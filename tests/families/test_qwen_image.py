"""Qwen-Image against diffusers' pipeline, and against the network written down anew."""

from __future__ import annotations

from pathlib import Path
from typing import Any

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
    relative,
    scene_of_latents,
    text_of,
    tiled,
)
from tests.checkpoints.headers import save_head
from tests.checkpoints.layouts.llm import language_model
from tests.checkpoints.layouts.qwen_image import (
    CHANNELS,
    qwen_image_shapes,
    qwen_image_transformer,
)
from tests.checkpoints.originals_qwen_image import qwen_image
from tests.families.building import how, transformer_of
from tests.text import references
from tileup.checkpoints.find import identify
from tileup.contracts import Box
from tileup.errors import UnknownCheckpointError
from tileup.families.qwen_image import (
    BEFORE,
    MARK,
    QWEN_IMAGE,
    build_qwen_image,
    qwen_image_config,
)
from tileup.families.transformer import TransformerNetwork
from tileup.text.encoder import load_text
from tileup.torchvision_shield import shield_torchvision

FEATURES = 48
SCENE = scene_of_latents(latents(1, CHANNELS, 8, 12, seed=7))
TENSORS = qwen_image_transformer()


def load(tensors: dict[str, Tensor]) -> TransformerNetwork:
    return transformer_of(build_qwen_image(tensors, how()))


@pytest.fixture(scope="module")
def network() -> TransformerNetwork:
    return load(TENSORS | {MARK: torch.zeros(0)})


@pytest.mark.parametrize("sides", [(6, 10), (14, 4)])
def test_the_velocity_equals_that_of_a_separate_implementation(sides: tuple[int, int]) -> None:
    tensors = {name: each.clone().requires_grad_() for name, each in TENSORS.items()}
    x, sigma, text = latents(2, CHANNELS, *sides), torch.tensor([0.1, 4.0]), text_of(2, FEATURES)
    expected = qwen_image(tensors, x, sigma / (1 + sigma), text.tokens)
    found = load(TENSORS)(x, sigma, [Box(0, 0, *sides)] * 2, text, SCENE)
    assert relative(found, expected.detach()) < 1e-4
    # The last block's text leads nowhere, and a bias of all keys changes no softmax.
    idle = originals.idle(expected, tensors)
    last = "transformer_blocks.1."
    lost = {f"{last}attn.to_add_out", f"{last}txt_mlp.net.0.proj", f"{last}txt_mlp.net.2"}
    lost |= {f"{last}attn.add_q_proj", f"{last}attn.norm_added_q"}
    assert {name.rpartition(".")[0] for name in idle if name.endswith("weight")} == lost


def test_windows_are_pictures_of_their_own(network: TransformerNetwork) -> None:
    """A canvas of several windows is the weighted sum of each, wherever it lies."""
    boxes = [Box(0, 0, 8, 8), Box(0, 4, 8, 12)]
    text, x = text_of(1, FEATURES), latents(*SCENE.source.shape, seed=4)

    def predict(crop: Tensor, time: float) -> Tensor:
        return qwen_image(TENSORS, crop, torch.tensor([time]), text.tokens)

    found = tiled(guided(network, SCENE, text), boxes)(x, torch.tensor([2.0]))
    assert relative(found, direct_sum(predict, x, 2.0, boxes)) < 1e-4


def test_full_size_has_the_published_settings() -> None:
    """transformer/config.json of Qwen-Image holds diffusers' defaults; 20.4 thousand million."""
    shield_torchvision()
    from diffusers import QwenImageTransformer2DModel

    shapes = dict(qwen_image_shapes(60, 3072, 3584))
    state = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    assert sum(each.numel() for each in state.values()) == 20_430_401_088
    with torch.device("meta"):
        published = QwenImageTransformer2DModel()
    config = qwen_image_config(state, "qwen-image")
    assert config == {name: published.config[name] for name in config}
    expected = {name: each.shape for name, each in published.state_dict().items()}
    assert {name: each.shape for name, each in state.items()} == expected


def scheduler() -> Any:  # noqa: ANN401
    """scheduler/scheduler_config.json of Qwen-Image, without the end of its steps."""
    shield_torchvision()
    from diffusers import FlowMatchEulerDiscreteScheduler

    return FlowMatchEulerDiscreteScheduler(
        base_image_seq_len=256,
        base_shift=0.5,
        max_image_seq_len=8192,
        max_shift=0.9,
        use_dynamic_shifting=True,
    )


@pytest.mark.parametrize("cfg", [1.0, 4.0])
def test_img2img_equals_diffusers_pipeline(network: TransformerNetwork, cfg: float) -> None:
    """With guidance each patch's velocity keeps its length."""
    shield_torchvision()
    from diffusers import AutoencoderKLQwenImage, QwenImageImg2ImgPipeline

    text = text_of(2, FEATURES)
    vae = AutoencoderKLQwenImage(base_dim=2)
    nothing = dict.fromkeys(["text_encoder", "tokenizer"])
    pipe = QwenImageImg2ImgPipeline(scheduler(), vae, transformer=network.module, **nothing)  # type: ignore[arg-type]
    pipe.set_progress_bar_config(disable=True)
    result = pipe(
        image=SCENE.source,
        height=64,
        width=96,
        strength=0.7,
        num_inference_steps=5,
        true_cfg_scale=cfg,
        generator=torch.Generator().manual_seed(5),
        prompt_embeds=text.tokens[:1],
        prompt_embeds_mask=torch.ones(1, 5),
        negative_prompt_embeds=text.tokens[1:],
        negative_prompt_embeds_mask=torch.ones(1, 5),
        output_type="latent",
    ).images
    expected = pipe._unpack_latents(result, 64, 96, 8)[:, :, 0]
    times = pipe.scheduler.sigmas[pipe.scheduler.begin_index :]
    noise = latents(*SCENE.source.shape, seed=5)
    found = euler(guided(network, SCENE, text, cfg, patch=2), noise, times)
    assert len(times) < 6
    assert relative(found, expected) < 1e-4
    if cfg > 1:
        free = euler(guided(network, SCENE, text, cfg), noise, times)
        assert relative(free, expected) > 0.05
    assert relative(expected, SCENE.source) > 0.5


def test_the_shift_follows_the_window_as_in_its_scheduler() -> None:
    theirs = scheduler()
    theirs.set_timesteps(sigmas=np.linspace(1.0, 0.1, 10), mu=0.5 + 0.4 * (4096 - 256) / 7936)
    levels = QWEN_IMAGE.levels({}, None, 1024)  # type: ignore[arg-type]
    shift = levels.shift  # type: ignore[attr-defined]
    times = np.linspace(1.0, 0.1, 10)
    expected = theirs.sigmas[:-1].numpy()
    np.testing.assert_allclose(shift * times / (1 + (shift - 1) * times), expected, rtol=1e-6)


def test_the_prompt_is_read_as_by_diffusers_pipeline(tmp_path: Path) -> None:
    """By the whole Qwen2.5-VL, which counts positions of text and of pictures."""
    shield_torchvision()
    import transformers
    from diffusers import QwenImagePipeline

    weights = language_model(width=256, normed=False, biased=True, head=128, heads=2)
    folder = references.save_qwen_tokenizer(tmp_path / "qwen")
    config = transformers.Qwen2_5_VLConfig(
        text_config={
            "vocab_size": weights["model.embed_tokens.weight"].shape[0],
            "hidden_size": 256,
            "intermediate_size": 768,
            "num_hidden_layers": 3,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "rms_norm_eps": 1e-6,
            "bos_token_id": None,
            "eos_token_id": None,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 1e6,
                "mrope_section": [16, 24, 24],
            },
        },
        vision_config={"depth": 1, "hidden_size": 32, "num_heads": 2, "out_hidden_size": 256},
    )
    model = transformers.Qwen2_5_VLForConditionalGeneration(config).eval()
    named = {n.replace("model.", "model.language_model.", 1): each for n, each in weights.items()}
    missing, unexpected = model.load_state_dict(named, strict=False)
    assert all(name.startswith("model.visual.") for name in missing)
    assert not unexpected
    pipe = QwenImagePipeline(
        scheduler=scheduler(),
        vae=None,  # type: ignore[arg-type]
        text_encoder=model,
        tokenizer=references.qwen_tokenizer(folder),
        transformer=None,  # type: ignore[arg-type]
    )
    assert pipe.prompt_template_encode.startswith(BEFORE + "{}")
    parts = {"llm": lambda: {n.removeprefix("model."): each for n, each in weights.items()}}
    encoder = load_text(QWEN_IMAGE.text, parts, tokenizer=folder)
    # Of the real tokenizer it is 34; this one has fewer words.
    pipe.prompt_template_encode_start_idx = len(pipe.tokenizer(BEFORE)["input_ids"])
    for text in ("A photo of a cat, sharp", "a dog"):
        with torch.no_grad():
            expected, _ = pipe.encode_prompt(text, "cpu")
        found, _ = encoder.encode(text)
        assert found.tokens.shape == expected.shape
        assert (found.tokens - expected).abs().max() < 1e-5
        assert expected.std() > 0.1


def test_the_file_and_its_relatives_are_told(tmp_path: Path) -> None:
    shapes = dict(qwen_image_shapes(1, 256, 3584))
    spec = identify(save_head(tmp_path / "m.safetensors", shapes))
    assert (spec.family, spec.prediction, spec.channels) == ("qwen-image", "flow", 16)
    assert (spec.window, spec.multiple, spec.guided, spec.stride) == (1328, 16, False, 8)
    for key, shape, words in (
        ("time_text_embed.addition_t_embedding.weight", (2, 256), "Layered"),
        ("img_in.weight", (256, 68), "68 features"),
        ("txt_in.text_norm.weight", (4,), "Qwen-Image 2.1"),
    ):
        path = save_head(tmp_path / "r.safetensors", shapes | {key: shape})
        with pytest.raises(UnknownCheckpointError, match=words):
            identify(path)
    del shapes["txt_norm.weight"]
    with pytest.raises(UnknownCheckpointError, match="with other blocks"):
        identify(save_head(tmp_path / "o.safetensors", shapes))
