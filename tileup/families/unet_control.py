"""ControlNets of SD 1, SD 2 and SDXL: what they add to a UNet that is shown the enlarged picture.

A ControlNet is a copy of the UNet's first half that also sees a picture, the hint, and adds
residuals to the UNet's skip connections (Zhang et al. 2023, arXiv 2302.05543). Those called tile
are trained to keep what the picture shows, so the hint is the enlarged picture itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from tileup.contracts import Box, Scene
from tileup.errors import ModelError
from tileup.families.control_signs import UNET_PREFIX as PREFIX
from tileup.families.control_signs import UNET_TILE as TILE
from tileup.families.control_signs import UNET_UNION as UNION
from tileup.families.family import STRIDE, Building, ControlFile
from tileup.families.unet_layout import CONTEXTS, Shapes, heads, size_embedding
from tileup.tensors.filling import Placing, build_renamed
from tileup.tensors.shapes import block_count
from tileup.torchvision_shield import shield_torchvision
from tileup.wording import counted

UNION_HEADS = 8
"""Heads of their attention, which no tensor tells: xinsir6/ControlNetPlus (Apache-2.0)."""


@dataclass(frozen=True, slots=True)
class UNetInputs:
    """What a UNet, and the control beside it, are shown of a batch of windows."""

    x: Tensor
    """What the UNet sees, shape (B, C, h, w), in its precision and on its device."""
    time: Tensor
    """Training step of each row, also between whole numbers, shape (B,)."""
    tokens: Tensor
    """Features of the prompt, shape (B, length, features)."""
    added: Mapping[str, Tensor] | None
    """SDXL's `text_embeds` and `time_ids` by diffusers' names, B rows each."""
    windows: Sequence[Box]
    """Where each row lies on the padded canvas, in cells."""
    scene: Scene
    sigma: Tensor
    """Noise level of each row, shape (B,)."""


UNetControl = Callable[[UNetInputs], tuple[Sequence[Tensor], Tensor]]
"""A control network: residuals that are added to each skip connection, finest first, and to the
middle block's output. The UNet leaves out those of rows below `scene.control_until`."""


@dataclass(frozen=True, slots=True)
class ControlNet:
    """A ControlNet that satisfies `UNetControl`."""

    name: str
    """Its file, for messages."""
    module: nn.Module
    """diffusers' ControlNetModel."""
    scale: float
    """Factor of its residuals."""
    device: str
    dtype: torch.dtype
    """What it computes in."""
    kinds: int | None = None
    """Kinds of hint that it takes, where it is several in one; it is shown the one called tile."""

    def __call__(self, shown: UNetInputs) -> tuple[tuple[Tensor, ...], Tensor]:
        """Residuals in the precision and on the device of `shown.x`, 0 where the UNet takes none.

        Each row's hint is its own window's part of the picture, never resized. Rows that need no
        residuals are not computed.

        Raises:
            ValueError: no row needs any.
        """
        x, scene = shown.x, shown.scene
        rows = (shown.sigma >= scene.control_until).nonzero().flatten().tolist()
        if not rows:
            raise ValueError("no row is at a noise level at which the ControlNet acts")
        boxes = (shown.windows[row].scaled(STRIDE) for row in rows)
        assert scene.pixels is not None
        hint = torch.cat([scene.pixels[..., *box.index] for box in boxes])
        with torch.no_grad():
            sides, middle = self.module(
                self._placed(x[rows]),
                shown.time[rows].to(self.device),
                encoder_hidden_states=self._placed(shown.tokens[rows]),
                **self._hinted(self._placed(hint).contiguous(memory_format=torch.channels_last)),
                conditioning_scale=self.scale,
                added_cond_kwargs=shown.added
                and {name: self._placed(each[rows]) for name, each in shown.added.items()},
                return_dict=False,
            )
        return tuple(_spread(each.to(x), rows, len(x)) for each in sides), _spread(
            middle.to(x), rows, len(x)
        )

    def _hinted(self, hint: Tensor) -> dict[str, object]:
        """A hint in the words of the module."""
        if self.kinds is None:
            return {"controlnet_cond": hint}
        kind = torch.zeros(len(hint), self.kinds)
        kind[:, TILE] = 1
        return {
            "controlnet_cond": [hint],
            "control_type": self._placed(kind),
            "control_type_idx": [TILE],
        }

    def _placed(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.device, self.dtype)


class RowByRow(nn.Module):
    """A layer of a union ControlNet, each feature of each row by itself.

    Its attention takes the rows of a batch for one sequence, so that windows would depend on which
    others they are worked out with. Alone a row is a sequence of one.
    """

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x.reshape(1, -1, x.shape[-1])).reshape(x.shape)


def _spread(residual: Tensor, rows: list[int], count: int) -> Tensor:
    """These rows among `count`, the others 0."""
    if len(rows) == count:
        return residual
    whole = residual.new_zeros((count, *residual.shape[1:]))
    whole[rows] = residual
    return whole


def load_control(file: ControlFile, how: Building) -> ControlNet:
    """A ControlNet from a file's tensors; its sizes are read from their shapes.

    Args:
        file: tensors in the original layout (`control_model.input_hint_block.0.weight`, with the
            prefix or without) or in diffusers' (`controlnet_cond_embedding.conv_in.weight`).
        how: precision and place.

    Raises:
        ModelError: it is another kind of control or none at all; tensors are missing, left over, of
            a wrong shape, or not finite.
    """
    tensors, name = file.tensors, file.name
    _refuse_other_kinds(tensors, name)
    inside = [key for key in tensors if key.startswith(PREFIX)] or list(tensors)
    own = {key.removeprefix(PREFIX): tensors[key] for key in inside}
    try:
        names = _diffusers_names(own)
        config = _config({new: tuple(own[old].shape) for new, old in names.items()})
    except (KeyError, IndexError) as error:
        raise ModelError(f"{name} is not a complete ControlNet: it lacks {error}") from error
    if UNION in names and len(own[UNION]) <= TILE:
        raise ModelError(
            f"{name} is a union ControlNet of {len(own[UNION])} kinds, without tile: give the later"
            f" version, promax"
        )
    if config["in_channels"] != 4 or config["conditioning_channels"] != 3:
        raise ModelError(
            f"{name} is a ControlNet for a network with {config['in_channels']} input channels and"
            f" a hint with {config['conditioning_channels']}; tileup needs 4 and 3, such as tile"
        )
    kinds = cast("int | None", config.get("num_control_type"))
    shield_torchvision()
    import diffusers

    model = "ControlNetModel" if kinds is None else "ControlNetUnionModel"
    make = cast(Callable[..., nn.Module], getattr(diffusers, model))
    placing = Placing(how.dtype, how.device, offload=how.offload)
    module = build_renamed(lambda: make(**config), own, names, name, placing)
    if kinds is not None:
        _apart(module, how.device)
    return ControlNet(name, module, file.scale, how.device, how.dtype, kinds)


def _apart(module: Any, device: str) -> None:  # noqa: ANN401
    """Let a union ControlNet treat each row by itself."""
    # Their attention reads a layer's weights without calling it, so these stay on the device.
    layers = [RowByRow(each.to(device)) for each in module.transformer_layes]
    module.transformer_layes = nn.ModuleList(layers)


_OTHER_KINDS = {
    "a Control-LoRA": r"lora_controlnet$",
    "a ControlLLLite": r"lllite",
    "a ControlNet stored as the difference to a base model": r"^difference$",
    "a T2I-Adapter": r"^(adapter\.)?body\.\d",
    "an IP-Adapter": r"^(image_proj|ip_adapter)\.",
    "a ControlNet of FLUX or SD 3": r"^(controlnet_x_embedder|controlnet_blocks|pos_embed_input)\.",
    "a LoRA": r"\.lora_(down|up|A|B)\.|^lora_",
}
"""What a tensor's name gives away."""


def _refuse_other_kinds(tensors: Mapping[str, Tensor], name: str) -> None:
    wanted = "give a ControlNet (tile) of SD 1.x, SD 2.x or SDXL"
    for kind, pattern in _OTHER_KINDS.items():
        if any(re.search(pattern, key) for key in tensors):
            raise ModelError(f"{name} is {kind}, which tileup cannot use; {wanted}")
    hints = ("input_hint_block.0.weight", "controlnet_cond_embedding.conv_in.weight")
    if not any(key.removeprefix(PREFIX) in hints for key in tensors):
        first = min(tensors, default="-")
        raise ModelError(
            f"{name} is not a ControlNet: among its {counted(len(tensors), 'tensor')}, the first"
            f" named {first!r}, none reads a hint; {wanted}"
        )


def _diffusers_names(names: Iterable[str]) -> dict[str, str]:
    """The file's name of each tensor, by diffusers' name for it."""
    found = list(names)
    if "conv_in.weight" in found:
        return {name: name for name in found}
    shield_torchvision()
    from diffusers.loaders.single_file_utils import (
        DIFFUSERS_TO_LDM_MAPPING,
        convert_controlnet_checkpoint,
    )

    downs = [
        int(match[1])
        for name in found
        if (match := re.fullmatch(r"input_blocks\.(\d+)\.0\.op\.weight", name))
    ]
    # The conversion only renames, so names serve as their own values.
    itself = {name: name for name in found}
    config = {"layers_per_block": min(downs, default=3) - 1}
    converted = cast("dict[str, str | None]", convert_controlnet_checkpoint(itself, config))
    sizes = cast(
        dict[str, dict[str, dict[str, str]]],
        DIFFUSERS_TO_LDM_MAPPING,
    )["controlnet"]["addition_embed_type"]
    converted |= {new: old for new, old in sizes.items() if old in itself}
    return {new: old for new, old in converted.items() if old is not None}


def _config(shapes: Shapes) -> dict[str, Any]:
    """The settings of diffusers' ControlNetModel under which it has tensors of these shapes."""
    levels = block_count(shapes, "down_blocks")
    widths = [shapes[f"down_blocks.{level}.resnets.0.conv1.weight"][0] for level in range(levels)]
    depths = [_depth(shapes, f"down_blocks.{level}") for level in range(levels)]
    middle = _depth(shapes, "mid_block")
    attention = next((name for name in shapes if name.endswith("attn2.to_k.weight")), None)
    linear = any(len(shapes[name]) == 2 for name in shapes if name.endswith("proj_in.weight"))
    hints = block_count(shapes, "controlnet_cond_embedding.blocks")
    hint = "controlnet_cond_embedding"
    return {
        "in_channels": shapes["conv_in.weight"][1],
        "conditioning_channels": shapes[f"{hint}.conv_in.weight"][1],
        "conditioning_embedding_out_channels": (
            shapes[f"{hint}.conv_in.weight"][0],
            *(shapes[f"{hint}.blocks.{index}.weight"][0] for index in range(1, hints, 2)),
        ),
        "block_out_channels": tuple(widths),
        "layers_per_block": block_count(shapes, "down_blocks.0.resnets"),
        "down_block_types": tuple(
            "CrossAttnDownBlock2D" if depth else "DownBlock2D" for depth in depths
        ),
        # The middle block takes the last level's entry, which may have no attention itself.
        "transformer_layers_per_block": (*(max(1, each) for each in depths[:-1]), max(1, middle)),
        "attention_head_dim": heads(widths, linear),
        "use_linear_projection": linear,
        "cross_attention_dim": shapes[attention][1] if attention else 1,
        **size_embedding(shapes),
        **_of_kind(shapes),
    }


def _of_kind(shapes: Shapes) -> dict[str, object]:
    """Settings that diffusers' ControlNetUnionModel has alone, or its ControlNetModel."""
    if UNION not in shapes:
        middle = _depth(shapes, "mid_block")
        return {"mid_block_type": "UNetMidBlock2DCrossAttn" if middle else "UNetMidBlock2D"}
    kinds, width = shapes[UNION]
    return {
        "num_control_type": kinds,
        "num_trans_channel": width,
        "num_trans_head": UNION_HEADS,
        "num_trans_layer": block_count(shapes, "transformer_layes"),
        "num_proj_channel": shapes["spatial_ch_projs.weight"][0],
    }


def _depth(shapes: Shapes, block: str) -> int:
    """Transformer blocks after each residual block; 0 where there is no attention."""
    return block_count(shapes, f"{block}.attentions.0.transformer_blocks")


def require_same_family(control: ControlNet, unet: nn.Module, name: str) -> None:
    """Refuse a ControlNet that was made for other models than this one.

    Args:
        control: the ControlNet.
        unet: diffusers' UNet2DConditionModel.
        name: the ControlNet's file, for messages.

    Raises:
        ModelError: it takes another text, or its levels have other widths.
    """
    theirs, ours = _family(control.module), _family(unet)
    sizes = ("block_out_channels", "layers_per_block")
    if theirs != ours:
        raise ModelError(
            f"{name} is a ControlNet for {theirs} and the model is {ours}: take one made for {ours}"
        )
    if any(_setting(control.module, each) != _setting(unet, each) for each in sizes):
        raise ModelError(
            f"{name} does not fit the model: its levels have"
            f" {_setting(control.module, sizes[0])} channels, those of the model"
            f" {_setting(unet, sizes[0])}"
        )


def _family(module: nn.Module) -> str:
    """Of a UNet or a ControlNet, in words."""
    features = cast(int, _setting(module, "cross_attention_dim"))
    pooled = _setting(module, "projection_class_embeddings_input_dim")
    if features == 1:  # The smallest ControlNets of SDXL have no attention.
        return CONTEXTS[2048] if pooled == 2816 else "a model without text"
    return CONTEXTS.get(features, f"a model whose text has {features} features")


def _setting(module: nn.Module, name: str) -> object:
    return cast(Mapping[str, object], module.config)[name]
