"""The UNets of SD 1, SD 2 and SDXL as files hold them: names and sizes."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import TypeAlias, cast

from tileup.errors import ModelError
from tileup.tensors.renaming import Rule, layer
from tileup.tensors.shapes import block_count
from tileup.torchvision_shield import shield_torchvision

Shapes: TypeAlias = Mapping[str, tuple[int, ...]]
"""Shape of each tensor, by diffusers' names."""

LDM_PREFIX = "model.diffusion_model."
SIZE_FEATURES = 256
"""Features of each number of SDXL's micro-conditioning: Podell et al. (2023), arXiv 2307.01952."""
CONTEXTS = {768: "SD 1.x", 1024: "SD 2.x", 2048: "SDXL", 1280: "the SDXL refiner"}
"""Families as sentences name them, by the features of a token of their text."""
MASKED = 9
"""Channels of the input of inpainting models: besides the latents a mask, and the latents of the
picture without what lies under it."""
SD1_HEADS = 8
"""Of every attention of SD 1; later ones have heads of 64 channels."""
HEAD_WIDTH = 64


def diffusers_names(names: Iterable[str]) -> dict[str, str]:
    """The file's name of each tensor, by diffusers' name for it.

    Args:
        names: in the original layout (`input_blocks.0.0.weight`) or in diffusers', no prefix.
            Those that belong nowhere are left out.

    Raises:
        ModelError: they are those of no such UNet.
    """
    found = list(names)
    if "conv_in.weight" in found:
        return {name: name for name in found}
    shield_torchvision()
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

    config: dict[str, object] = {"layers_per_block": _layers(found)}
    if any(name.startswith("label_emb.") for name in found):
        config["addition_embed_type"] = "text_time"
    # The conversion only renames, so names serve as their own values.
    whole = {f"{LDM_PREFIX}{name}": name for name in found}
    try:
        converted = convert_ldm_unet_checkpoint(whole, config)
    except KeyError as error:
        raise ModelError(f"the UNet lacks {error.args[0]}") from error
    return cast(dict[str, str], converted)


def _layers(names: Iterable[str]) -> int:
    """Residual blocks of each level, from the original names."""
    blocks = {name.split(".")[1] for name in names if name.startswith("input_blocks.")}
    downs = sum(bool(re.fullmatch(r"input_blocks\.\d+\.0\.op\.weight", name)) for name in names)
    layers, rest = divmod(len(blocks) - 1 - downs, downs + 1)
    if layers < 1 or rest:
        raise ModelError(
            f"the UNet has {len(blocks)} input blocks, {downs} of which halve the picture: no UNet"
            " of SD 1, SD 2 or SDXL does; is the file complete?"
        )
    return layers


def unet_config(shapes: Shapes) -> dict[str, object]:
    """The settings of diffusers' UNet2DConditionModel under which it has tensors of these shapes.

    Raises:
        ModelError: a tensor that decides is missing or has a wrong number of axes.
    """
    try:
        return _config(shapes)
    except KeyError as error:
        raise ModelError(f"the UNet lacks {error.args[0]}") from error
    except IndexError as error:
        raise ModelError("the UNet has tensors with a wrong number of axes") from error


def _config(shapes: Shapes) -> dict[str, object]:
    levels = _count(shapes, "down_blocks")
    layers = _count(shapes, "down_blocks.0.resnets")
    widths = [shapes[f"down_blocks.{level}.resnets.0.conv1.weight"][0] for level in range(levels)]
    down = [_depths(shapes, f"down_blocks.{level}", layers) for level in range(levels)]
    up = [_depths(shapes, f"up_blocks.{level}", layers + 1) for level in range(levels)]
    middle = _count(shapes, "mid_block.attentions.0.transformer_blocks")
    linear = len(shapes["mid_block.attentions.0.proj_in.weight"]) == 2
    return {
        "in_channels": shapes["conv_in.weight"][1],
        "out_channels": shapes["conv_out.weight"][0],
        "block_out_channels": tuple(widths),
        "layers_per_block": layers,
        "down_block_types": tuple(f"{_kind(each)}DownBlock2D" for each in down),
        "up_block_types": tuple(f"{_kind(each)}UpBlock2D" for each in up),
        # The middle block takes the last level's entry, which may have no attention itself.
        "transformer_layers_per_block": (
            *map(_folded, down[:-1]),
            _folded(down[-1]) if any(down[-1]) else middle,
        ),
        "reverse_transformer_layers_per_block": tuple(map(_folded, up)),
        "cross_attention_dim": shapes[
            "mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight"
        ][1],
        "attention_head_dim": heads(widths, linear),
        "use_linear_projection": linear,
        **size_embedding(shapes),
    }


def heads(widths: Iterable[int], linear: bool) -> tuple[int, ...]:
    """Attention heads of each level: their number, which diffusers calls attention_head_dim."""
    return tuple(max(1, width // HEAD_WIDTH) if linear else SD1_HEADS for width in widths)


def size_embedding(shapes: Shapes) -> dict[str, object]:
    """diffusers' settings of SDXL's micro-conditioning; none where there is none."""
    if "add_embedding.linear_1.weight" not in shapes:
        return {}
    return {
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": SIZE_FEATURES,
        "projection_class_embeddings_input_dim": shapes["add_embedding.linear_1.weight"][1],
    }


def _count(shapes: Shapes, group: str) -> int:
    """How many numbered members a group has; it must have some."""
    if not (count := block_count(shapes, group)):
        raise KeyError(group)
    return count


def _depths(shapes: Shapes, block: str, layers: int) -> list[int]:
    """Transformer blocks after each residual block; none where there is no attention."""
    if not any(name.startswith(f"{block}.attentions.") for name in shapes):
        return [0] * layers
    return [
        _count(shapes, f"{block}.attentions.{layer}.transformer_blocks") for layer in range(layers)
    ]


def _folded(depths: list[int]) -> int | tuple[int, ...]:
    return depths[0] if len(set(depths)) == 1 else tuple(depths)


def _kind(depths: list[int]) -> str:
    return "CrossAttn" if any(depths) else ""


def layer_rules(layers: Collection[str]) -> Iterator[Rule]:
    """From the names of diffusers' layers: what the first release's names become."""
    for ours, original in ldm_names(layers).items():
        yield from layer(original, ours)


def ldm_names(layers: Collection[str]) -> dict[str, str]:
    """What the first release of SD 1, SD 2 and SDXL calls the layers of diffusers' UNet.

    Args:
        layers: all of the UNet, such as `down_blocks.0.attentions.1.proj_in`.
    """
    count = len({match[1] for each in layers if (match := _FIRST_LEVEL.match(each))})
    names: dict[str, str] = {}
    for each in layers:
        if each in _LDM_ENDS:
            names[each] = _LDM_ENDS[each]
        elif match := _LDM_BLOCK.fullmatch(each):
            side, level, kind, place, end = match.groups()
            attends = f"{side}_blocks.{level}.attentions.0.proj_in" in layers
            row = _ldm_row(side, int(level or 0), kind, int(place), count, attends)
            names[each] = f"{row}.{_LDM_PARTS.get((kind, end), end)}"
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
    ("resnets", "norm1"): "in_layers.0",
    ("resnets", "norm2"): "out_layers.0",
    ("resnets", "conv1"): "in_layers.2",
    ("resnets", "conv2"): "out_layers.3",
    ("resnets", "time_emb_proj"): "emb_layers.1",
    ("resnets", "conv_shortcut"): "skip_connection",
    ("downsamplers", "conv"): "op",
}
_LDM_ENDS = {
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
}
