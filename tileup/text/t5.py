"""T5's encoder from a file's tensors."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from tileup.errors import ModelError
from tileup.tensors.filling import Placing, build
from tileup.tensors.scaled import unscaled
from tileup.tensors.shapes import block_count, shape
from tileup.torchvision_shield import shield_torchvision

if TYPE_CHECKING:
    from transformers import T5Config

_FIRST = "encoder.block.0.layer.0.SelfAttention."
_NOT_ENCODER = re.compile(r"^(decoder\.|lm_head\.|(logit_scale|spiece_model)$)")


class T5:
    """A text encoder, for inference."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network

    @torch.no_grad()
    def __call__(self, rows: Sequence[Sequence[int]], unseen: int = 0) -> Tensor:
        """Features, shape (rows, length, width), of rows of tokens, all of one length.

        Args:
            rows: of tokens. Padding is a token like any other.
            unseen: how many tokens at the end no token sees.

        Raises:
            ModelError: a token is not among the encoder's.
        """
        ids = torch.tensor(rows)
        table = next(tensor for name, tensor in self.tensors() if name == "shared.weight")
        if ids.max() >= table.shape[0]:
            raise ModelError(
                f"T5 knows {table.shape[0]} tokens, but its tokenizer gave number {ids.max()};"
                " they belong to different models"
            )
        ids = ids.to(table.device)
        seen = None
        if unseen:
            seen = torch.ones_like(ids)
            seen[:, -unseen:] = 0
        return self.network(ids, attention_mask=seen).last_hidden_state

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        return self.network.named_parameters()


def load_t5(tensors: Mapping[str, Tensor], *, what: str, dtype: torch.dtype, device: str) -> T5:
    """A text encoder from tensors under the names of transformers.

    Args:
        tensors: names without the file's prefix; a decoder among them is left alone.
        what: how messages call it.
        dtype: to run in. In float16 the last layer of each block stays in float32, as its numbers
            are too large for it.
        device: to run on.

    Raises:
        ModelError: a tensor is missing, left over, or of the wrong shape.
    """
    shield_torchvision()
    from transformers import T5EncoderModel

    plain = unscaled(tensors)
    named = {name: each for name, each in plain.items() if not _NOT_ENCODER.match(name)}
    # One table under two names, of which files hold one or both.
    for name, other in (
        ("shared.weight", "encoder.embed_tokens.weight"),
        ("encoder.embed_tokens.weight", "shared.weight"),
    ):
        if other in named:
            named.setdefault(name, named[other])
    config = _config(named, what)
    float32 = ("wo",) if dtype == torch.float16 else ()
    placing = Placing(dtype, device, float32=float32)
    return T5(build(lambda: T5EncoderModel(config), named, what, placing))


def _config(named: Mapping[str, Tensor], what: str) -> T5Config:
    from transformers import T5Config

    vocabulary, width = shape(named, "shared.weight", 2, what)
    inner, _ = shape(named, f"{_FIRST}q.weight", 2, what)
    buckets, heads = shape(named, f"{_FIRST}relative_attention_bias.weight", 2, what)
    hidden, _ = shape(named, "encoder.block.0.layer.1.DenseReluDense.wi_0.weight", 2, what)
    if inner % heads:
        raise ModelError(f"{what}: queries {inner} wide do not divide into {heads} heads")
    return T5Config(
        vocab_size=vocabulary,
        d_model=width,
        d_kv=inner // heads,
        d_ff=hidden,
        num_layers=block_count(named, "encoder.block"),
        num_heads=heads,
        relative_attention_num_buckets=buckets,
        feed_forward_proj="gated-gelu",
    )
