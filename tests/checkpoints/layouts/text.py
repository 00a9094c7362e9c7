"""Text encoders with random weights under the names of the original files, prefixes left off.

Widths and depths are free; heads are 64 wide as in the original. Vocabulary and length of CLIP are
the real ones, so that the real tokenizer serves.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

VOCABULARY = 49408
POSITIONS = 77


class Weights:
    """Draws tensors, the same for the same seed."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def normal(self, *shape: int, std: float) -> Tensor:
        return torch.empty(shape).normal_(0, std, generator=self.generator)

    def vocabulary(self, width: int) -> Tensor:
        """CLIP's table of words. A wide one says the same again after some thousand words: to draw
        all of it takes longer than what most tests do with it."""
        drawn = self.normal(min(VOCABULARY, 2**22 // width), width, std=0.5)
        return drawn.repeat(-(-VOCABULARY // len(drawn)), 1)[:VOCABULARY]

    def linear(self, name: str, inputs: int, outputs: int) -> dict[str, Tensor]:
        return {
            f"{name}.weight": self.normal(outputs, inputs, std=inputs**-0.5),
            f"{name}.bias": self.normal(outputs, std=0.1),
        }

    def norm(self, name: str, width: int) -> dict[str, Tensor]:
        return {
            f"{name}.weight": 1 + self.normal(width, std=0.1),
            f"{name}.bias": self.normal(width, std=0.1),
        }


def prefixed(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in tensors.items()}


def clip_l(
    width: int = 64,
    layers: int = 3,
    seed: int = 0,
    projection: int | None = None,
    position_ids: bool = True,
    inner: int | None = None,
) -> dict[str, Tensor]:
    """CLIP as transformers names it: `cond_stage_model.transformer.` of SD 1.5 holds this.

    Args:
        width: of the features, a multiple of 64.
        layers: how many there are.
        seed: of the random weights.
        projection: width of the projected text; None leaves the projection out.
        position_ids: whether the file holds them, in float32, as many do.
        inner: width within the perceptrons; None: four times that of the features, as everywhere.
    """
    inner = inner or 4 * width
    draw = Weights(seed)
    tensors = {
        "text_model.embeddings.token_embedding.weight": draw.vocabulary(width),
        "text_model.embeddings.position_embedding.weight": draw.normal(POSITIONS, width, std=0.5),
        **draw.norm("text_model.final_layer_norm", width),
    }
    for index in range(layers):
        layer = f"text_model.encoder.layers.{index}"
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            tensors |= draw.linear(f"{layer}.self_attn.{name}", width, width)
        tensors |= draw.norm(f"{layer}.layer_norm1", width)
        tensors |= draw.norm(f"{layer}.layer_norm2", width)
        tensors |= draw.linear(f"{layer}.mlp.fc1", width, inner)
        tensors |= draw.linear(f"{layer}.mlp.fc2", inner, width)
    if projection is not None:
        tensors["text_projection.weight"] = draw.normal(projection, width, std=width**-0.5)
    if position_ids:
        tensors["text_model.embeddings.position_ids"] = torch.arange(POSITIONS)[None].float()
    return tensors


def open_clip(
    width: int = 64,
    layers: int = 3,
    seed: int = 1,
    projection: int | None = None,
    inner: int | None = None,
) -> dict[str, Tensor]:
    """CLIP as OpenCLIP names it: `cond_stage_model.model.` of SD 2, `embedders.1.model.` of SDXL.

    The projection is `width` wide unless given; `inner` as of `clip_l`.
    """
    inner = inner or 4 * width
    draw = Weights(seed)
    tensors = {
        "token_embedding.weight": draw.vocabulary(width),
        "positional_embedding": draw.normal(POSITIONS, width, std=0.5),
        "text_projection": draw.normal(width, projection or width, std=width**-0.5),
        "logit_scale": torch.tensor(4.6),
        **draw.norm("ln_final", width),
    }
    for index in range(layers):
        block = f"transformer.resblocks.{index}"
        attention = draw.linear("in_proj", width, 3 * width)
        tensors |= {
            f"{block}.attn.in_proj_weight": attention["in_proj.weight"],
            f"{block}.attn.in_proj_bias": attention["in_proj.bias"],
            **draw.linear(f"{block}.attn.out_proj", width, width),
            **draw.norm(f"{block}.ln_1", width),
            **draw.norm(f"{block}.ln_2", width),
            **draw.linear(f"{block}.mlp.c_fc", width, inner),
            **draw.linear(f"{block}.mlp.c_proj", inner, width),
        }
    return tensors


def t5(
    width: int = 64, layers: int = 2, seed: int = 2, vocabulary: int = 384, heads: int = 2
) -> dict[str, Tensor]:
    """The encoder of T5 v1.1, as `t5xxl_fp16.safetensors` names it; heads of width / 2."""
    draw = Weights(seed)
    inner = heads * (width // 2)
    table = draw.normal(vocabulary, width, std=1.0)
    tensors = {
        "shared.weight": table,
        "encoder.embed_tokens.weight": table,
        "encoder.final_layer_norm.weight": 1 + draw.normal(width, std=0.1),
        "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight": draw.normal(
            32, heads, std=0.5
        ),
    }
    for index in range(layers):
        block = f"encoder.block.{index}"
        for name in ("q", "k", "v"):
            tensors[f"{block}.layer.0.SelfAttention.{name}.weight"] = draw.normal(
                inner, width, std=width**-0.5
            )
        tensors |= {
            f"{block}.layer.0.SelfAttention.o.weight": draw.normal(width, inner, std=inner**-0.5),
            f"{block}.layer.0.layer_norm.weight": 1 + draw.normal(width, std=0.1),
            f"{block}.layer.1.DenseReluDense.wi_0.weight": draw.normal(
                2 * width, width, std=width**-0.5
            ),
            f"{block}.layer.1.DenseReluDense.wi_1.weight": draw.normal(
                2 * width, width, std=width**-0.5
            ),
            f"{block}.layer.1.DenseReluDense.wo.weight": draw.normal(
                width, 2 * width, std=(2 * width) ** -0.5
            ),
            f"{block}.layer.1.layer_norm.weight": 1 + draw.normal(width, std=0.1),
        }
    return tensors
