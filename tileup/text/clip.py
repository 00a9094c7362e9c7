"""CLIP's text encoder from a file's tensors: read, run, given back."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from tileup.errors import ModelError
from tileup.tensors.filling import Placing, build
from tileup.tensors.scaled import unscaled
from tileup.tensors.shapes import block_count, shape
from tileup.text.tokens import CHUNK
from tileup.text.vocabulary import SIZE
from tileup.torchvision_shield import shield_torchvision

if TYPE_CHECKING:
    from transformers import CLIPTextConfig

HEAD = 64
"""Width of an attention head in every CLIP text encoder that is in use."""

_OPEN_CLIP = (
    (r"^token_embedding\.", "text_model.embeddings.token_embedding."),
    (r"^positional_embedding$", "text_model.embeddings.position_embedding.weight"),
    (r"^ln_final\.", "text_model.final_layer_norm."),
    (r"^transformer\.resblocks\.", "text_model.encoder.layers."),
    (r"\.ln_([12])\.", r".layer_norm\1."),
    (r"\.attn\.", ".self_attn."),
    (r"\.mlp\.c_fc\.", ".mlp.fc1."),
    (r"\.mlp\.c_proj\.", ".mlp.fc2."),
)
"""Names of OpenCLIP, and what transformers calls them."""
_NOT_TEXT = re.compile(
    r"(position_ids|logit_scale|attn_mask)$|^(vision_model|visual_projection|visual)\."
)
"""What is no weight of the text encoder: tables, and the half of a whole CLIP that sees."""


@dataclass(frozen=True, slots=True)
class ClipOutput:
    """What CLIP says of a batch of rows of tokens."""

    hidden: tuple[Tensor, ...]
    """The embedding, then what each layer gives, shapes (rows, length, width); not normed."""
    pooled: Tensor
    """The last layer at the first mark of the end, normed, shape (rows, width)."""


class Enlarged(nn.Module):
    """A table of tokens with further ones behind CLIP's own."""

    def __init__(self, table: nn.Embedding, further: Tensor) -> None:
        """Args:
        table: of the encoder.
        further: vectors, shape (n, width), of the tokens from `SIZE` on.
        """
        super().__init__()
        self.table = table
        self.further = nn.Parameter(further, requires_grad=False)

    def forward(self, ids: Tensor) -> Tensor:
        known = self.table(ids.clamp(max=SIZE - 1))
        return torch.where((ids < SIZE)[..., None], known, self.further[(ids - SIZE).clamp(min=0)])


class Clip:
    """A text encoder, for inference."""

    def __init__(self, network: nn.Module, trimmed: bool) -> None:
        self.network = network
        self.trimmed = trimmed
        """Whether it comes under the names of transformers, where SD 2's lacks its last layer."""

    def learn(self, vectors: Tensor) -> None:
        """Take vectors, shape (n, width), for tokens of the numbers from `SIZE` on."""
        embeddings = cast(nn.Module, self.network.text_model.embeddings)  # pyright: ignore[reportAttributeAccessIssue]
        table = cast(nn.Embedding, embeddings.token_embedding)
        embeddings.token_embedding = Enlarged(table, vectors.to(table.weight))

    @torch.no_grad()
    def __call__(self, rows: Sequence[Sequence[int]]) -> ClipOutput:
        """Encode rows of tokens, all of one length."""
        device = next(self.network.parameters()).device
        ids = torch.tensor(rows, device=device)
        positions = torch.arange(ids.shape[1], device=device)[None]
        text_model: nn.Module = self.network.text_model  # pyright: ignore[reportAssignmentType]
        output = text_model(ids, position_ids=positions, output_hidden_states=True)
        return ClipOutput(tuple(output.hidden_states), output.pooler_output)

    @torch.no_grad()
    def normed(self, hidden: Tensor) -> Tensor:
        """Hidden features after the final norm."""
        return self.network.text_model.final_layer_norm(hidden)  # pyright: ignore[reportAttributeAccessIssue, reportCallIssue]

    @torch.no_grad()
    def projected(self, pooled: Tensor) -> Tensor:
        """Pooled features in the space that texts share with pictures.

        A file without a projection has the identity, as those of CLIP-L for SD 3.
        """
        return self.network.text_projection(pooled)  # pyright: ignore[reportCallIssue]

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        return self.network.named_parameters()


def load_clip(
    tensors: Mapping[str, Tensor],
    *,
    act: str,
    what: str,
    dtype: torch.dtype,
    device: str,
) -> Clip:
    """A text encoder from tensors under the names of transformers or OpenCLIP.

    Args:
        tensors: names without the file's prefix.
        act: activation, `quick_gelu` or `gelu`; no tensor tells.
        what: how messages call it: "CLIP-L".
        dtype: to run in.
        device: to run on.

    Raises:
        ModelError: a tensor is missing, left over, or of the wrong shape.
    """
    shield_torchvision()
    from transformers import CLIPTextModelWithProjection

    named = renamed(unscaled(tensors), what)
    config = _config(named, act, what)

    def made() -> CLIPTextModelWithProjection:
        network = CLIPTextModelWithProjection(config)
        if "text_projection.weight" not in named:
            network.text_projection = nn.Identity()  # pyright: ignore[reportAttributeAccessIssue]
        return network

    network = build(made, named, what, Placing(dtype, device))
    return Clip(network, trimmed=not any("resblocks" in name for name in tensors))


def renamed(tensors: Mapping[str, Tensor], what: str = "CLIP") -> dict[str, Tensor]:
    """Tensors under the names of transformers, with `text_model.` before all but the projection.

    OpenCLIP keeps queries, keys and values in one matrix, and the projection transposed.

    Raises:
        ModelError: that matrix does not divide into three.
    """
    result: dict[str, Tensor] = {}
    for original, tensor in tensors.items():
        if _NOT_TEXT.search(original):
            continue
        name = original
        for old, new in _OPEN_CLIP:
            name = re.sub(old, new, name)
        if name == "text_projection":
            result["text_projection.weight"] = tensor.T if tensor.ndim == 2 else tensor
        elif ".in_proj_" in name:
            if not tensor.ndim or tensor.shape[0] % 3 or not tensor.shape[0]:
                raise ModelError(
                    f"{what}: the tensor {original} {list(tensor.shape)} does not divide into three"
                )
            for part, piece in zip("qkv", tensor.chunk(3), strict=True):
                result[name.replace(".in_proj_", f".{part}_proj.")] = piece
        elif name.startswith(("text_model.", "text_projection.")):
            result[name] = tensor
        else:
            result[f"text_model.{name}"] = tensor
    return result


def _config(named: Mapping[str, Tensor], act: str, what: str) -> CLIPTextConfig:
    from transformers import CLIPTextConfig

    vocabulary, width = shape(named, "text_model.embeddings.token_embedding.weight", 2, what)
    positions, _ = shape(named, "text_model.embeddings.position_embedding.weight", 2, what)
    inner, _ = shape(named, "text_model.encoder.layers.0.mlp.fc1.weight", 2, what)
    if vocabulary < SIZE or positions < CHUNK + 2:
        raise ModelError(
            f"{what}: {vocabulary} tokens and {positions} positions, but CLIP has {SIZE} and"
            f" {CHUNK + 2}"
        )
    if width % HEAD:
        raise ModelError(f"{what}: features {width} wide are no multiple of {HEAD}")
    name = "text_projection.weight"
    projection = shape(named, name, 2, what)[0] if name in named else width
    return CLIPTextConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=inner,
        projection_dim=projection,
        num_hidden_layers=block_count(named, "text_model.encoder.layers"),
        num_attention_heads=width // HEAD,
        max_position_embeddings=positions,
        hidden_act=act,
    )
