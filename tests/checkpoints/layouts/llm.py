"""Language models as text encoders, with random weights under the names that their files have."""

from __future__ import annotations

from torch import Tensor

from tests.checkpoints.layouts.weights import linear, random_weights

VOCABULARY = 420
"""Tokens that there is room for; the small tokenizer of the tests has fewer."""


def language_model(
    width: int = 64,
    layers: int = 3,
    *,
    head: int = 32,
    heads: int = 2,
    groups: int = 1,
    normed: bool = True,
    biased: bool = False,
    sandwiched: bool = False,
    seed: int = 4,
) -> dict[str, Tensor]:
    """Weights under the names of transformers, behind `model.`, with the head behind them.

    Args:
        width: of the features.
        layers: how many there are.
        head: features of a head of attention.
        heads, groups: of queries, and of keys and values.
        normed: with norms of queries and keys, as Qwen3.
        biased: with biases of queries, keys and values, as Qwen2.
        sandwiched: with norms before and behind the perceptrons, as Gemma 2.
        seed: of the random weights.
    """
    shapes: dict[str, tuple[int, ...]] = {"embed_tokens.weight": (VOCABULARY, width)}
    for index in range(layers):
        block = f"layers.{index}"
        for name, rows in (("q", heads), ("k", groups), ("v", groups)):
            projection = dict(linear(f"{block}.self_attn.{name}_proj", rows * head, width))
            if not biased:
                projection = {n: each for n, each in projection.items() if n.endswith("weight")}
            shapes |= projection
            if normed and name != "v":
                shapes[f"{block}.self_attn.{name}_norm.weight"] = (head,)
        shapes[f"{block}.self_attn.o_proj.weight"] = (width, heads * head)
        shapes[f"{block}.mlp.gate_proj.weight"] = (3 * width, width)
        shapes[f"{block}.mlp.up_proj.weight"] = (3 * width, width)
        shapes[f"{block}.mlp.down_proj.weight"] = (width, 3 * width)
        shapes[f"{block}.input_layernorm.weight"] = (width,)
        shapes[f"{block}.post_attention_layernorm.weight"] = (width,)
        for side in ("pre", "post") if sandwiched else ():
            shapes[f"{block}.{side}_feedforward_layernorm.weight"] = (width,)
    shapes["norm.weight"] = (width,)
    tensors = random_weights(shapes.items(), seed)
    tensors["embed_tokens.weight"] *= width**0.5
    behind = {f"model.{name}": each for name, each in tensors.items()}
    return behind | {"lm_head.weight": tensors["embed_tokens.weight"]}
