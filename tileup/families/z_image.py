"""Z-Image and Z-Image Turbo: how their files are told, and their transformer.

One row of tokens, the picture's before the text's, goes through all blocks (Z-Image Team (2025),
arXiv 2511.22699; Tongyi-MAI/Z-Image, src/zimage, Apache-2.0). A token has three positions: the
text's are counted by the first, and the picture follows with the next number, its rows and columns
counted from 0 in every window, as each is shown as a picture of its own. Rows of tokens are filled
up to multiples of 32 with tokens that were learned for that.

Tensors do not tell the two apart. A file is taken for Turbo, the first that was published and the
one that most finetunes go back to, unless its scheduler, its metadata or its name says otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
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
ROTATED = (32, 48, 48)
"""Features of a head that turn with the first position, the row and the column."""
PLACES = (1536, 512, 512)
"""Positions that the network has of each kind: transformer/config.json of Z-Image-Turbo."""
BLOCK_STACKS = ("noise_refiner", "context_refiner", "layers")
"""Stacks of blocks: the picture's own, the text's own, and those of both."""
UNUSED = "norm_final.weight"
"""A tensor that original files have, and that no network uses."""
BASE = re.compile(r"z[-_ ]?image[-_ ]?(base|bf16|fp16|fp8|int8|q\d|$)")
"""How files of the one that is not distilled are called."""
BASE_SHIFT = 6.0
TURBO_SHIFT = 3.0
"""Of time: scheduler/scheduler_config.json of Z-Image and of Z-Image-Turbo."""


def _look(view: View) -> Detected:
    if any(view.names("siglip_embedder.")):
        raise RelativeError("that also reads pictures (Z-Image Omni or Edit)")
    original = "x_embedder.weight" in view
    image = "x_embedder.weight" if original else "all_x_embedder.2-1.weight"
    features = view.shape(image, 2)[1]
    if features != 64:
        raise RelativeError(f"like Z-Image, but whose patches have {features} features, not 64")
    context = view.shape("cap_embedder.1.weight", 2)[1]
    family, told_by = _variant(view)
    variant, layout = f"{family.title} (by {told_by})", "original" if original else "diffusers"
    return Detected(family, variant, view.prefix, layout, features // 4, context, PATCH)


def _variant(view: View) -> tuple[Family, str]:
    """Turbo or not, and what says so."""
    config = view.checkpoint.configs.get("scheduler", {})
    if "shift" in config:
        base = config["shift"] == BASE_SHIFT
        return Z_IMAGE if base else Z_IMAGE_TURBO, "its scheduler's configuration"
    for where, text in view.said():
        if "turbo" in text:
            return Z_IMAGE_TURBO, where
        if BASE.search(text):
            return Z_IMAGE, where
    return Z_IMAGE_TURBO, "default, as nothing in its file tells"


def build_z_image(tensors: Mapping[str, Tensor], how: Building) -> Built:
    """The transformer, as `Build`."""
    from tileup.families.transformer import TransformerNetwork, transformer_of

    state, origin = {name: each for name, each in tensors.items() if name != UNUSED}, {}
    if "x_embedder.weight" in state:
        state, origin = converted(state, z_image_rules(state), how.name)
    config = z_image_config(state, how.name)
    module = transformer_of("ZImageTransformer2DModel", config, state, how, origin)
    network = TransformerNetwork(module, how.dtype, how.device, PATCH, velocity, min(PLACES[1:]))
    return Built(network, module, config["cap_feat_dim"], None)


def velocity(module: nn.Module, seen: Seen) -> Tensor:
    """What the transformer says of a batch of windows.

    It is told the time from the other side, and predicts x0 - noise.
    """
    import torch

    said: list[Tensor] = module(
        [*seen.cells.unsqueeze(2)], 1 - seen.time, [*seen.tokens], return_dict=False
    )[0]
    return -torch.stack(said).squeeze(2)


def z_image_config(state: Mapping[str, Tensor], name: str) -> dict[str, Any]:
    """diffusers' settings of the network, from the shapes of its weights under diffusers' names."""
    width, inputs = shape(state, "all_x_embedder.2-1.weight", 2, name)
    (head,) = shape(state, "layers.0.attention.norm_q.weight", 1, name)
    if head != sum(ROTATED) or width % head or inputs % PATCH**2:
        raise ModelError(
            f"{name}: attention heads of {head} features in a width of {width}, where Z-Image has"
            f" heads of {sum(ROTATED)}"
        )
    return {
        "in_channels": inputs // PATCH**2,
        "dim": width,
        "n_layers": block_count(state, "layers"),
        "n_refiner_layers": block_count(state, "noise_refiner"),
        "n_heads": width // head,
        "n_kv_heads": width // head,
        "cap_feat_dim": shape(state, "cap_embedder.1.weight", 2, name)[1],
        "axes_dims": [*ROTATED],
        "axes_lens": [*PLACES],
    }


def z_image_rules(names: Collection[str]) -> Iterator[Rule]:
    """Original names to diffusers', for a transformer with the blocks that the names tell of."""
    yield from layer("x_embedder", "all_x_embedder.2-1")
    yield from layer("final_layer.linear", "all_final_layer.2-1.linear")
    yield from layer("final_layer.adaLN_modulation.1", "all_final_layer.2-1.adaLN_modulation.1")
    for same in ("t_embedder.mlp.0", "t_embedder.mlp.2", "cap_embedder.1"):
        yield from layer(same, same)
    for same in ("cap_embedder.0.weight", "x_pad_token", "cap_pad_token"):
        yield Rule(same, (same,))
    for stack in BLOCK_STACKS:
        for index in range(block_count(names, stack)):
            yield from _block(f"{stack}.{index}", stack != "context_refiner")


def _block(block: str, modulated: bool) -> Iterator[Rule]:
    attention = f"{block}.attention"
    parts = tuple(f"{attention}.{each}.weight" for each in ("to_q", "to_k", "to_v"))
    yield Rule(f"{attention}.qkv.weight", parts)
    yield Rule(f"{attention}.out.weight", (f"{attention}.to_out.0.weight",))
    for each in "qk":
        yield Rule(f"{attention}.{each}_norm.weight", (f"{attention}.norm_{each}.weight",))
    same = [f"feed_forward.w{number}" for number in (1, 2, 3)]
    same += ["attention_norm1", "attention_norm2", "ffn_norm1", "ffn_norm2"]
    for each in same:
        yield Rule(f"{block}.{each}.weight", (f"{block}.{each}.weight",))
    if modulated:
        yield from layer(f"{block}.adaLN_modulation.0", f"{block}.adaLN_modulation.0")


Z_IMAGE_TURBO = Family(
    name="z-image-turbo",
    title="Z-Image Turbo",
    short="Z-Image",
    hints=Hints(widths=(3840,), latents=16, words=r"z[-_ ]?image"),
    signs={"layers.0.adaLN_modulation.0.weight": _look},
    latents=Latents(0.3611, 0.1159),
    window=1024,
    levels=flow_levels(TURBO_SHIFT, configured=True),
    text=Recipe(
        (),
        clip_tokens=False,
        chunked=False,
        llm=LlmUse(
            "qwen3",
            "Qwen3 4B",
            "<|im_start|>user\n",
            "<|im_end|>\n<|im_start|>assistant\n",
            length=512,
            layers=(-2,),
        ),
    ),
    inside={"llm": ("text_encoders.qwen3_4b.transformer.model.", "text_encoder.model.")},
    tokenizer="tokenizer",
    build=build_z_image,
    rules=z_image_rules,
    blocks=("layers_", "noise_refiner_", "context_refiner_"),
)
Z_IMAGE = replace(
    Z_IMAGE_TURBO,
    name="z-image",
    title="Z-Image",
    levels=flow_levels(BASE_SHIFT, configured=True),
)
