"""Chroma: FLUX.1 schnell without its modulations, which one small network works out for all blocks.

It takes T5's tokens alone, and guidance with a negative prompt. Of the padding behind the text only
the first token is there for it: lodestone-rock/flow, src/models/chroma (Apache-2.0), and
huggingface.co/lodestones/Chroma1-HD.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from tileup.families.family import Building, Built, Detected, Family, Hints, Latents, growing_levels
from tileup.families.flux import PATCH, as_published, block_rules
from tileup.families.flux_heads import ROTATED, head_of
from tileup.families.view import RelativeError, View
from tileup.plan.noise_levels import FLUX_GROWTH
from tileup.tensors.renaming import Rule, converted, layer
from tileup.tensors.shapes import block_count, shape
from tileup.text.recipes import Recipe, T5Use

if TYPE_CHECKING:
    from torch import Tensor, nn

    from tileup.families.transformer import Seen

GUIDE = "distilled_guidance_layer"
"""The small network, in the original's words and in diffusers'."""


def _look(view: View) -> Detected:
    if any(view.names("nerf_")):
        raise RelativeError("that draws pixels (Chroma1-Radiance)")
    original = any(view.names("double_blocks."))
    image, text = ("img_in", "txt_in") if original else ("x_embedder", "context_embedder")
    features = view.shape(f"{image}.weight", 2)[1]
    if features != 64:
        raise RelativeError(f"like Chroma, but whose patches have {features} features, not 64")
    context = view.shape(f"{text}.weight", 2)[1]
    layout = "original" if original else "diffusers"
    return Detected(CHROMA, CHROMA.title, view.prefix, layout, features // 4, context, PATCH)


def build_chroma(tensors: Mapping[str, Tensor], how: Building) -> Built:
    """The transformer, as `Build`."""
    from tileup.families.transformer import TransformerNetwork, transformer_of

    state, origin = dict(tensors), dict[str, str]()
    if any(each.startswith("double_blocks.") for each in tensors):
        width, _ = shape(tensors, "img_in.weight", 2, how.name)
        rules = chroma_rules(tensors, width)
        state, origin = converted(as_published(tensors), rules, how.name)
    config = chroma_config(state, how.name)
    module = transformer_of("ChromaTransformer2DModel", config, state, how, origin, computed=True)
    network = TransformerNetwork(module, how.dtype, how.device, PATCH, velocity)
    return Built(network, module, config["joint_attention_dim"], None)


def velocity(module: nn.Module, seen: Seen) -> Tensor:
    """What the transformer says of a batch of windows."""
    from tileup.families.transformer import in_patches, places

    return in_patches(module, seen, places(seen))


def chroma_config(state: Mapping[str, Tensor], name: str) -> dict[str, Any]:
    """diffusers' settings of the network, from the shapes of its weights under diffusers' names."""
    width, inputs = shape(state, "x_embedder.weight", 2, name)
    hidden, channels = shape(state, f"{GUIDE}.in_proj.weight", 2, name)
    head = head_of(state, width, name)
    return {
        "patch_size": 1,  # packed before the network is called
        "in_channels": inputs,
        "out_channels": shape(state, "proj_out.weight", 2, name)[0],
        "num_layers": block_count(state, "transformer_blocks"),
        "num_single_layers": block_count(state, "single_transformer_blocks"),
        "attention_head_dim": head,
        "num_attention_heads": width // head,
        "joint_attention_dim": shape(state, "context_embedder.weight", 2, name)[1],
        "axes_dims_rope": ROTATED,
        "approximator_num_channels": channels,
        "approximator_hidden_dim": hidden,
        "approximator_layers": block_count(state, f"{GUIDE}.layers"),
    }


def chroma_rules(names: Collection[str], width: int) -> Iterator[Rule]:
    """Original names to diffusers', for a transformer with the blocks that the names tell of."""
    yield from _ends(block_count(names, f"{GUIDE}.layers"))
    doubles, singles = block_count(names, "double_blocks"), block_count(names, "single_blocks")
    yield from block_rules(doubles, singles, width, modulated=False)


def layer_rules(layers: Collection[str]) -> Iterator[Rule]:
    """The same from diffusers' names."""
    yield from _ends(block_count(layers, f"{GUIDE}.layers"))
    doubles = block_count(layers, "transformer_blocks")
    singles = block_count(layers, "single_transformer_blocks")
    yield from block_rules(doubles, singles, modulated=False)


def _ends(guides: int) -> Iterator[Rule]:
    """What comes before the blocks and after them, and the small network."""
    yield from layer("img_in", "x_embedder")
    yield from layer("txt_in", "context_embedder")
    yield from layer("final_layer.linear", "proj_out")
    for each in ("in_proj", "out_proj"):
        yield from layer(f"{GUIDE}.{each}", f"{GUIDE}.{each}")
    for index in range(guides):
        block = f"{GUIDE}.layers.{index}"
        yield from layer(f"{block}.in_layer", f"{block}.linear_1")
        yield from layer(f"{block}.out_layer", f"{block}.linear_2")
        yield Rule(f"{GUIDE}.norms.{index}.scale", (f"{GUIDE}.norms.{index}.weight",))


CHROMA = Family(
    name="chroma",
    title="Chroma",
    short="Chroma",
    hints=Hints(layers=r"distilled_guidance_layer_", widths=(3072,), latents=16),
    signs={f"{GUIDE}.in_proj.weight": _look},
    latents=Latents(0.3611, 0.1159),
    window=1024,
    levels=growing_levels(FLUX_GROWTH),
    text=Recipe((), clip_tokens=False, chunked=False, t5=T5Use(512, filled=False)),
    inside={"t5": ("text_encoders.t5xxl.transformer.", "text_encoder.")},
    tokenizer="tokenizer",
    build=build_chroma,
    rules=layer_rules,
    blocks=("double_blocks_", "single_", "transformer_blocks_", f"{GUIDE}_"),
)
