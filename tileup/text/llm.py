"""The first layers of a language model, which read prompts for newer families.

Only the layers up to the last one whose features are wanted are built: the rest of the file, such
as its head and what it sees pictures with, is left alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from tileup.errors import ModelError
from tileup.tensors.filling import Placing, build
from tileup.tensors.scaled import unscaled
from tileup.tensors.shapes import block_count, shape
from tileup.torchvision_shield import shield_torchvision
from tileup.wording import counted

if TYPE_CHECKING:
    from tileup.text.recipes import LlmUse

LlmKind = Literal["qwen3", "qwen2", "mistral", "gemma2"]


@dataclass(frozen=True, slots=True)
class LlmArchitecture:
    """What no tensor tells of a language model."""

    title: str
    """For messages."""
    config: str
    """Class of its settings in transformers."""
    model: str
    """Its class in transformers."""
    theta: float
    """Base of the rotary angles."""
    eps: float
    """Of the norms."""
    head: int
    """Features of an attention head, where no norm of a head tells."""
    more: Mapping[str, object]
    """Further settings."""


ARCHITECTURES: Mapping[LlmKind, LlmArchitecture] = {
    "qwen3": LlmArchitecture("Qwen3", "Qwen3Config", "Qwen3Model", 1e6, 1e-6, 128, {}),
    # Qwen2.5-VL turns text, whose three positions are equal, as Qwen2 does.
    "qwen2": LlmArchitecture("Qwen2.5-VL", "Qwen2Config", "Qwen2Model", 1e6, 1e-6, 128, {}),
    "mistral": LlmArchitecture(
        "Mistral Small 3", "MistralConfig", "MistralModel", 1e9, 1e-5, 128, {"sliding_window": None}
    ),
    # Softly capped attention, a window in every second layer, scaled embeddings: its defaults.
    "gemma2": LlmArchitecture("Gemma 2", "Gemma2Config", "Gemma2Model", 1e4, 1e-6, 256, {}),
}
"""From the configurations of the published models."""
_SIGNS: Mapping[LlmKind, tuple[bool, bool, bool]] = {
    "qwen3": (True, False, False),
    "qwen2": (False, True, False),
    "mistral": (False, False, False),
    "gemma2": (False, False, True),
}
"""Whether queries have a norm and a bias, and perceptrons a norm behind them, which tells the kinds
apart."""
_SIGNED = (
    "self_attn.q_norm.weight",
    "self_attn.q_proj.bias",
    "post_feedforward_layernorm.weight",
)
_LAYER = re.compile(r"layers\.(\d+)\.")


class Llm:
    """A language model as far as it is read, for inference."""

    def __init__(self, network: nn.Module, title: str, depths: Sequence[int]) -> None:
        self.network = network
        self.title = title
        self.depths = depths
        """How many layers come before the features that are wanted."""

    @torch.no_grad()
    def __call__(self, row: Sequence[int], seen: Sequence[bool] | None = None) -> Tensor:
        """Features of tokens, those of all wanted layers side by side, shape (length, features).

        Args:
            row: of tokens.
            seen: for each whether others may see it; None: all may.

        Raises:
            ModelError: a token is not among the model's.
        """
        table: Tensor = self.network.embed_tokens.weight  # pyright: ignore[reportAttributeAccessIssue, reportAssignmentType]
        ids = torch.tensor([row])
        if ids.max() >= table.shape[0]:
            raise ModelError(
                f"{self.title} knows {table.shape[0]} tokens, but its tokenizer gave number"
                f" {ids.max()}; they belong to different models"
            )
        hidden = self.network(
            ids.to(table.device),
            attention_mask=None
            if seen is None
            else torch.tensor([seen], device=table.device).int(),
            output_hidden_states=True,
            use_cache=False,
        ).hidden_states
        return torch.cat([hidden[depth][0] for depth in self.depths], dim=-1)

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        return self.network.named_parameters()


def load_llm(tensors: Mapping[str, Tensor], use: LlmUse, *, dtype: torch.dtype, device: str) -> Llm:
    """A language model from tensors under the names of transformers.

    Args:
        tensors: names without the file's prefix: `layers.0.self_attn.q_proj.weight`.
        use: which model it is, and which layers are read.
        dtype: to run in.
        device: to run on.

    Raises:
        ModelError: a tensor is missing, or of the wrong shape, or there are too few layers.
    """
    shield_torchvision()
    import transformers

    kind = ARCHITECTURES[use.model]
    there = block_count(tensors, "layers")
    depths = use.depths(there)
    depth = max(depths)
    if not 0 < depth <= there:
        raise ModelError(
            f"{kind.title}: of its {counted(there, 'layer')} {depth} are to be read; the file"
            f" is incomplete or of another kind"
        )
    kept = {name: each for name, each in tensors.items() if _is_read(name, depth, use.normed)}
    named = unscaled(kept)
    signs = tuple(f"layers.0.{each}" in named for each in _SIGNED)
    if signs != _SIGNS[use.model]:
        raise ModelError(f"the text encoder is not {kind.title}; this model reads with that")
    config = getattr(transformers, kind.config)(**_config(named, kind, depth))

    def made() -> nn.Module:
        network: Any = getattr(transformers, kind.model)(config)
        if not use.normed:
            network.norm = nn.Identity()
        return network

    placing = Placing(dtype, device)
    network = build(made, named, kind.title, placing, computed=True)
    return Llm(network, kind.title, depths)


def _is_read(name: str, depth: int, normed: bool) -> bool:
    """Whether a tensor belongs to what is read."""
    layer = _LAYER.match(name)
    if layer:
        return int(layer[1]) < depth
    return name.startswith("embed_tokens.") or (normed and name.startswith("norm."))


def _config(named: Mapping[str, Tensor], kind: LlmArchitecture, depth: int) -> dict[str, object]:
    vocabulary, width = shape(named, "embed_tokens.weight", 2, kind.title)
    hidden, _ = shape(named, "layers.0.mlp.gate_proj.weight", 2, kind.title)
    queries, _ = shape(named, "layers.0.self_attn.q_proj.weight", 2, kind.title)
    keys, _ = shape(named, "layers.0.self_attn.k_proj.weight", 2, kind.title)
    norm = "layers.0.self_attn.q_norm.weight"
    head = shape(named, norm, 1, kind.title)[0] if norm in named else min(kind.head, keys)
    if queries % head or keys % head:
        raise ModelError(
            f"{kind.title}: {queries} queries and {keys} keys are no heads of {head} features"
        )
    return {
        "vocab_size": vocabulary,
        "hidden_size": width,
        "intermediate_size": hidden,
        "num_hidden_layers": depth,
        "num_attention_heads": queries // head,
        "num_key_value_heads": keys // head,
        "head_dim": head,
        "rms_norm_eps": kind.eps,
        "rope_theta": kind.theta,
        **kind.more,
    }
