"""Which layer of a network a name in a LoRA file means.

LoRA files name layers in the words of the program that trained them. All those words come from
one of two: diffusers' names, or those of the model's first release; written with dots or with
underscores, and behind a prefix that says which network is meant. So each layer of a network that
was built is listed under both of its names, with underscores, and a lookup does the rest.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

NETWORK, CLIP_L, CLIP_G, T5 = "network", "clip_l", "clip_g", "t5"
"""The networks that a LoRA can change. CLIP_L is also the only encoder of SD 2."""

_PREFIXES = {
    "lora_unet_": NETWORK,
    "lora_transformer_": NETWORK,
    "lycoris_": NETWORK,
    "unet.": NETWORK,
    "transformer.": NETWORK,
    "model.diffusion_model.": NETWORK,
    "diffusion_model.": NETWORK,
    "lora_te_": CLIP_L,
    "lora_te1_": CLIP_L,
    "text_encoder.": CLIP_L,
    "text_encoders.clip_l.transformer.": CLIP_L,
    "lora_te2_": CLIP_G,
    "text_encoder_2.": CLIP_G,
    "text_encoders.clip_g.transformer.": CLIP_G,
    "lora_te3_": T5,
    "text_encoder_3.": T5,
    "text_encoders.t5xxl.transformer.": T5,
}


def split_name(layer: str) -> tuple[str, str]:
    """Network and normal form of a layer's name: `lora_te_text_model_encoder_layers_0_mlp_fc1`
    is `clip_l`, `encoder_layers_0_mlp_fc1`. A name without a prefix is one of the network."""
    layer = layer.removeprefix("base_model.model.")
    prefix = next((each for each in _PREFIXES if layer.startswith(each)), "")
    part, name = _PREFIXES.get(prefix, NETWORK), normal(layer.removeprefix(prefix))
    if part == CLIP_G and name.startswith("encoder_block_"):
        part = T5  # the second encoder of FLUX
    return part, name


def normal(name: str) -> str:
    """A name with underscores, in the one spelling that all programs share."""
    name = name.replace(".", "_").replace("_processor_", "_").removeprefix("text_model_")
    if match := _PROCESSOR.fullmatch(name):
        before, which = match.groups()
        if before.endswith("self_attn"):
            return f"{before}_{which}_proj"
        return f"{before}_to_out_0" if which == "out" else f"{before}_to_{which}"
    return name


_PROCESSOR = re.compile(r"(.*)_to_(q|k|v|out)_lora")
"""diffusers before 0.22: `attn1.processor.to_q_lora`, `self_attn.to_q_lora`."""


@dataclass(frozen=True, slots=True)
class Target:
    """What one low-rank product is added to."""

    modules: tuple[str, ...]
    """Layers whose rows, one after another, are those of the product."""
    swapped: bool = False
    """Whether the halves of its rows lie the other way round (shift and scale)."""


def targets(layers: Collection[str]) -> dict[str, Target]:
    """The normal form of every name by which LoRA files may call the layers of one network.

    Args:
        layers: names of its linear and convolution layers, as diffusers or transformers have them.
    """
    found = {normal(layer): Target((layer,)) for layer in layers}
    for name, target in _released(frozenset(layers)):
        found.setdefault(normal(name), target)
    return found


def _released(layers: frozenset[str]) -> Iterator[tuple[str, Target]]:
    """Names of the first release, and what they stand for."""
    if any(layer.startswith("down_blocks.") for layer in layers):
        for layer, name in ldm_names(layers).items():
            yield name, Target((layer,))
        return
    table = _FLUX if any(layer.startswith("single_") for layer in layers) else _SD3
    for (old, new), rows in table.items():
        indices = {layer.split(".")[1] for layer in layers if layer.startswith(f"{new}.")}
        for index in indices if new else {""}:
            before, after = (f"{old}.{index}.", f"{new}.{index}.") if new else ("", "")
            for name, ends in rows.items():
                modules = tuple(after + end for end in ends)
                if layers.issuperset(modules):
                    yield before + name, Target(modules, _exchanged(modules[0], layers))


def _exchanged(layer: str, layers: frozenset[str]) -> bool:
    """Whether diffusers keeps scale before shift there, and the first release after it."""
    block, _, end = layer.partition(".norm1_context.")
    last = bool(end) and f"{block}.attn.to_add_out" not in layers
    return last or layer == "norm_out.linear"


def ldm_names(layers: Collection[str]) -> dict[str, str]:
    """What the first release of SD 1, SD 2 and SDXL calls the layers of diffusers' UNet.

    Args:
        layers: all of the UNet, such as `down_blocks.0.attentions.1.proj_in`.
    """
    count = len({match[1] for each in layers if (match := _FIRST_LEVEL.match(each))})
    names: dict[str, str] = {}
    for layer in layers:
        if layer in _LDM_ENDS:
            names[layer] = _LDM_ENDS[layer]
        elif match := _LDM_BLOCK.fullmatch(layer):
            side, level, kind, place, end = match.groups()
            attends = f"{side}_blocks.{level}.attentions.0.proj_in" in layers
            row = _ldm_row(side, int(level or 0), kind, int(place), count, attends)
            names[layer] = f"{row}.{_LDM_PARTS.get((kind, end), end)}"
    return names


def _ldm_row(side: str, level: int, kind: str, place: int, count: int, attends: bool) -> str:
    """Where a block of diffusers stands among the numbered ones of the first release.

    Args:
        side: down, mid or up.
        level: from the input's side (down) or from the middle (up).
        kind: resnets, attentions, downsamplers or upsamplers.
        place: among its kind.
        count: residual blocks of a level on the way down.
        attends: whether the level has attention.
    """
    if side == "mid":
        return f"middle_block.{1 if kind == 'attentions' else 2 * place}"
    if side == "down":
        place = count if kind == "downsamplers" else place
        return f"input_blocks.{1 + level * (count + 1) + place}.{kind == 'attentions':d}"
    place = count if kind == "upsamplers" else place
    part = {"resnets": 0, "attentions": 1, "upsamplers": 1 + attends}[kind]
    return f"output_blocks.{level * (count + 1) + place}.{part}"


_FIRST_LEVEL = re.compile(r"down_blocks\.0\.resnets\.(\d+)\.")
_LDM_BLOCK = re.compile(
    r"(down|mid|up)_blocks?(?:\.(\d+))?\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.+)"
)
_LDM_PARTS = {
    ("resnets", "conv1"): "in_layers.2",
    ("resnets", "conv2"): "out_layers.3",
    ("resnets", "time_emb_proj"): "emb_layers.1",
    ("resnets", "conv_shortcut"): "skip_connection",
    ("downsamplers", "conv"): "op",
}
_LDM_ENDS = {
    "conv_in": "input_blocks.0.0",
    "conv_out": "out.2",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
}

_Rows = Mapping[str, tuple[str, ...]]
_QKV = ("attn.to_q", "attn.to_k", "attn.to_v")
_ADDED_QKV = ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj")

_FLUX: dict[tuple[str, str], _Rows] = {
    ("double_blocks", "transformer_blocks"): {
        "img_attn.qkv": _QKV,
        "img_attn.proj": ("attn.to_out.0",),
        "img_mlp.0": ("ff.net.0.proj",),
        "img_mlp.2": ("ff.net.2",),
        "img_mod.lin": ("norm1.linear",),
        "txt_attn.qkv": _ADDED_QKV,
        "txt_attn.proj": ("attn.to_add_out",),
        "txt_mlp.0": ("ff_context.net.0.proj",),
        "txt_mlp.2": ("ff_context.net.2",),
        "txt_mod.lin": ("norm1_context.linear",),
        # The words of XLabs' trainer.
        "qkv_lora1": _QKV,
        "proj_lora1": ("attn.to_out.0",),
        "qkv_lora2": _ADDED_QKV,
        "proj_lora2": ("attn.to_add_out",),
    },
    ("single_blocks", "single_transformer_blocks"): {
        "linear1": (*_QKV, "proj_mlp"),
        "linear2": ("proj_out",),
        "modulation.lin": ("norm.linear",),
        "qkv_lora": _QKV,
        "proj_lora": ("proj_out",),
    },
    ("", ""): {
        "img_in": ("x_embedder",),
        "txt_in": ("context_embedder",),
        "time_in.in_layer": ("time_text_embed.timestep_embedder.linear_1",),
        "time_in.out_layer": ("time_text_embed.timestep_embedder.linear_2",),
        "vector_in.in_layer": ("time_text_embed.text_embedder.linear_1",),
        "vector_in.out_layer": ("time_text_embed.text_embedder.linear_2",),
        "guidance_in.in_layer": ("time_text_embed.guidance_embedder.linear_1",),
        "guidance_in.out_layer": ("time_text_embed.guidance_embedder.linear_2",),
        "final_layer.linear": ("proj_out",),
        "final_layer.adaLN_modulation.1": ("norm_out.linear",),
    },
}
"""Blocks in the words of the first release and of diffusers, and the layers of each."""

_SD3: dict[tuple[str, str], _Rows] = {
    ("joint_blocks", "transformer_blocks"): {
        "x_block.attn.qkv": _QKV,
        "x_block.attn.proj": ("attn.to_out.0",),
        "x_block.attn2.qkv": ("attn2.to_q", "attn2.to_k", "attn2.to_v"),
        "x_block.attn2.proj": ("attn2.to_out.0",),
        "x_block.mlp.fc1": ("ff.net.0.proj",),
        "x_block.mlp.fc2": ("ff.net.2",),
        "x_block.adaLN_modulation.1": ("norm1.linear",),
        "context_block.attn.qkv": _ADDED_QKV,
        "context_block.attn.proj": ("attn.to_add_out",),
        "context_block.mlp.fc1": ("ff_context.net.0.proj",),
        "context_block.mlp.fc2": ("ff_context.net.2",),
        "context_block.adaLN_modulation.1": ("norm1_context.linear",),
    },
    ("", ""): {
        "x_embedder.proj": ("pos_embed.proj",),
        "context_embedder": ("context_embedder",),
        "t_embedder.mlp.0": ("time_text_embed.timestep_embedder.linear_1",),
        "t_embedder.mlp.2": ("time_text_embed.timestep_embedder.linear_2",),
        "y_embedder.mlp.0": ("time_text_embed.text_embedder.linear_1",),
        "y_embedder.mlp.2": ("time_text_embed.text_embedder.linear_2",),
        "final_layer.linear": ("proj_out",),
        "final_layer.adaLN_modulation.1": ("norm_out.linear",),
    },
}
