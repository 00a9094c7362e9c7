"""Every family is told by its published layout, at any width and depth, and others are named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.checkpoints import headers
from tests.checkpoints.headers import NET, save_head, spread, under
from tests.checkpoints.layouts.flux2 import flux2_shapes
from tests.checkpoints.layouts.lumina2 import lumina2_shapes
from tests.checkpoints.layouts.qwen_image import qwen_image_shapes
from tests.checkpoints.layouts.z_image import z_image_shapes
from tileup.checkpoints.find import identified, identify
from tileup.errors import ExitCode, ModelError, UnknownCheckpointError, UsageError
from tileup.plan.noise_levels import FlowLevels, WindowFlowLevels, training_levels

FULL_SD1 = {"width": 320, "context": 768}
FULL_SDXL = {"width": 320}

FAMILIES = {
    "sd1": (headers.sd1_file(), ("sd1", "eps", 4, 512, 64)),
    "sd1, full width": (headers.sd1_file(width=320), ("sd1", "eps", 4, 512, 64)),
    "sd1, three levels": (
        headers.sd1_file(multiples=(1, 2, 2), depths=(1, 1, 0)),
        ("sd1", "eps", 4, 512, 32),
    ),
    "sd1, narrow text": (headers.sd1_file(context=48), ("sd1", "eps", 4, 512, 64)),
    "sd1, network alone": (under(NET, headers.unet()), ("sd1", "eps", 4, 512, 64)),
    "sd1, bare names": (headers.unet(), ("sd1", "eps", 4, 512, 64)),
    "sd1, bare and narrow": (headers.unet(context=48), ("sd1", "eps", 4, 512, 64)),
    "sdxl": (headers.sdxl_file(), ("sdxl", "eps", 4, 1024, 32)),
    "sdxl, full width": (headers.sdxl_file(width=320), ("sdxl", "eps", 4, 1024, 32)),
    "sdxl, narrow text": (
        headers.sdxl_file(context=96, vector=64 + 6 * 256),
        ("sdxl", "eps", 4, 1024, 32),
    ),
    "sdxl, bare and narrow": (
        headers.unet(**{**headers.SDXL, "context": 96, "vector": 64 + 6 * 256}),
        ("sdxl", "eps", 4, 1024, 32),
    ),
    "refiner": (headers.refiner_file(), ("sdxl-refiner", "eps", 4, 1024, 64)),
    "refiner, narrow text": (
        headers.refiner_file(context=64, vector=64 + 5 * 256),
        ("sdxl-refiner", "eps", 4, 1024, 64),
    ),
    "refiner, bare and narrow": (
        headers.unet(**{**headers.REFINER, "context": 64, "vector": 64 + 5 * 256}),
        ("sdxl-refiner", "eps", 4, 1024, 64),
    ),
    "sd3": (headers.sd3_file(), ("sd3", "flow", 16, 1024, 16)),
    "sd3, network alone": (headers.sd3(), ("sd3", "flow", 16, 1024, 16)),
    "sd3.5": (headers.sd3_file(dual=True), ("sd3", "flow", 16, 1024, 16)),
    "flux dev": (headers.flux(), ("flux-dev", "flow", 16, 1024, 16)),
    "flux dev, prefixed": (under(NET, headers.flux()), ("flux-dev", "flow", 16, 1024, 16)),
    "flux dev, one block": (
        headers.flux(doubles=1, singles=1),
        ("flux-dev", "flow", 16, 1024, 16),
    ),
    "flux schnell": (headers.flux(guidance=False), ("flux-schnell", "flow", 16, 1024, 16)),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_is_told_by_its_tensors(tmp_path: Path, name: str) -> None:
    shapes, expected = FAMILIES[name]
    spec = identify(save_head(tmp_path / "my model.safetensors", shapes))
    assert spec.name == "my model"
    assert spec.stride == 8
    found = (spec.family, spec.prediction, spec.channels, spec.window, spec.multiple)
    assert found == expected


NETWORKS: dict[str, headers.Shapes] = {
    "sd1": headers.unet(),
    "sd3": headers.sd3(),
    "flux-dev": headers.flux(),
    "z-image-turbo": dict(z_image_shapes(1, 1, 256, 2560)),
    "lumina2": dict(lumina2_shapes(1, 1, 192, 96, 2304)),
    "qwen-image": dict(qwen_image_shapes(1, 256, 3584)),
    "flux2-klein": dict(flux2_shapes(1, 1, False, 256, 7680)),
}
PREFIXES = ("model.diffusion_model.", "diffusion_model.", "transformer.", "unet.", "net.", "model.")


@pytest.mark.parametrize("family", NETWORKS)
def test_a_network_is_told_behind_every_usual_prefix(tmp_path: Path, family: str) -> None:
    """As whole checkpoints have it, ComfyUI, diffusers, trainers of video models, and torch."""
    for prefix in PREFIXES:
        path = save_head(tmp_path / "m.safetensors", under(prefix, NETWORKS[family]))
        known = identified(path)
        assert known.found is not None
        assert (known.spec.family, known.found.prefix) == (family, prefix)


def test_noise_levels_are_those_of_the_family(tmp_path: Path) -> None:
    def levels(name: str) -> object:
        return identify(save_head(tmp_path / "m.safetensors", FAMILIES[name][0])).levels

    assert levels("sd1") == levels("sdxl") == training_levels()
    assert levels("sd3") == FlowLevels(3.0)
    assert levels("flux schnell") == FlowLevels(1.0)
    dev = levels("flux dev")
    assert isinstance(dev, WindowFlowLevels)
    assert dev.shift == pytest.approx(np.exp(1.15))


@pytest.mark.parametrize(
    ("deviation", "prediction", "window"), [(0.088, "eps", 512), (0.092, "v", 768)]
)
@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
def test_sd2_is_told_by_one_bias(
    tmp_path: Path, deviation: float, prediction: str, window: int, dtype: str
) -> None:
    values = spread(deviation)
    path = save_head(tmp_path / "m.safetensors", headers.sd2_file(), values=values, kind=dtype)
    known = identified(path)
    assert (known.spec.family, known.spec.prediction, known.spec.window) == (
        "sd2",
        prediction,
        window,
    )
    assert "spread of one bias" in known.prediction.told_by


@pytest.mark.parametrize("values", [None, spread(7.0), spread(float("nan"))])
def test_where_nothing_tells_what_sd2_predicts_the_flag_is_asked_for(
    tmp_path: Path, values: dict[str, np.ndarray] | None
) -> None:
    path = save_head(tmp_path / "m.safetensors", headers.sd2_file(), values=values)
    with pytest.raises(ModelError, match="--prediction eps or --prediction v") as caught:
        identify(path)
    assert caught.value.exit_code == ExitCode.BAD_MODEL
    assert (identify(path, "v").prediction, identify(path, "v").window) == ("v", 768)
    assert (identify(path, "eps").prediction, identify(path, "eps").window) == ("eps", 512)


def test_where_the_telling_bias_is_absent_the_flag_is_asked_for(tmp_path: Path) -> None:
    shapes = headers.sd2_file(multiples=(1, 2), depths=(1, 0))
    assert headers.SD2_BIAS not in shapes
    path = save_head(tmp_path / "m.safetensors", shapes)
    with pytest.raises(ModelError, match=r"has no tensor .* --prediction"):
        identify(path)


def test_metadata_tells_what_sd2_predicts(tmp_path: Path) -> None:
    for key, word, prediction in (
        ("modelspec.prediction_type", "v", "v"),
        ("modelspec.prediction_type", "epsilon", "eps"),
        ("modelspec.architecture", "stable-diffusion-v2-768-v", "v"),
        ("modelspec.architecture", "stable-diffusion-v2-512", "eps"),
    ):
        path = save_head(tmp_path / "m.safetensors", headers.sd2_file(), metadata={key: word})
        assert identify(path).prediction == prediction


def test_markers_of_sdxl(tmp_path: Path) -> None:
    marked = headers.sdxl_file() | {"v_pred": (0,)}
    spec = identify(save_head(tmp_path / "v.safetensors", marked))
    assert (spec.family, spec.prediction) == ("sdxl", "v")
    assert spec.levels == training_levels()
    spec = identify(save_head(tmp_path / "z.safetensors", marked | {"ztsnr": (0,)}))
    assert spec.prediction == "v"
    assert spec.levels == training_levels(zero_snr=True)
    assert identify(tmp_path / "z.safetensors", "eps").levels == spec.levels
    plain = save_head(tmp_path / "p.safetensors", headers.sdxl_file())
    told = identify(plain, "v-zsnr")
    assert (told.prediction, told.levels) == ("v", spec.levels)
    assert identify(plain, "v").levels == training_levels()


def test_inpainting_models_are_told_from_plain_ones(tmp_path: Path) -> None:
    for family, shapes in (
        ("sd1", headers.sd1_file(inputs=9)),
        ("sd2", headers.sd2_file(inputs=9)),
        ("sdxl", headers.sdxl_file(inputs=9)),
    ):
        known = identified(save_head(tmp_path / "m.safetensors", shapes), "eps")
        assert (known.spec.family, known.spec.channels) == (family, 4)
        assert known.found is not None
        assert known.found.variant.endswith(" for inpainting")


@pytest.mark.parametrize("asked", ["eps", "v", "x0"])
def test_the_flag_goes_before_the_file(tmp_path: Path, asked: str) -> None:
    shapes = headers.sdxl_file() | {"v_pred": (0,)}
    known = identified(save_head(tmp_path / "m.safetensors", shapes), asked)
    assert (known.spec.prediction, known.prediction.told_by) == (asked, "--prediction")


def test_a_unet_is_no_flow(tmp_path: Path) -> None:
    path = save_head(tmp_path / "m.safetensors", headers.sdxl_file())
    with pytest.raises(UsageError, match="UNet predicts eps, v or x0"):
        identify(path, "flow")


@pytest.mark.parametrize("name", ["sd3", "flux dev", "flux schnell"])
def test_a_flow_is_nothing_else(tmp_path: Path, name: str) -> None:
    path = save_head(tmp_path / "m.safetensors", FAMILIES[name][0])
    assert identify(path, "flow") == identify(path)
    with pytest.raises(UsageError, match="rectified flow"):
        identify(path, "eps")


def prefixed(key: str, **more: tuple[int, ...]) -> headers.Shapes:
    return {NET + key: (4, 4), f"{NET}other.weight": (4, 4), **more}


XL = headers.SDXL | {"context": 2048, "vector": 2816}
REFUSED = {
    "pix2pix": (headers.sd1_file(inputs=8), "InstructPix2Pix"),
    "upscaler": (headers.sd2_file(inputs=7), "x4 upscaler"),
    "depth": (headers.sd2_file(inputs=5), "depth-guided"),
    "odd input": (headers.sd1_file(inputs=6), "6 channels instead of 4"),
    "unclip": (headers.sd2_file(vector=2048), "UnCLIP"),
    "no text": (
        under(NET, headers.unet(depths=(0, 0, 0, 0), middle=0)),
        "takes no text",
    ),
    "ssd-1b": (headers.sdxl_file(depths=(0, 2, 4), middle=0), "pruned .*SSD-1B"),
    "svd": (
        headers.sd2_file() | {f"{NET}input_blocks.1.1.time_stack.0.norm1.weight": (4,)},
        "Stable Video Diffusion",
    ),
    "playground": (headers.sdxl_file() | {"edm_mean": (4,), "edm_std": (4,)}, "Playground 2.5"),
    "cosxl": (headers.sdxl_file() | {"edm_vpred.sigma_max": ()}, "CosXL"),
    "flux fill": (headers.flux(inputs=384), "FLUX.1 Fill"),
    "flux canny": (headers.flux(inputs=128), "FLUX.1 Canny or Depth"),
    "flux odd": (headers.flux(inputs=68), "68 features"),
    "krea 2": ({"txtfusion.projector.weight": (1, 12)}, "Krea 2"),
    "krea 2, diffusers": ({"text_fusion.projector.weight": (1, 12)}, "Krea 2"),
    "wan": (prefixed("head.modulation"), "Wan"),
    "ltx": (
        prefixed("patchify_proj.weight", **{f"{NET}adaln_single.linear.weight": (4, 4)}),
        "LTX-V",
    ),
    "ltx-2": (
        prefixed(
            "av_ca_a2v_gate_adaln_single.emb.timestep_embedder.linear_1.weight",
            **{f"{NET}patchify_proj.weight": (4, 4)},
        ),
        "LTX-2",
    ),
    "hidream": (
        {
            "double_stream_blocks.0.block.adaLN_modulation.1.bias": (4,),
            "caption_projection.0.linear.weight": (4, 4),
        },
        "HiDream",
    ),
    "bria": ({"caption_projection.0.linear.weight": (4, 4)}, "Bria FIBO"),
    "cosmos": ({"net.x_embedder.proj.1.weight": (4, 4)}, "Cosmos"),
    "anima": (
        {
            "net.x_embedder.proj.1.weight": (4, 4),
            "net.llm_adapter.blocks.0.cross_attn.q_proj.weight": (4, 4),
        },
        "Anima",
    ),
    "omnigen 2": (
        {
            "ref_image_patch_embedder.weight": (4, 4),
            "time_caption_embed.caption_embedder.0.weight": (4,),
        },
        "OmniGen2",
    ),
    "flux.3": (prefixed("early_stream_modulations.image.lin.weight"), "FLUX.3"),
    "kandinsky 5": (
        {"visual_transformer_blocks.0.cross_attention.to_query.weight": (4, 4)},
        "Kandinsky 5",
    ),
    "ideogram": ({"llm_cond_proj.weight": (4, 4)}, "Ideogram 4"),
    "ernie": ({"layers.0.mlp.linear_fc2.weight": (4, 4)}, "ERNIE-Image"),
    "glm": ({"prior_token_embedding.weight": (4, 4)}, "GLM-Image"),
    "nucleus": (
        {
            "transformer_blocks.0.encoder_proj.weight": (4, 4),
            "transformer_blocks.0.img_mod.1.weight": (4, 4),
        },
        "Nucleus-Image",
    ),
    "sana": (prefixed("blocks.0.cross_attn.q_linear.weight"), "Sana"),
    "flux without clip": (
        {n: s for n, s in headers.flux().items() if not n.startswith("vector_in.")},
        "without CLIP",
    ),
    "cascade": (prefixed("clip_txt_mapper.weight"), "Stable Cascade"),
    "cascade, bare": ({"clip_mapper.weight": (4, 4)}, "Stable Cascade"),
    "auraflow": (prefixed("double_layers.0.attn.w1q.weight"), "AuraFlow"),
    "hunyuan dit": (prefixed("mlp_t5.0.weight"), "HunyuanDiT"),
    "hunyuan video": (
        prefixed("txt_in.individual_token_refiner.blocks.0.norm1.weight"),
        "HunyuanVideo",
    ),
    "pixart": ({"t_block.1.weight": (4, 4)}, "PixArt"),
    "sd3 of other patches": (
        headers.sd3() | {"x_embedder.proj.weight": (64, 16, 4, 4)},
        "patches of 4x4",
    ),
    "lora of kohya": (
        {f"lora_unet_x{n}.lora_{side}.weight": (4, 4) for n in range(4) for side in ("up", "down")},
        "a LoRA",
    ),
    "lora of peft": (
        {f"unet.x.{n}.lora_{side}.weight": (4, 4) for n in range(4) for side in "AB"},
        "a LoRA.*--lora",
    ),
    "controlnet": (
        under("control_model.", headers.unet() | {"zero_convs.0.0.weight": (4, 4, 1, 1)}),
        "a ControlNet.*--control",
    ),
    "controlnet, bare": (
        {
            name: shape
            for name, shape in headers.unet().items()
            if not name.startswith(("output_blocks.", "out."))
        }
        | {"zero_convs.0.0.weight": (4, 4, 1, 1)},
        "a ControlNet",
    ),
    "controlnet, diffusers": (
        {
            "conv_in.weight": (32, 4, 3, 3),
            "controlnet_cond_embedding.conv_in.weight": (16, 3, 3, 3),
        },
        "a ControlNet",
    ),
    "controlnet of a flow, with all that its network has": (
        dict(qwen_image_shapes(1, 256, 3584)) | {"controlnet_blocks.0.weight": (256, 256)},
        "a ControlNet",
    ),
    "controlnet of Z-Image": ({"control_layers.0.after_proj.weight": (4, 4)}, "a ControlNet"),
    "vae": (headers.vae(), "a VAE alone.*--vae"),
    "vae, prefixed": (under("first_stage_model.", headers.vae()), "a VAE alone"),
    "clip": (headers.clip(), "a CLIP text encoder alone"),
    "open clip": (headers.open_clip(), "a CLIP text encoder alone"),
    "t5": (headers.t5(), "a T5 text encoder alone.*--t5"),
    "esrgan": (
        {"conv_first.weight": (64, 3, 3, 3), "body.0.rdb1.conv1.weight": (32, 64, 3, 3)},
        "such as an ESRGAN.*--upscaler",
    ),
    "old esrgan": ({"model.1.sub.0.RDB1.conv1.0.weight": (32, 64, 3, 3)}, "such as an ESRGAN"),
    "inversion": ({"emb_params": (2, 768)}, "textual inversion"),
    "inversion of sdxl": ({"clip_l": (2, 768), "clip_g": (2, 1280)}, "textual inversion"),
    "ip-adapter": ({"image_proj.proj.weight": (4, 4), "ip_adapter.1.to_k_ip.weight": (4, 4)}, "IP"),
    "language model": (
        {"model.embed_tokens.weight": (9, 4), "model.layers.0.self_attn.q_proj.weight": (4, 4)},
        "a language model",
    ),
    "quantised": (
        headers.flux() | {"img_in.weight.quant_state.bitsandbytes__nf4": (4,)},
        "in the format bitsandbytes NF4",
    ),
    "nothing known": ({"weight": (3, 3)}, "not a checkpoint that tileup can load"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_loaded_is_named(tmp_path: Path, name: str) -> None:
    shapes, words = REFUSED[name]
    path = save_head(tmp_path / "m.safetensors", shapes)
    with pytest.raises(UnknownCheckpointError, match=words) as caught:
        identify(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    assert caught.value.exit_code == ExitCode.BAD_MODEL


@pytest.mark.parametrize(
    ("name", "key", "shape", "words"),
    [
        ("sd1", f"{NET}input_blocks.0.0.weight", (3,), "has the shape"),
        ("sd1", f"{NET}input_blocks.0.0.weight", (3, 0, 3, 3), "has the shape"),
        ("sd3", f"{NET}x_embedder.proj.weight", (3, 16, 2), "has the shape"),
        ("sd3", f"{NET}context_embedder.weight", None, "is incomplete: it lacks"),
        ("flux dev", "img_in.weight", (4,), "has the shape"),
        ("flux dev", "txt_in.weight", None, "is incomplete: it lacks"),
    ],
)
def test_a_deciding_tensor_of_the_wrong_shape_is_named(
    tmp_path: Path, name: str, key: str, shape: tuple[int, ...] | None, words: str
) -> None:
    shapes = dict(FAMILIES[name][0])
    assert key in shapes
    del shapes[key]
    if shape is not None:
        shapes[key] = shape
    path = save_head(tmp_path / "m.safetensors", shapes)
    with pytest.raises(ModelError, match=words) as caught:
        identify(path)
    assert key in str(caught.value)


@pytest.mark.parametrize(
    ("name", "metadata", "family", "variant"),
    [
        ("flux1-krea-dev_fp8_scaled", {}, "flux-krea", "FLUX.1 Krea dev (by its name)"),
        ("flux1-dev-kontext", {}, "flux-kontext", "FLUX.1 Kontext dev (by its name)"),
        ("mine", {"modelspec.title": "FLUX.1 Krea [dev]"}, "flux-krea", "(by its metadata)"),
        ("mine", {}, "flux-dev", "FLUX.1 dev"),
    ],
)
def test_krea_and_kontext_are_told_from_dev_where_the_file_says_so(
    tmp_path: Path, name: str, metadata: dict[str, str], family: str, variant: str
) -> None:
    path = save_head(tmp_path / f"{name}.safetensors", headers.flux(), metadata=metadata)
    known = identified(path)
    assert known.found is not None
    assert known.spec.family == family
    assert variant in known.found.variant
    schnell = headers.flux(guidance=False)
    plain = identify(save_head(tmp_path / "krea.safetensors", schnell))
    assert plain.family == "flux-schnell"
