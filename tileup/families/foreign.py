"""Files that tileup cannot use as a model, told by their keys so that a refusal can name them.

Facts about key names are those of the published files; the table in diffusers'
loaders/single_file_utils.py (Apache-2.0) has many of them too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tileup.codec.causal_layout import ORIGINAL
from tileup.codec.vae_layout import LATENTS_IN
from tileup.families.control_signs import QWEN_BLOCKS, QWEN_STREAM, Z_IMAGE_LAYERS
from tileup.tensors.header import TensorInfo

Tensors = Mapping[str, TensorInfo]

PREFIXES = (
    "model.diffusion_model.",
    "diffusion_model.",
    "model.model.",
    "unet.",
    "transformer.",
    "net.",
    "model.",
    "",
)
"""What the names of a network begin with, in whole checkpoints and in files of it alone."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What a file is."""

    name: str
    """For programs: lora, controlnet, vae, clip, t5, ..."""
    title: str
    """For people, with an article: `a LoRA`."""
    advice: str = ""
    """What to do with it."""


def _ends(name: str, *ends: str) -> bool:
    return any(name == end or name.endswith(f".{end}") for end in ends)


def has(tensors: Tensors, *keys: str) -> bool:
    """Whether one of the keys is there, after one of the usual prefixes."""
    return any(prefix + key in tensors for prefix in PREFIXES for key in keys)


def _share(tensors: Tensors, *words: str) -> float:
    """Share of the names that contain one of the words."""
    named = sum(any(word in name for word in words) for name in tensors)
    return named / max(len(tensors), 1)


NETWORKS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("Anima", ("llm_adapter.blocks.0.cross_attn.q_proj.weight",)),
    (
        "LTX-2",
        (
            "av_ca_a2v_gate_adaln_single.emb.timestep_embedder.linear_1.weight",
            "av_cross_attn_video_a2v_gate.emb.timestep_embedder.linear_1.weight",
        ),
    ),
    ("LTX-Video", ("patchify_proj.weight",)),
    ("OmniGen2", ("ref_image_patch_embedder.weight",)),
    ("Ideogram 4", ("llm_cond_proj.weight", "embed_image_indicator.weight")),
    ("Kandinsky 5", ("visual_transformer_blocks.0.cross_attention.to_query.weight",)),
    ("Nucleus-Image", ("transformer_blocks.0.encoder_proj.weight",)),
    ("GLM-Image", ("prior_token_embedding.weight", "glyph_projector.net.0.proj.weight")),
    ("ERNIE-Image", ("layers.0.mlp.linear_fc2.weight",)),
    ("ACE-Step", ("genre_embedder.weight", "layers.0.cross_attn_norm.weight")),
    (
        "FLUX.3",
        (
            "early_stream_modulations.image.lin.weight",
            "early_stream_modulations.image.linear.weight",
        ),
    ),
    (
        "HunyuanVideo or HunyuanImage",
        (
            "txt_in.individual_token_refiner.blocks.0.adaLN_modulation.1.bias",
            "txt_in.individual_token_refiner.blocks.0.norm1.weight",
            "context_embedder.token_refiner.refiner_blocks.0.norm1.weight",
        ),
    ),
    ("HunyuanDiT", ("mlp_t5.0.weight", "text_embedding_padding")),
    (
        "Stable Cascade",
        (
            *("clip_txt_mapper.weight", "clip_mapper.weight", "effnet_mapper.0.weight"),
            "clip_txt_pooled_mapper.weight",
        ),
    ),
    (
        "AuraFlow",
        (
            "double_layers.0.attn.w1q.weight",
            "double_layers.0.attn.w2q.weight",
            "joint_transformer_blocks.0.attn.add_q_proj.weight",
        ),
    ),
    (
        "PixArt",
        ("t_block.1.weight", "adaln_single.linear.weight", "adaln_single.emb.resolution_embedder"),
    ),
    ("Sana", ("blocks.0.cross_attn.q_linear.weight", "caption_norm.weight")),
    ("Krea 2", ("txtfusion.projector.weight", "text_fusion.projector.weight")),
    ("Qwen-Image 2.1", ("txt_in.text_norm.weight",)),
    ("Wan", ("head.modulation", "blocks.0.attn1.norm_q.weight")),
    ("Mochi", ("t5_yproj.weight", "time_embed.caption_proj.weight")),
    ("HiDream", ("double_stream_blocks.0.block.adaLN_modulation.1.bias",)),
    ("Bria FIBO", ("caption_projection.0.linear.weight",)),
    ("Cosmos", ("x_embedder.proj.1.weight", "time_embed.t_embedder.linear_1.weight")),
    (
        "Stable Audio",
        (
            *("transformer.rotary_pos_emb.inv_freq", "rotary_pos_emb.inv_freq"),
            "cross_attention_proj.0.weight",
        ),
    ),
    (
        "Kandinsky",
        (
            *("encoder_hid_proj.image_embeds.weight", "add_embedding.image_norm.weight"),
            "add_time_condition.attention.to_k.weight",
        ),
    ),
    ("PRX", ("blocks.0.attention.img_qkv_proj.weight",)),
    ("CogVideoX or CogView", ("patch_embed.text_proj.weight",)),
    ("LTX-Video", ("caption_projection.linear_1.weight",)),
    ("Kolors", ("encoder_hid_proj.weight",)),
    ("Playground 2.5", ("edm_mean", "edm_std")),
    ("CosXL (EDM v-prediction)", ("edm_vpred.sigma_max",)),
)
"""Whole networks of other families, and keys that only they have."""


def foreign_network(tensors: Tensors) -> str | None:
    """The family of a network that tileup has no adapter for, or None."""
    for name, keys in NETWORKS:
        if has(tensors, *keys):
            return name
    if any("time_stack" in name or "temporal_transformer_blocks" in name for name in tensors):
        return "Stable Video Diffusion"
    return None


def _lora(tensors: Tensors) -> bool:
    words = (".lora_up.", ".lora_down.", ".lora_A", ".lora_B", ".lora.up.", ".lora.down.")
    other = (".hada_w", ".lokr_w", ".oft_blocks", ".oft_diag", "lora_unet_", "lora_te", "lycoris_")
    whole = sum(name.endswith((".diff", ".diff_b", ".w_norm", ".b_norm")) for name in tensors)
    return _share(tensors, *words, *other) + whole / max(len(tensors), 1) >= 0.3


def _lora_with(*words: str) -> Callable[[Tensors], bool]:
    """Whether a file is a LoRA with such names in it."""
    return lambda tensors: _lora(tensors) and _share(tensors, *words) > 0


_WITH_LORA = "give the model it was made for with -m and this file with --lora"
_LORAS = {
    "a DoRA": (".dora_scale", "lora_magnitude_vector"),
    "a LoHa": (".hada_w",),
    "a LoKr": (".lokr_w",),
    "a LoRA": (".lora", ".alpha"),
    "a file of differences, as LoRA files have them": ("",),
}
"""LoRA and its relatives, and words in the names that only they have; the first that fits counts.
"""


def _controlnet(tensors: Tensors) -> bool:
    return (
        any("zero_convs." in name or "input_hint_block." in name for name in tensors)
        or any("controlnet_cond_embedding." in name for name in tensors)
        or any(
            word in name
            for name in tensors
            for word in ("controlnet_down_blocks.", "controlnet_blocks.", "control_layers.")
        )
        or any(name.startswith("control_model.") for name in tensors)
    )


_UNUSED_CONTROL = (
    "tileup has no use for these: a lower --denoise holds their model to the picture, and --control"
    " takes those of SD 1, SD 2, SDXL, FLUX.1 and SD 3"
)


UNUSED_CONTROLS = tuple(
    Kind("controlnet", f"a ControlNet of {family}", _UNUSED_CONTROL)
    for family in ("Z-Image", "Qwen-Image")
)
"""ControlNets of families that are not controlled."""


def _control_of_z_image(tensors: Tensors) -> bool:
    return any(name.removeprefix("transformer.").startswith(Z_IMAGE_LAYERS) for name in tensors)


def _control_of_qwen(tensors: Tensors) -> bool:
    return QWEN_STREAM in tensors and any(name.startswith(QWEN_BLOCKS) for name in tensors)


VAE_SIGNS = (LATENTS_IN, ORIGINAL.sign)
"""Tensors of which a VAE has one."""


def _vae(tensors: Tensors) -> bool:
    return any(_ends(name, *VAE_SIGNS) for name in tensors)


def _t5(tensors: Tensors) -> bool:
    return any(".layer.0.SelfAttention.q.weight" in name for name in tensors)


def _clip(tensors: Tensors) -> bool:
    return any(_ends(name, "token_embedding.weight") for name in tensors)


def _esrgan(tensors: Tensors) -> bool:
    return (
        any(
            marker in name
            for name in tensors
            for marker in (
                "RDB1.conv1.",
                "rdb1.conv1.",
                "model.1.sub.0.",
                "body.0.rdb",
                "residual_group.blocks.",
                "upsampler.0.",
            )
        )
        or {"body.0.weight", "body.1.weight", "body.2.weight"} <= tensors.keys()
    )


def _inversion(tensors: Tensors) -> bool:
    names = {"emb_params", "string_to_param", "string_to_token", "clip_l", "clip_g", "<concept>"}
    return 0 < len(tensors) <= 4 and all(
        name in names or (len(info.shape) <= 2 and max(info.shape, default=0) in (768, 1024, 1280))
        for name, info in tensors.items()
    )


def _adapter(tensors: Tensors) -> bool:
    return any(name.startswith(("ip_adapter.", "image_proj.")) for name in tensors)


def _t2i(tensors: Tensors) -> bool:
    return any(_ends(name, "body.0.resnets.0.block1.weight") for name in tensors) or any(
        "body.0.in_conv." in name or "body.0.block1." in name for name in tensors
    )


def _motion(tensors: Tensors) -> bool:
    return _share(tensors, "motion_modules.", "temporal_transformer.") >= 0.5


def _language(tensors: Tensors) -> bool:
    return any(
        _ends(name, "layers.0.self_attn.q_proj.weight", "h.0.attn.c_attn.weight")
        and not name.startswith("text_model.")
        for name in tensors
    ) and any(
        _ends(name, "embed_tokens.weight", "wte.weight", "lm_head.weight") for name in tensors
    )


KINDS: tuple[tuple[Kind, Callable[[Tensors], bool]], ...] = (
    *((Kind("lora", title, _WITH_LORA), _lora_with(*words)) for title, words in _LORAS.items()),
    (Kind("ip-adapter", "an IP-Adapter", "tileup has no use for one"), _adapter),
    (Kind("motion", "a motion module of AnimateDiff", "tileup has no use for one"), _motion),
    *zip(UNUSED_CONTROLS, (_control_of_z_image, _control_of_qwen), strict=True),
    (
        Kind("controlnet", "a ControlNet", "give the model with -m and this file with --control"),
        _controlnet,
    ),
    (
        Kind(
            "t2i-adapter",
            "a T2I-Adapter",
            "tileup has no use for one; --control takes a ControlNet",
        ),
        _t2i,
    ),
    (Kind("vae", "a VAE alone", "give the model with -m and this file with --vae"), _vae),
    (Kind("t5", "a T5 text encoder alone", "give the model with -m and this file with --t5"), _t5),
    (
        Kind(
            "clip",
            "a CLIP text encoder alone",
            "give the model with -m and this file with --clip-l or --clip-g",
        ),
        _clip,
    ),
    (
        Kind(
            "esrgan",
            "a model that enlarges without diffusion, such as an ESRGAN",
            "give a diffusion model with -m and this file with --upscaler",
        ),
        _esrgan,
    ),
    (
        Kind(
            "llm",
            "a language model",
            "where it reads prompts for a model, give that with -m and this file with"
            " --text-encoder",
        ),
        _language,
    ),
    (
        Kind(
            "inversion",
            "a textual inversion (embedding)",
            "give the model it was made for with -m and this file with --embedding",
        ),
        _inversion,
    ),
)
"""What files without a whole network are; the first that fits counts."""


def kind_of(tensors: Tensors) -> Kind | None:
    """What a file without a diffusion network is, or None where that is not known."""
    return next((kind for kind, fits in KINDS if fits(tensors)), None)
