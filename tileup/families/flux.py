"""FLUX.1 dev, Krea, Kontext and schnell: how their files are told, and their transformer.

Krea and Kontext have dev's tensors: a file is taken for dev unless its configuration, its metadata
or its name says otherwise. Kontext is not shown a second picture here, and draws as dev does.

Positions are counted from (0, 0) in every window: each is shown as a picture of its own, wherever
it lies on the canvas. In training every picture began at (0, 0), where the text's tokens are too,
and none was larger than about two megapixels. Rotary positions only tell distances, so shifting a
window by its place would leave distances within the picture as they are, but put the text far away
from it, at distances that the network has never seen.

In half precision flow time and guidance are rounded to it before they are multiplied by a thousand,
as in the program of the network's authors.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tileup.errors import ModelError, UnknownCheckpointError
from tileup.families.family import (
    POOLED,
    Building,
    Built,
    Detected,
    Family,
    Hints,
    Latents,
    flow_levels,
    growing_levels,
)
from tileup.families.flux_heads import ROTATED, guidance_of, head_of
from tileup.families.view import RelativeError, View
from tileup.plan.noise_levels import FLUX_GROWTH
from tileup.tensors.renaming import Rule, converted, layer
from tileup.tensors.shapes import block_count, shape
from tileup.text.recipes import Recipe, T5Use, clip_l

if TYPE_CHECKING:
    from torch import Tensor, nn

    from tileup.families.transformer import Seen

PATCH = 2
"""Cells that a token is wide and high."""
MLP = 4
"""Width of the perceptrons in units of the network's."""
GAIN = re.compile(r"(\.(?:query|key)_norm|\.norms\.\d+)\.weight$")
"""Gains of queries and keys, and of Chroma's small network, as some files call them."""
INPUTS = {
    384: "FLUX.1 Fill, which needs a mask and a masked picture",
    128: "FLUX.1 Canny or Depth, which needs a second picture",
}
"""FLUX networks by features of their input, where those are not the 64 of a patch."""


def _original(view: View) -> Detected | None:
    if any(view.names("double_stream_modulation_img.")):
        return None  # FLUX.2
    return _found(view, "original", "img_in.weight", "txt_in.weight", "guidance_in.in_layer.weight")


def _diffusers(view: View) -> Detected | None:
    second = any(view.names("double_stream_modulation_img."))
    if second or not any(view.names("single_transformer_blocks.")):
        return None
    guidance = "time_text_embed.guidance_embedder.linear_1.weight"
    return _found(view, "diffusers", "x_embedder.weight", "context_embedder.weight", guidance)


def _found(view: View, layout: str, image: str, text: str, guidance: str) -> Detected:
    features = view.shape(image, 2)[1]
    if features != 64:
        what = INPUTS.get(features, f"a FLUX whose patches have {features} features, not 64")
        raise UnknownCheckpointError(
            f"{view.checkpoint.path} is {what}: tileup cannot load it; give FLUX.1 dev or schnell"
        )
    if not {"vector_in.in_layer.weight", POOLED} & {*view.names()}:
        raise RelativeError("like FLUX.1, but without CLIP (Ovis-Image, LongCat-Image or alike)")
    family, told_by = _dev(view) if guidance in view else (SCHNELL, "")
    context = view.shape(text, 2)[1]
    variant = f"{family.title} (by {told_by})" if told_by else family.title
    return Detected(family, variant, view.prefix, layout, features // 4, context, PATCH)


def _dev(view: View) -> tuple[Family, str]:
    """Dev, Krea or Kontext, and what says so; nothing does of dev."""
    pipeline = str(view.checkpoint.configs.get("", {}).get("_class_name", ""))
    for where, text in (("its configuration", pipeline.lower()), *view.said()):
        for word, family in (("kontext", KONTEXT), ("krea", KREA)):
            if word in text:
                return family, where
    return DEV, ""


def build_flux(tensors: Mapping[str, Tensor], how: Building) -> Built:
    """The transformer, as `Build`.

    Raises:
        ModelError: also where the network is one that takes a second picture (Fill, Canny, Depth).
    """
    from tileup.families.flux_control import load_flux_control
    from tileup.families.transformer import TransformerNetwork, transformer_of, with_clip

    control = None if how.control is None else load_flux_control(how.control, how)
    state, origin = dict(tensors), dict[str, str]()
    if any(each.startswith("double_blocks.") for each in tensors):
        width, _ = shape(tensors, "img_in.weight", 2, how.name)
        state, origin = converted(as_published(tensors), flux_rules(tensors, width), how.name)
    config = flux_config(state, how.name)
    module = transformer_of("FluxTransformer2DModel", config, state, how, origin)
    network = TransformerNetwork(module, how.dtype, how.device, PATCH, velocity, control=control)
    return with_clip(network, config, how, None if control is None else control.module)


def velocity(module: nn.Module, seen: Seen) -> Tensor:
    """What the transformer says of a batch of windows."""
    from tileup.families.transformer import in_patches, places, whole_text

    told: dict[str, object] = {
        "guidance": guidance_of(module, seen),
        "pooled_projections": whole_text(seen),
    }
    return in_patches(module, seen, {**told, **places(seen), **seen.added})


def flux_config(state: Mapping[str, Tensor], name: str) -> dict[str, Any]:
    """diffusers' settings of the network, from the shapes of its weights under diffusers' names."""
    width, inputs = shape(state, "x_embedder.weight", 2, name)
    outputs, _ = shape(state, "proj_out.weight", 2, name)
    if inputs != outputs:
        raise ModelError(
            f"{name} takes {inputs} numbers for each token and gives {outputs}: it is a variant for"
            f" inpainting or control, which tileup does not support"
        )
    head = head_of(state, width, name)
    return {
        "patch_size": 1,  # diffusers packs the patches before it calls the network
        "in_channels": inputs,
        "out_channels": outputs,
        "num_layers": block_count(state, "transformer_blocks"),
        "num_single_layers": block_count(state, "single_transformer_blocks"),
        "attention_head_dim": head,
        "num_attention_heads": width // head,
        "joint_attention_dim": shape(state, "context_embedder.weight", 2, name)[1],
        "pooled_projection_dim": shape(state, POOLED, 2, name)[1],
        "guidance_embeds": any(".guidance_embedder." in each for each in state),
        "axes_dims_rope": ROTATED,
    }


def as_published(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors with gains of norms called `scale`, as their authors do; files that ComfyUI has saved
    call them `weight`."""
    return {GAIN.sub(r"\1.scale", name): each for name, each in tensors.items()}


def flux_rules(names: Collection[str], width: int) -> Iterator[Rule]:
    """Original names to diffusers', for a transformer with the blocks that the names tell of.

    Args:
        names: of tensors, in the original's words.
        width: of the network.
    """
    guided = any(each.startswith("guidance_in.") for each in names)
    yield from _ends(guided)
    yield from block_rules(
        block_count(names, "double_blocks"), block_count(names, "single_blocks"), width
    )


def layer_rules(layers: Collection[str]) -> Iterator[Rule]:
    """The same from diffusers' names, with the words of XLabs' trainer besides the original's."""
    doubles = block_count(layers, "transformer_blocks")
    singles = block_count(layers, "single_transformer_blocks")
    yield from _ends(guided=True)
    yield from block_rules(doubles, singles)
    yield from _xlabs(doubles, singles)


def _xlabs(doubles: int, singles: int) -> Iterator[Rule]:
    for block, ours in _numbered(*DOUBLE, doubles):
        yield from layer(f"{block}.qkv_lora1", *(f"{ours}.{each}" for each in QKV))
        yield from layer(f"{block}.proj_lora1", f"{ours}.attn.to_out.0")
        yield from layer(f"{block}.qkv_lora2", *(f"{ours}.{each}" for each in TEXT_QKV))
        yield from layer(f"{block}.proj_lora2", f"{ours}.attn.to_add_out")
    for block, ours in _numbered(*SINGLE, singles):
        yield from layer(f"{block}.qkv_lora", *(f"{ours}.{each}" for each in QKV))
        yield from layer(f"{block}.proj_lora", f"{ours}.proj_out")


DOUBLE = ("double_blocks", "transformer_blocks")
SINGLE = ("single_blocks", "single_transformer_blocks")
"""Stacks of blocks in the original's words and in diffusers'."""
QKV = ("attn.to_q", "attn.to_k", "attn.to_v")
TEXT_QKV = ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj")


def _numbered(original: str, ours: str, count: int) -> Iterator[tuple[str, str]]:
    return ((f"{original}.{index}", f"{ours}.{index}") for index in range(count))


def _ends(guided: bool) -> Iterator[Rule]:
    """What comes before the blocks and after them."""
    yield from layer("img_in", "x_embedder")
    yield from layer("txt_in", "context_embedder")
    embedders = {"time_in": "timestep_embedder", "vector_in": "text_embedder"}
    if guided:
        embedders["guidance_in"] = "guidance_embedder"
    for original, ours in embedders.items():
        yield from layer(f"{original}.in_layer", f"time_text_embed.{ours}.linear_1")
        yield from layer(f"{original}.out_layer", f"time_text_embed.{ours}.linear_2")
    yield from layer("final_layer.linear", "proj_out")
    yield from layer("final_layer.adaLN_modulation.1", "norm_out.linear", swapped=True)


def block_rules(
    doubles: int, singles: int, width: int = 0, *, modulated: bool = True
) -> Iterator[Rule]:
    """The blocks.

    Args:
        doubles, singles: how many there are.
        width: of the network; only needed to divide tensors.
        modulated: whether each block works out its modulation itself.
    """
    for block, ours in _numbered(*DOUBLE, doubles):
        yield from _double(block, ours, modulated)
    for block, ours in _numbered(*SINGLE, singles):
        yield from _single(block, ours, width, modulated)


def _double(block: str, ours: str, modulated: bool) -> Iterator[Rule]:
    """A block with weights of its own for picture and text."""
    for stream, suffix in (("img", ""), ("txt", "_context")) if modulated else ():
        yield from layer(f"{block}.{stream}_mod.lin", f"{ours}.norm1{suffix}.linear")
    parts = [f"{ours}.{each}" for each in QKV]
    yield from _stream(f"{block}.img", ours, "", parts, f"{ours}.attn.to_out.0")
    parts = [f"{ours}.{each}" for each in TEXT_QKV]
    yield from _stream(f"{block}.txt", ours, "_context", parts, f"{ours}.attn.to_add_out")
    for stream, added in (("img", ""), ("txt", "added_")):
        yield from norm_rules(f"{block}.{stream}_attn.norm", f"{ours}.attn.norm_{added}")


def _stream(stream: str, ours: str, suffix: str, parts: Sequence[str], out: str) -> Iterator[Rule]:
    yield from layer(f"{stream}_attn.qkv", *parts)
    yield from layer(f"{stream}_attn.proj", out)
    yield from layer(f"{stream}_mlp.0", f"{ours}.ff{suffix}.net.0.proj")
    yield from layer(f"{stream}_mlp.2", f"{ours}.ff{suffix}.net.2")


def _single(block: str, ours: str, width: int, modulated: bool) -> Iterator[Rule]:
    """A block for picture and text in one row, attention and perceptron side by side."""
    parts = [f"{ours}.{each}" for each in (*QKV, "proj_mlp")]
    if modulated:
        yield from layer(f"{block}.modulation.lin", f"{ours}.norm.linear")
    yield from layer(f"{block}.linear1", *parts, rows=(width, width, width, MLP * width))
    yield from layer(f"{block}.linear2", f"{ours}.proj_out")
    yield from norm_rules(f"{block}.norm", f"{ours}.attn.norm_")


def norm_rules(norm: str, ours: str) -> Iterator[Rule]:
    """Gains of queries and keys, what `ours` begins with being all but `q.weight`."""
    yield Rule(f"{norm}.query_norm.scale", (f"{ours}q.weight",))
    yield Rule(f"{norm}.key_norm.scale", (f"{ours}k.weight",))


def _text(length: int) -> Recipe:
    """T5's tokens, and CLIP-L for the whole text."""
    return Recipe(
        (clip_l(skip=0, normed=True, pooled="plain"),),
        clip_tokens=False,
        chunked=False,
        t5=T5Use(length),
    )


DEV = Family(
    name="flux-dev",
    title="FLUX.1 dev",
    short="FLUX",
    hints=Hints(
        layers=r"(double_blocks_\d+_(img|txt)_mod_lin|single_blocks_\d+_modulation_lin"
        r"|single_transformer_blocks_\d+_norm_linear|single_transformer_blocks_\d+_proj_mlp)",
        widths=(3072,),
        latents=16,
        words=r"flux(?![-_. ]?2)|(?<![a-z])ae(?![a-z])",
    ),
    signs={
        "double_blocks.0.img_attn.norm.key_norm.scale": _original,
        "double_blocks.0.img_attn.norm.key_norm.weight": _original,
        "x_embedder.weight": _diffusers,
    },
    latents=Latents(0.3611, 0.1159),
    window=1024,
    levels=growing_levels(FLUX_GROWTH),
    text=_text(512),
    inside={
        "clip_l": ("text_encoders.clip_l.transformer.", "text_encoder."),
        "t5": ("text_encoders.t5xxl.transformer.", "text_encoder_2."),
    },
    tokenizer="tokenizer_2",
    build=build_flux,
    guided=True,
    controlled=True,
    rules=layer_rules,
    blocks=("double_blocks_", "single_", "transformer_blocks_"),
)
KREA = replace(DEV, name="flux-krea", title="FLUX.1 Krea dev")
KONTEXT = replace(DEV, name="flux-kontext", title="FLUX.1 Kontext dev")
SCHNELL = replace(
    DEV,
    name="flux-schnell",
    title="FLUX.1 schnell",
    levels=flow_levels(1.0),
    text=_text(256),
    guided=False,
)
