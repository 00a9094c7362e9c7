"""Encoded prompts in a file, so that no text encoder need be loaded.

The names of the tensors are those that diffusers' pipelines take:

    prompt_embeds                   features of the tokens, (n, d) or (1, n, d)
    pooled_prompt_embeds            features of the whole text, (d,) or (1, d)
    negative_prompt_embeds          the same for what the picture shall not look like
    negative_pooled_prompt_embeds
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from tileup.contracts import Encoded
from tileup.errors import ModelError, UsageError
from tileup.tensors.names import the_first


def read_embeds(
    path: Path, *, cfg: float, features: int | None = None, pooled: int | None = None
) -> tuple[Encoded, Encoded | None]:
    """Encoded prompts of a file.

    Args:
        path: a .safetensors file.
        cfg: classifier-free guidance; 1 needs no negative, and none is returned.
        features: width of the tokens' features that the network takes; None takes any.
        pooled: width of the whole text's features that the network takes; None takes none.

    Returns:
        The prompt and the negative, float32 on the CPU, one row each, of the same length.

    Raises:
        ModelError: the file cannot be read, or a tensor is missing, not finite or of a wrong shape.
        UsageError: guidance needs a negative, and the file has none.
    """
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"prompt-embeds {path} cannot be read ({error})") from error
    prompt = _row(tensors, "", path, features, pooled)
    if cfg == 1:
        return prompt, None
    if "negative_prompt_embeds" not in tensors:
        raise UsageError(
            f"prompt-embeds {path} has no negative_prompt_embeds, which cfg {cfg:g} needs;"
            " add them, or set cfg to 1"
        )
    negative = _row(tensors, "negative_", path, features, pooled)
    if negative.tokens.shape != prompt.tokens.shape:
        raise ModelError(
            f"prompt-embeds {path}: prompt and negative differ in shape, {_sides(prompt.tokens)}"
            f" and {_sides(negative.tokens)}; pad the shorter text before encoding"
        )
    return prompt, negative


def _row(
    tensors: Mapping[str, Tensor], prefix: str, path: Path, features: int | None, pooled: int | None
) -> Encoded:
    tokens = _tensor(tensors, f"{prefix}prompt_embeds", 2, features, path)
    if pooled is None:
        return Encoded(tokens)
    return Encoded(tokens, _tensor(tensors, f"{prefix}pooled_prompt_embeds", 1, pooled, path))


def _tensor(
    tensors: Mapping[str, Tensor], name: str, rank: int, width: int | None, path: Path
) -> Tensor:
    """A tensor with one row before its `rank` axes, float32."""
    where = f"prompt-embeds {path}: {name}"
    if name not in tensors:
        raise ModelError(f"{where} is missing; it has {the_first(tensors) or 'nothing'}")
    tensor = tensors[name]
    shape = _sides(tensor)
    if tensor.ndim == rank:
        tensor = tensor[None]
    if tensor.ndim != rank + 1 or tensor.shape[0] != 1 or 0 in tensor.shape:
        wanted = "(n, d) or (1, n, d)" if rank == 2 else "(d) or (1, d)"
        raise ModelError(f"{where} must be {wanted}, got {shape}")
    if width is not None and tensor.shape[-1] != width:
        raise ModelError(
            f"{where} is {tensor.shape[-1]} wide, but this model takes {width};"
            " it was encoded for another model"
        )
    if not tensor.is_floating_point():
        raise ModelError(f"{where} holds {tensor.dtype}, no real numbers")
    tensor = tensor.float()
    if not tensor.isfinite().all():
        raise ModelError(f"{where} has values that are not finite")
    return tensor


def _sides(tensor: Tensor) -> str:
    return f"({', '.join(map(str, tensor.shape))})"
