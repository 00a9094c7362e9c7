"""Qwen-Image: how its files are told, and its transformer.

Two rows of tokens, each with weights of its own, meet in the attention of every block (Wu et al.
(2025), arXiv 2508.02324; QwenLM/Qwen-Image, Apache-2.0). Rows and columns of the picture are
counted from its middle, in every window as in a picture of its own, and the text's tokens follow
on the diagonal behind its edge. All files have the same names, which are those of diffusers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tileup.errors import ModelError
from tileup.families.family import Building, Built, Detected, Family, Hints, Latents, growing_levels
from tileup.families.view import RelativeError, View
from tileup.plan.noise_levels import Growth
from tileup.tensors.shapes import block_count, shape
from tileup.text.recipes import LlmUse, Recipe

if TYPE_CHECKING:
    from torch import Tensor, nn

    from tileup.families.transformer import Seen

PATCH = 2
ROTATED = (16, 56, 56)
"""Features of a head that turn with the frame (always 0), the row and the column."""
MARK = "__index_timestep_zero__"
"""A tensor without values in files of Qwen-Image-Edit 2511: how it is told of a second picture."""
MEAN = (
    *(-0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508),
    *(0.4134, -0.0715, 0.5517, -0.3632, -0.1922, -0.9497, 0.2503, -0.2921),
)
DEVIATION = (
    *(2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743),
    *(3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253, 2.8251, 1.9160),
)
"""Of each channel of the latents: vae/config.json of Qwen-Image."""
LATENTS = Latents(tuple(1 / each for each in DEVIATION), MEAN)
BEFORE = (
    "<|im_start|>system\nDescribe the image by detailing the color, shape, size, texture, quantity,"
    " text, spatial relationships of the objects and background:<|im_end|>\n<|im_start|>user\n"
)
"""What the language model is told before the prompt: that the program of its authors tells it."""


def _look(view: View) -> Detected:
    if "transformer_blocks.0.txt_mod.1.weight" not in view or "txt_norm.weight" not in view:
        raise RelativeError("like Qwen-Image, but with other blocks")
    if "time_text_embed.addition_t_embedding.weight" in view:
        raise RelativeError("that draws layers (Qwen-Image-Layered)")
    features = view.shape("img_in.weight", 2)[1]
    if features != 64:
        raise RelativeError(f"like Qwen-Image, but whose patches have {features} features, not 64")
    context = view.shape("txt_in.weight", 2)[1]
    title = QWEN_IMAGE.title
    return Detected(QWEN_IMAGE, title, view.prefix, "diffusers", features // 4, context, PATCH)


def build_qwen_image(tensors: Mapping[str, Tensor], how: Building) -> Built:
    """The transformer, as `Build`."""
    from tileup.families.transformer import TransformerNetwork, transformer_of

    state = {name: each for name, each in tensors.items() if name != MARK}
    config = qwen_image_config(state, how.name)
    module = transformer_of("QwenImageTransformer2DModel", config, state, how, {}, computed=True)
    network = TransformerNetwork(module, how.dtype, how.device, PATCH, velocity)
    return Built(network, module, config["joint_attention_dim"], None)


def velocity(module: nn.Module, seen: Seen) -> Tensor:
    """What the transformer says of a batch of windows."""
    from tileup.families.transformer import grid_of, in_patches

    return in_patches(module, seen, {"img_shapes": [[(1, *grid_of(seen))]] * len(seen.cells)})


def qwen_image_config(state: Mapping[str, Tensor], name: str) -> dict[str, Any]:
    """diffusers' settings of the network, from the shapes of its weights."""
    width, inputs = shape(state, "img_in.weight", 2, name)
    (head,) = shape(state, "transformer_blocks.0.attn.norm_q.weight", 1, name)
    outputs, _ = shape(state, "proj_out.weight", 2, name)
    if head != sum(ROTATED) or width % head or outputs % PATCH**2:
        raise ModelError(
            f"{name}: attention heads of {head} features in a width of {width}, where Qwen-Image"
            f" has heads of {sum(ROTATED)}"
        )
    return {
        "patch_size": PATCH,
        "in_channels": inputs,
        "out_channels": outputs // PATCH**2,
        "num_layers": block_count(state, "transformer_blocks"),
        "attention_head_dim": head,
        "num_attention_heads": width // head,
        "joint_attention_dim": shape(state, "txt_in.weight", 2, name)[1],
        "axes_dims_rope": ROTATED,
    }


VAE = "Qwen-Image (Wan 2.1 has the same)"
"""Whose VAE it is that was made for films, in words."""

QWEN_IMAGE = Family(
    name="qwen-image",
    title="Qwen-Image",
    short="Qwen-Image",
    hints=Hints(
        layers=r"transformer_blocks_\d+_(img|txt)_m(lp|od)_", widths=(3072,), words=r"qwen"
    ),
    signs={"transformer_blocks.0.img_mod.1.weight": _look},
    latents=LATENTS,
    window=1328,
    # scheduler/scheduler_config.json of Qwen-Image; its shift_terminal is one of steps.
    levels=growing_levels(Growth.through((256, 0.5), (8192, 0.9))),
    text=Recipe(
        (),
        clip_tokens=False,
        chunked=False,
        llm=LlmUse(
            "qwen2",
            "Qwen2.5-VL 7B",
            BEFORE,
            "<|im_end|>\n<|im_start|>assistant\n",
            length=1024 + 34,
            layers=(-1,),
            normed=True,
            dropped=True,
        ),
    ),
    inside={
        "llm": (
            "text_encoders.qwen25_7b.transformer.model.",
            "text_encoder.model.language_model.",
            "text_encoder.model.",
        )
    },
    tokenizer="tokenizer",
    build=build_qwen_image,
    blocks=("transformer_blocks_",),
)
