"""SD 3 and SD 3.5: how their files are told, and their transformer.

Esser et al. (2024), arXiv 2403.03206. Positions come from a table of the network, cut out around
its centre: that is how it was trained for pictures of any shape. Every window is shown as a picture
of its own, because the network learned whole pictures: it takes its middle for the middle of the
motif. Windows placed where they lie on the canvas would leave the trained part of the table, and on
large canvases the table itself.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from tileup.errors import ModelError
from tileup.families.family import POOLED, Building, Built, Detected, Family, Hints, flow_levels
from tileup.families.sd3_shared import HEAD, LATENTS, TRAINING_STEPS, picture_rules
from tileup.families.view import RelativeError, View
from tileup.tensors.renaming import Rule, converted, layer
from tileup.tensors.shapes import block_count, blocks_with, shape
from tileup.text.recipes import CLIP_G, Recipe, T5Use, clip_l

if TYPE_CHECKING:
    from torch import Tensor, nn

    from tileup.families.transformer import Seen


def _original(view: View) -> Detected | None:
    patch = view.shape("x_embedder.proj.weight", 4)
    context = view.shape("context_embedder.weight", 2)[1]
    blocks = view.count(r"joint_blocks\.(\d+)\.")
    dual = any(".x_block.attn2." in name for name in view.names("joint_blocks."))
    normed = any(".attn.ln_q." in name for name in view.names("joint_blocks."))
    return _found(view, "original", patch, context, _variant(blocks, dual, normed))


def _diffusers(view: View) -> Detected | None:
    if "transformer_blocks.0.attn.add_k_proj.weight" not in view:
        return None
    patch = view.shape("pos_embed.proj.weight", 4)
    context = view.shape("context_embedder.weight", 2)[1]
    blocks = view.count(r"transformer_blocks\.(\d+)\.")
    dual = any(".attn2." in name for name in view.names("transformer_blocks."))
    normed = any(".attn.norm_q." in name for name in view.names("transformer_blocks."))
    return _found(view, "diffusers", patch, context, _variant(blocks, dual, normed))


def _variant(blocks: int, dual: bool, normed: bool) -> str:
    if dual:
        return "Stable Diffusion 3.5 medium"
    if normed:
        return f"Stable Diffusion 3.5{' large' if blocks == 38 else ''}"
    return f"Stable Diffusion 3{' medium' if blocks == 24 else ''}"


def _found(view: View, layout: str, patch: tuple[int, ...], context: int, variant: str) -> Detected:
    if patch[1] != 16 or patch[2:] != (2, 2):
        raise RelativeError(
            f"like SD 3 but with {patch[1]} channels in patches of {patch[2]}x{patch[3]}"
        )
    return Detected(SD3, variant, view.prefix, layout, patch[1], context, 2)


def build_sd3(tensors: Mapping[str, Tensor], how: Building) -> Built:
    """The transformer, as `Build`."""
    from tileup.families.sd3_control import load_sd3_control
    from tileup.families.transformer import TransformerNetwork, transformer_of, with_clip

    state, origin = dict(tensors), dict[str, str]()
    if any(each.startswith("joint_blocks.") for each in tensors):
        state, origin = converted(tensors, sd3_rules(tensors), how.name)
    config = sd3_config(state, how.name)
    module = transformer_of("SD3Transformer2DModel", config, state, how, origin)
    control = None if how.control is None else load_sd3_control(how.control, how, module)
    patch, table = config["patch_size"], config["pos_embed_max_size"]
    network = TransformerNetwork(module, how.dtype, how.device, patch, velocity, table, control)
    return with_clip(network, config, how, None if control is None else control.module)


def velocity(module: nn.Module, seen: Seen) -> Tensor:
    """What the transformer says of a batch of windows."""
    from tileup.families.sd3_control import LAST, added_behind
    from tileup.families.transformer import whole_text

    added = {**seen.added}
    with added_behind(module, added.pop(LAST, None)):
        return module(
            hidden_states=seen.cells,
            timestep=seen.time * TRAINING_STEPS,
            encoder_hidden_states=seen.tokens,
            pooled_projections=whole_text(seen),
            **added,
            return_dict=False,
        )[0]


def sd3_config(state: Mapping[str, Tensor], name: str) -> dict[str, Any]:
    """diffusers' settings of the network, from the shapes of its weights under diffusers' names."""
    width, channels, patch, _ = shape(state, "pos_embed.proj.weight", 4, name)
    _, positions, _ = shape(state, "pos_embed.pos_embed", 3, name)
    table = math.isqrt(positions)
    if table**2 != positions:
        raise ModelError(f"{name} does not fit together: {positions} positions form no square")
    context, features = shape(state, "context_embedder.weight", 2, name)
    outputs, _ = shape(state, "proj_out.weight", 2, name)
    norm = "transformer_blocks.0.attn.norm_q.weight"
    head = shape(state, norm, 1, name)[0] if norm in state else HEAD
    if width % head or outputs % patch**2:
        raise ModelError(
            f"{name} does not fit together: a width of {width} is not divisible into heads of"
            f" {head}, or {outputs} outputs into patches of {patch} x {patch}"
        )
    return {
        "sample_size": table * patch,
        "patch_size": patch,
        "in_channels": channels,
        "out_channels": outputs // patch**2,
        "num_layers": block_count(state, "transformer_blocks"),
        "attention_head_dim": head,
        "num_attention_heads": width // head,
        "joint_attention_dim": features,
        "caption_projection_dim": context,
        "pooled_projection_dim": shape(state, POOLED, 2, name)[1],
        "pos_embed_max_size": table,
        "dual_attention_layers": blocks_with(state, "transformer_blocks", "attn2"),
        "qk_norm": "rms_norm" if norm in state else None,
    }


def sd3_rules(names: Collection[str]) -> Iterator[Rule]:
    """Original names to diffusers', for a transformer with the blocks that the names tell of.

    Args:
        names: of tensors, in the original's words.
    """
    normed = any(".ln_q." in each for each in names)
    dual = blocks_with(names, "joint_blocks", "attn2")
    return _rules(block_count(names, "joint_blocks"), normed, dual)


def layer_rules(layers: Collection[str]) -> Iterator[Rule]:
    """The same from diffusers' names."""
    dual = blocks_with(layers, "transformer_blocks", "attn2")
    return _rules(block_count(layers, "transformer_blocks"), False, dual)


def _rules(depth: int, normed: bool, dual: Collection[int]) -> Iterator[Rule]:
    embed = "time_text_embed"
    yield Rule("pos_embed", ("pos_embed.pos_embed",))
    yield from layer("x_embedder.proj", "pos_embed.proj")
    yield from layer("context_embedder", "context_embedder")
    for original, ours in (("t_embedder", "timestep_embedder"), ("y_embedder", "text_embedder")):
        yield from layer(f"{original}.mlp.0", f"{embed}.{ours}.linear_1")
        yield from layer(f"{original}.mlp.2", f"{embed}.{ours}.linear_2")
    yield from layer("final_layer.linear", "proj_out")
    yield from layer("final_layer.adaLN_modulation.1", "norm_out.linear", swapped=True)
    for index in range(depth):
        block, ours = f"joint_blocks.{index}", f"transformer_blocks.{index}"
        yield from picture_rules(f"{block}.x_block", ours, normed, index in dual)
        yield from _text_side(f"{block}.context_block", ours, normed, index == depth - 1)


def _text_side(block: str, ours: str, normed: bool, last: bool) -> Iterator[Rule]:
    """The last block only hands the text to the attention, and changes it no more."""
    yield from layer(f"{block}.adaLN_modulation.1", f"{ours}.norm1_context.linear", swapped=last)
    yield from layer(
        f"{block}.attn.qkv", *(f"{ours}.attn.add_{each}_proj" for each in ("q", "k", "v"))
    )
    for each in "qk" if normed else "":
        yield Rule(f"{block}.attn.ln_{each}.weight", (f"{ours}.attn.norm_added_{each}.weight",))
    if not last:
        yield from layer(f"{block}.attn.proj", f"{ours}.attn.to_add_out")
        yield from layer(f"{block}.mlp.fc1", f"{ours}.ff_context.net.0.proj")
        yield from layer(f"{block}.mlp.fc2", f"{ours}.ff_context.net.2")


SD3 = Family(
    name="sd3",
    title="Stable Diffusion 3",
    short="SD 3",
    hints=Hints(
        widths=(1536, 2432), latents=16, words=r"sd[-_ ]?v?3|stable[-_ ]diffusion[-_ ](v?3|3)"
    ),
    signs={
        "joint_blocks.0.context_block.attn.qkv.weight": _original,
        "pos_embed.proj.weight": _diffusers,
    },
    latents=LATENTS,
    window=1024,
    levels=flow_levels(3.0, configured=True),
    text=Recipe(
        # Files of CLIP-L alone have the projection that it was trained with; SD 3 was trained
        # without it: Stability-AI/sd3-ref, sd3_impls.py (return_projected_pooled=False).
        (clip_l(skip=1, normed=False, pooled="plain"), CLIP_G),
        clip_tokens=True,
        chunked=False,
        t5=T5Use(256, required=False),
    ),
    inside={
        "clip_l": ("text_encoders.clip_l.transformer.", "text_encoder."),
        "clip_g": ("text_encoders.clip_g.transformer.", "text_encoder_2."),
        "t5": ("text_encoders.t5xxl.transformer.", "text_encoder_3."),
    },
    tokenizer="tokenizer_3",
    build=build_sd3,
    controlled=True,
    rules=layer_rules,
    blocks=("joint_blocks_", "transformer_blocks_"),
)
