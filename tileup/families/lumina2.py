"""Lumina-Image 2.0 and its finetunes (Neta, NetaYume): how their files are told, their transformer.

The picture's tokens and the text's first go through blocks of their own, then as one row through
those of both (Qin et al. (2025), arXiv 2503.21758; Alpha-VLLM/Lumina-Image-2.0, models/model.py,
Apache-2.0). A token has three positions: words are counted by the first, and the picture follows
with the next number, its rows and columns counted from 0 in every window, as each is shown as a
picture of its own. Z-Image comes from it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from tileup.errors import ModelError
from tileup.families.family import Building, Built, Detected, Family, Hints, Latents, flow_levels
from tileup.families.view import RelativeError, View
from tileup.tensors.renaming import Rule, converted, layer
from tileup.tensors.shapes import block_count, shape
from tileup.text.recipes import LlmUse, Recipe

if TYPE_CHECKING:
    from torch import Tensor, nn

    from tileup.families.transformer import Seen

PATCH = 2
ROTATED = (32, 32, 32)
"""Features of a head that turn with the first position, the row and the column."""
PLACES = (300, 512, 512)
"""Positions that the network has of each kind: transformer/config.json."""
STACKS = ("noise_refiner", "context_refiner", "layers")
"""Stacks of blocks: the picture's own, the text's own, and those of both."""
UNUSED = "norm_final.weight"
"""A tensor that original files have, and that no network uses."""
TEXT = "time_caption_embed.caption_embedder"
BEFORE = (
    "<bos>You are an assistant designed to generate superior images with the superior degree of"
    " image-text alignment based on textual prompts or user prompts. <Prompt Start> "
)
"""What stands before a text in diffusers' pipeline; here before what is not wanted, too."""


def _original(view: View) -> Detected:
    return _found(view, "original", "cap_embedder.1.weight")


def _diffusers(view: View) -> Detected:
    return _found(view, "diffusers", f"{TEXT}.1.weight")


def _found(view: View, layout: str, text: str) -> Detected:
    if any(view.names("clip_text_pooled_proj.")) or any(view.names("time_text_embed.")):
        raise RelativeError("like Lumina 2, but with CLIP (NewBie or alike)")
    features = view.shape("x_embedder.weight", 2)[1]
    if features != 64:
        raise RelativeError(f"like Lumina 2, but whose patches have {features} features, not 64")
    context = view.shape(text, 2)[1]
    return Detected(LUMINA2, LUMINA2.title, view.prefix, layout, features // 4, context, PATCH)


def build_lumina2(tensors: Mapping[str, Tensor], how: Building) -> Built:
    """The transformer, as `Build`."""
    from tileup.families.transformer import TransformerNetwork, transformer_of

    state, origin = {name: each for name, each in tensors.items() if name != UNUSED}, {}
    if "t_embedder.mlp.0.weight" in state:
        state, origin = converted(state, lumina2_rules(state), how.name)
    config = lumina2_config(state, how.name)
    module = transformer_of("Lumina2Transformer2DModel", config, state, how, origin, computed=True)
    network = TransformerNetwork(module, how.dtype, how.device, PATCH, velocity, min(PLACES[1:]))
    return Built(network, module, config["cap_feat_dim"], None)


def velocity(module: nn.Module, seen: Seen) -> Tensor:
    """What the transformer says of a batch of windows.

    It is told the time from the other side, and predicts x0 - noise.
    """
    said: Tensor = module(
        hidden_states=seen.cells,
        timestep=1 - seen.time,
        encoder_hidden_states=seen.tokens,
        encoder_attention_mask=seen.time.new_ones(seen.tokens.shape[:2]).int(),
        return_dict=False,
    )[0]
    return -said


def lumina2_config(state: Mapping[str, Tensor], name: str) -> dict[str, Any]:
    """diffusers' settings of the network, from the shapes of its weights under diffusers' names."""
    width, inputs = shape(state, "x_embedder.weight", 2, name)
    keys, _ = shape(state, "layers.0.attn.to_k.weight", 2, name)
    (head,) = shape(state, "layers.0.attn.norm_q.weight", 1, name)
    if head != sum(ROTATED) or width % head or keys % head or inputs % PATCH**2:
        raise ModelError(
            f"{name}: attention heads of {head} features in a width of {width}, where Lumina 2 has"
            f" heads of {sum(ROTATED)}"
        )
    hidden, _ = shape(state, "layers.0.feed_forward.linear_1.weight", 2, name)
    return {
        "patch_size": PATCH,
        "in_channels": inputs // PATCH**2,
        "hidden_size": width,
        "num_layers": block_count(state, "layers"),
        "num_refiner_layers": block_count(state, "noise_refiner"),
        "num_attention_heads": width // head,
        "num_kv_heads": keys // head,
        # The perceptrons' width is a share of four times the network's, rounded up to a multiple.
        "multiple_of": hidden,
        "ffn_dim_multiplier": min(1.0, hidden / (4 * width)),
        "axes_dim_rope": ROTATED,
        "axes_lens": PLACES,
        "cap_feat_dim": shape(state, f"{TEXT}.1.weight", 2, name)[1],
    }


def lumina2_rules(tensors: Mapping[str, Tensor]) -> Iterator[Rule]:
    """Original names to diffusers', for a transformer of these tensors in the original's names."""
    width = tensors["x_embedder.weight"].shape[0] if "x_embedder.weight" in tensors else 0
    queries = tensors.get("layers.0.attention.qkv.weight")
    keys = 0 if queries is None else (queries.shape[0] - width) // 2
    yield from _rules(tensors, (width, keys, keys))


def layer_rules(layers: Collection[str]) -> Iterator[Rule]:
    """The same from diffusers' names."""
    return _rules(layers, ())


def _rules(names: Collection[str], rows: tuple[int, ...]) -> Iterator[Rule]:
    yield from layer("x_embedder", "x_embedder")
    embedder = "time_caption_embed.timestep_embedder"
    yield from layer("t_embedder.mlp.0", f"{embedder}.linear_1")
    yield from layer("t_embedder.mlp.2", f"{embedder}.linear_2")
    yield Rule("cap_embedder.0.weight", (f"{TEXT}.0.weight",))
    yield from layer("cap_embedder.1", f"{TEXT}.1")
    yield from layer("final_layer.adaLN_modulation.1", "norm_out.linear_1")
    yield from layer("final_layer.linear", "norm_out.linear_2")
    for stack in STACKS:
        for index in range(block_count(names, stack)):
            yield from _block(f"{stack}.{index}", rows, modulated=stack != "context_refiner")


def _block(block: str, rows: tuple[int, ...], *, modulated: bool) -> Iterator[Rule]:
    parts = tuple(f"{block}.attn.{each}.weight" for each in ("to_q", "to_k", "to_v"))
    yield Rule(f"{block}.attention.qkv.weight", parts, rows)
    yield Rule(f"{block}.attention.out.weight", (f"{block}.attn.to_out.0.weight",))
    for each in "qk":
        yield Rule(f"{block}.attention.{each}_norm.weight", (f"{block}.attn.norm_{each}.weight",))
    for number in (1, 2, 3):
        ours = f"{block}.feed_forward.linear_{number}.weight"
        yield Rule(f"{block}.feed_forward.w{number}.weight", (ours,))
    first = f"{block}.norm1.norm.weight" if modulated else f"{block}.norm1.weight"
    yield Rule(f"{block}.attention_norm1.weight", (first,))
    yield Rule(f"{block}.attention_norm2.weight", (f"{block}.norm2.weight",))
    for same in ("ffn_norm1", "ffn_norm2"):
        yield Rule(f"{block}.{same}.weight", (f"{block}.{same}.weight",))
    if modulated:
        yield from layer(f"{block}.adaLN_modulation.1", f"{block}.norm1.linear")


LUMINA2 = Family(
    name="lumina2",
    title="Lumina-Image 2.0",
    short="Lumina 2",
    hints=Hints(widths=(2304,), latents=16, words=r"lumina|neta"),
    signs={
        "layers.0.adaLN_modulation.1.weight": _original,
        f"{TEXT}.0.weight": _diffusers,
    },
    latents=Latents(0.3611, 0.1159),
    window=1024,
    # scheduler/scheduler_config.json.
    levels=flow_levels(6.0, configured=True),
    text=Recipe(
        (),
        clip_tokens=False,
        chunked=False,
        llm=LlmUse("gemma2", "Gemma 2 2B", BEFORE, "", length=256, layers=(-2,)),
    ),
    inside={"llm": ("text_encoders.gemma2_2b.transformer.model.", "text_encoder.")},
    tokenizer="tokenizer",
    build=build_lumina2,
    rules=layer_rules,
    blocks=("layers_", "noise_refiner_", "context_refiner_"),
)
