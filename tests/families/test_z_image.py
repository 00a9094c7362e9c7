"""Z-Image against diffusers' pipeline, and against the network written down anew."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.checkpoints import originals
from tests.checkpoints.flow import (
    euler,
    guided,
    latents,
    relative,
    scene_of_latents,
    text_of,
)
from tests.checkpoints.headers import save_head
from tests.checkpoints.layouts.llm import language_model
from tests.checkpoints.layouts.z_image import CHANNELS, z_image_shapes, z_image_transformer
from tests.checkpoints.originals_z_image import z_image
from tests.families.building import how, of_latents, small_vae, transformer_of
from tests.text import references
from tileup.checkpoints.find import identified, identify
from tileup.contracts import Box
from tileup.errors import ModelError, UnknownCheckpointError
from tileup.families.transformer import TransformerNetwork
from tileup.families.z_image import (
    PLACES,
    UNUSED,
    Z_IMAGE_TURBO,
    build_z_image,
    z_image_config,
    z_image_rules,
)
from tileup.plan.noise_levels import FlowLevels
from tileup.tensors.renaming import converted, targets
from tileup.text.encoder import load_text
from tileup.torchvision_shield import shield_torchvision

FEATURES = 48
SCENE = scene_of_latents(latents(1, CHANNELS, 8, 12, seed=7))


def load(tensors: Mapping[str, Tensor], **options: Any) -> TransformerNetwork:  # noqa: ANN401
    return transformer_of(build_z_image(tensors, how(**options)))


@pytest.fixture(scope="module")
def network() -> TransformerNetwork:
    return load(z_image_transformer())


@pytest.mark.parametrize(("sides", "length"), [((6, 10), 5), ((16, 16), 40)], ids=["padded", "64"])
def test_the_velocity_equals_that_of_a_separate_implementation(
    sides: tuple[int, int], length: int
) -> None:
    tensors = {name: each.requires_grad_() for name, each in z_image_transformer().items()}
    used = {name: each for name, each in tensors.items() if name != UNUSED}
    x, sigma = latents(2, CHANNELS, *sides), torch.tensor([0.1, 4.0])
    text = text_of(2, FEATURES, length=length)
    expected = z_image(used, x, sigma / (1 + sigma), text.tokens)
    found = load(tensors)(x, sigma, [Box(0, 0, *sides)] * 2, text, SCENE)
    assert relative(found, expected.detach()) < 1e-4
    filled = {"cap_pad_token"} | ({"x_pad_token"} if sides == (6, 10) else set())
    assert originals.idle(expected, used) == {"x_pad_token", "cap_pad_token"} - filled


def test_names_are_those_of_diffusers_conversion() -> None:
    """All blocks in all their rows, but in one column: converters only move rows."""
    shield_torchvision()
    from diffusers.loaders import single_file_utils

    from tests.checkpoints.layouts.weights import random_weights

    thin = [
        (name, (shape[0], 1) if name.endswith(".weight") and len(shape) == 2 else shape)
        for name, shape in z_image_shapes(30, 2, 384, 2560)
    ]
    tensors = random_weights(thin, seed=0)
    kept = {name: each for name, each in tensors.items() if name != UNUSED}
    found, _ = converted(kept, z_image_rules(kept), "z-image")
    expected = single_file_utils.convert_z_image_transformer_checkpoint_to_diffusers(dict(tensors))
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], each) for name, each in expected.items())
    layers = {
        name.removesuffix(".weight")
        for name, each in found.items()
        if each.ndim == 2 and name.endswith(".weight")
    }
    placed = dict(targets(z_image_rules(layers), layers))
    assert {each for target in placed.values() for each in target.modules} == layers


def test_full_size_has_the_published_settings() -> None:
    """transformer/config.json of Z-Image-Turbo, and 6.15 thousand million weights."""
    shield_torchvision()
    from diffusers import ZImageTransformer2DModel

    shapes = dict(z_image_shapes(30, 2, 3840, 2560))
    tensors = {n: torch.empty(s, device="meta") for n, s in shapes.items() if n != UNUSED}
    assert sum(each.numel() for each in tensors.values()) == 6_154_908_736
    state, _ = converted(tensors, z_image_rules(tensors), "z-image")
    with torch.device("meta"):
        published = ZImageTransformer2DModel(axes_lens=[1536, 512, 512])
    config = z_image_config(state, "z-image")
    assert config == {name: published.config[name] for name in config}
    assert {name: each.shape for name, each in published.state_dict().items()} == {
        name: each.shape for name, each in state.items()
    }


def pipeline(network: TransformerNetwork) -> Any:  # noqa: ANN401
    from diffusers import FlowMatchEulerDiscreteScheduler, ZImageImg2ImgPipeline

    nothing, vae = dict.fromkeys(["text_encoder", "tokenizer"]), small_vae(CHANNELS)
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    pipe = ZImageImg2ImgPipeline(scheduler, vae, transformer=network.module, **nothing)  # type: ignore[arg-type]
    return of_latents(pipe, CHANNELS)


@pytest.mark.parametrize("cfg", [1.0, 4.0])
def test_img2img_equals_diffusers_pipeline(network: TransformerNetwork, cfg: float) -> None:
    """Whose guidance is one less: it is added to the prompt's velocity."""
    pipe, text = pipeline(network), text_of(2, FEATURES)
    result = pipe(
        image=SCENE.source,
        height=64,
        width=96,
        strength=0.7,
        num_inference_steps=5,
        guidance_scale=cfg - 1,
        generator=torch.Generator().manual_seed(5),
        prompt_embeds=[text.tokens[0]],
        negative_prompt_embeds=[text.tokens[1]],
        output_type="latent",
    ).images
    times = pipe.scheduler.sigmas[pipe.scheduler.begin_index :]
    found = euler(guided(network, SCENE, text, cfg), latents(*SCENE.source.shape, seed=5), times)
    assert len(times) < 6
    assert relative(found, result) < 1e-4
    assert relative(result, SCENE.source) > 0.5


def test_weights_of_8_bits_are_told_the_time_as_others() -> None:
    """The network casts waves of time to what that layer says that it is stored in."""
    small = {
        n: e.to(torch.float8_e4m3fn) if e.ndim == 2 else e for n, e in z_image_transformer().items()
    }
    exact = {name: each.float() for name, each in small.items()}
    x, sigma, box = latents(1, CHANNELS, 4, 4), torch.ones(1), [Box(0, 0, 4, 4)]
    found, expected = (
        load(each)(x, sigma, box, text_of(1, FEATURES), SCENE) for each in (small, exact)
    )
    assert relative(found, expected) < 1e-4


def test_the_prompt_is_read_as_by_diffusers_pipeline(tmp_path: Path) -> None:
    shield_torchvision()
    from diffusers import ZImagePipeline

    weights = language_model()
    folder = references.save_qwen_tokenizer(tmp_path / "qwen")
    sizes = {"num_hidden_layers": 3, "num_attention_heads": 2, "num_key_value_heads": 1}
    model = references.language_model(
        weights, "Qwen3", **sizes, head_dim=32, rope_theta=1e6, rms_norm_eps=1e-6
    )
    pipe = ZImagePipeline(
        scheduler=references.scheduler(flow=True),
        vae=None,  # type: ignore[arg-type]
        text_encoder=model,  # type: ignore[arg-type]
        tokenizer=references.qwen_tokenizer(folder),
        transformer=None,  # type: ignore[arg-type]
    )
    prompts = ("A photo of a cat, sharp; it's 12 o'clock\n\n two  blanks", "a dog")
    with torch.no_grad():
        theirs = pipe.encode_prompt(prompts[0], "cpu", True, prompts[1])
    parts = {"llm": lambda: {n.removeprefix("model."): each for n, each in weights.items()}}
    encoder = load_text(Z_IMAGE_TURBO.text, parts, tokenizer=folder, features=64)
    prompt, negative = encoder.encode(*prompts)
    assert negative is not None
    for found, (expected,) in zip((prompt, negative), theirs, strict=True):
        assert found.pooled is None
        assert found.tokens.shape == (1, *expected.shape)
        assert (found.tokens[0] - expected).abs().max() < 1e-5
        assert expected.std() > 0.1
    with pytest.raises(ModelError, match="64 wide, the network takes 48"):
        load_text(Z_IMAGE_TURBO.text, parts, tokenizer=folder, features=48).encode("x")


FULL = dict(z_image_shapes(2, 1, 256, 2560))


@pytest.mark.parametrize(
    ("name", "metadata", "family", "told_by"),
    [
        ("z_image_turbo_bf16", {}, "z-image-turbo", "its name"),
        ("mine", {}, "z-image-turbo", "default"),
        ("z_image_bf16", {}, "z-image", "its name"),
        ("Z-Image", {}, "z-image", "its name"),
        ("zimage-base-portraits", {}, "z-image", "its name"),
        ("mine", {"modelspec.title": "Z-Image Base, tuned"}, "z-image", "its metadata"),
        ("z_image", {"ss_base_model_version": "zimage_turbo"}, "z-image-turbo", "its metadata"),
    ],
)
def test_the_file_is_told(
    tmp_path: Path, name: str, metadata: dict[str, str], family: str, told_by: str
) -> None:
    path = save_head(tmp_path / f"{name}.safetensors", FULL, metadata=metadata)
    known = identified(path)
    assert known.found is not None
    assert (known.spec.family, known.spec.prediction, known.spec.channels) == (family, "flow", 16)
    assert (known.spec.window, known.spec.multiple, known.spec.guided) == (1024, 16, False)
    assert known.spec.levels == FlowLevels(6.0 if family == "z-image" else 3.0)
    assert told_by in known.found.variant


def test_diffusers_names_and_relatives_are_told(tmp_path: Path) -> None:
    tensors = {n: torch.empty(s, device="meta") for n, s in FULL.items() if n != UNUSED}
    theirs, _ = converted(tensors, z_image_rules(tensors), "z-image")
    shapes = {name: tuple(each.shape) for name, each in theirs.items()}
    assert identify(save_head(tmp_path / "d.safetensors", shapes)).family == "z-image-turbo"
    omni = FULL | {"siglip_embedder.0.weight": (4,)}
    with pytest.raises(UnknownCheckpointError, match="Omni or Edit"):
        identify(save_head(tmp_path / "o.safetensors", omni))
    odd = FULL | {"x_embedder.weight": (256, 68)}
    with pytest.raises(UnknownCheckpointError, match="68 features"):
        identify(save_head(tmp_path / "p.safetensors", odd))


def test_windows_have_positions_for_8192_pixels() -> None:
    assert min(PLACES[1:]) * 16 == 8192
