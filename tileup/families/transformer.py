"""Transformers of rectified flows as networks: latents of any size, and text for each row."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from tileup.contracts import Box, Encoded, Scene
from tileup.errors import ModelError, UsageError
from tileup.families.family import Building, Built
from tileup.tensors.filling import Placing, build
from tileup.tensors.transfers import to_device
from tileup.torchvision_shield import shield_torchvision


@dataclass(frozen=True, slots=True)
class Seen:
    """What a transformer is shown of a batch of windows, on its device and in its precision."""

    cells: Tensor
    """`(1 - s) x0 + s noise`, shape (B, C, h, w); sides are multiples of the patch."""
    time: Tensor
    """Flow time s of each row, shape (B,), float32."""
    tokens: Tensor
    """Features of the text's tokens, shape (B, length, features)."""
    whole: Tensor | None
    """Features of the whole text, shape (B, features), where the family takes them."""
    guidance: float | None
    """What a guidance-distilled network is told; None: its family's own."""
    added: Mapping[str, object] = field(default_factory=dict[str, object])
    """What a control network adds, by the transformer's names for it."""


TransformerControl = Callable[[Seen, Tensor, Tensor], Mapping[str, object]]
"""A control network: what is shown, latents of the enlarged picture as `cells`, and for each row
whether it acts; what comes out is `Seen.added`, without effect on the other rows."""
Velocity = Callable[[nn.Module, Seen], Tensor]
"""Calls a transformer of diffusers in its own words; noise - x0, the shape of `cells`."""


@dataclass(frozen=True, slots=True)
class TransformerNetwork:
    """A transformer that satisfies `Network`: it predicts the velocity, noise - x0.

    Every window is shown as a picture of its own, wherever it lies on the canvas.
    """

    module: nn.Module
    dtype: torch.dtype
    """What it computes in."""
    device: str
    patch: int
    """Cells that a token is wide and high."""
    velocity: Velocity
    table: int | None = None
    """Tokens that a window may be wide or high; None: any number."""
    control: TransformerControl | None = None

    def __call__(
        self, x: Tensor, sigma: Tensor, windows: Sequence[Box], text: Encoded, scene: Scene
    ) -> Tensor:
        """The velocity of each row, shape and dtype of `x`, which is `(1 - s) x0 + s noise`.

        Sides that are no multiple of the patch are continued to the next one, and cut off again.

        Raises:
            UsageError: a window is larger than the table of positions.
        """
        height, width = x.shape[-2:]
        self._check(height, width)
        tokens, whole = text_rows(text, len(x), self.dtype, self.device)
        seen = Seen(
            self._placed(x), flow_time(sigma, self.device), tokens, whole, scene.wish.guidance
        )
        with torch.no_grad():
            seen = self._controlled(seen, sigma, windows, scene)
            velocity = self.velocity(self.module, seen)
        return velocity[..., :height, :width].to(x)

    def _placed(self, x: Tensor) -> Tensor:
        return padded(x, self.patch).to(self.device, self.dtype)

    def _controlled(self, seen: Seen, sigma: Tensor, windows: Sequence[Box], scene: Scene) -> Seen:
        acts = sigma >= scene.control_until
        if self.control is None or not acts.any():
            return seen
        hint = torch.cat([scene.source[..., *box.index] for box in windows])
        return replace(seen, added=self.control(seen, self._placed(hint), acts))

    def _check(self, height: int, width: int) -> None:
        if self.table is not None and max(height, width) > self.patch * self.table:
            raise UsageError(
                f"this network has positions for windows of {self.patch * self.table} latent cells"
                f" at most, and was given one of {height} x {width}; choose a smaller --window"
            )


def transformer_of(
    class_name: str,
    config: Mapping[str, object],
    state: Mapping[str, Tensor],
    how: Building,
    origin: Mapping[str, str],
    *,
    computed: bool = False,
) -> nn.Module:
    """A transformer of diffusers with these weights.

    Args:
        class_name: in diffusers.
        config: its settings.
        state: weights by diffusers' names.
        how: precision and place.
        origin: what the file calls a tensor, where it differs.
        computed: as in `build`.

    Raises:
        ModelError: tensors are missing, unexpected, of the wrong shape, or not finite.
    """
    shield_torchvision()
    import diffusers

    def made() -> nn.Module:
        make: Callable[..., nn.Module] = getattr(diffusers, class_name)
        with warnings.catch_warnings():
            # diffusers warns of what its own Chroma does; nobody here can change that.
            warnings.simplefilter("ignore", FutureWarning)
            return make(**config)

    placing = Placing(how.dtype, how.device, offload=how.offload)
    return build(made, state, how.name, placing, origin=origin, computed=computed)


def padded(x: Tensor, multiple: int) -> Tensor:
    """`x`, shape (B, C, h, w), its last row and column repeated until both sides are multiples."""
    height, width = x.shape[-2:]
    right, below = -width % multiple, -height % multiple
    return functional.pad(x, (0, right, 0, below), mode="replicate") if right or below else x


def flow_time(sigma: Tensor, device: str) -> Tensor:
    """Flow time s in [0, 1) of noise levels in variance-exploding terms: `s / (1 - s) = sigma`.

    float32, which every device has.
    """
    return to_device(sigma / (1 + sigma), device, torch.float32)


def text_rows(
    text: Encoded, rows: int, dtype: torch.dtype, device: str
) -> tuple[Tensor, Tensor | None]:
    """Tokens and features of the whole text, if any, for each row of a batch.

    Raises:
        ValueError: the prompt was encoded for another number of rows.
    """
    tokens = text.tokens.to(device, dtype)
    whole = None if text.pooled is None else text.pooled.to(device, dtype)
    if len(tokens) not in (1, rows) or (whole is not None and len(whole) != len(tokens)):
        count = 0 if whole is None else len(whole)
        raise ValueError(f"{len(tokens)} rows of tokens and {count} pooled ones for {rows} rows")
    if whole is not None:
        whole = whole.expand(rows, -1)
    return tokens.expand(rows, -1, -1), whole


def packed(cells: Tensor, patch: int = 2) -> Tensor:
    """Tokens, shape (B, h / p * w / p, C p p), of latents, shape (B, C, h, w)."""
    batch, channels, height, width = cells.shape
    split = cells.view(batch, channels, height // patch, patch, width // patch, patch)
    return split.permute(0, 2, 4, 1, 3, 5).reshape(batch, -1, channels * patch**2)


def unpacked(tokens: Tensor, rows: int, columns: int, patch: int = 2) -> Tensor:
    """Latents, shape (B, C, p rows, p columns), of tokens: the inverse of `packed`."""
    split = tokens.view(len(tokens), rows, columns, -1, patch, patch)
    return split.permute(0, 3, 1, 4, 2, 5).reshape(len(tokens), -1, rows * patch, columns * patch)


def grid_of(seen: Seen, patch: int = 2) -> tuple[int, int]:
    """Rows and columns of patches in each window."""
    height, width = seen.cells.shape[-2:]
    return height // patch, width // patch


def in_patches(module: nn.Module, seen: Seen, told: Mapping[str, object], patch: int = 2) -> Tensor:
    """What a transformer of diffusers says that takes and gives a row of patches.

    Args:
        module: the transformer.
        seen: of a batch of windows.
        told: what else it is told, in its own words.
        patch: cells that a token is wide and high.

    Returns:
        The velocity, the shape of `seen.cells`.
    """
    tokens: Tensor = module(
        hidden_states=packed(seen.cells, patch),
        timestep=seen.time,
        encoder_hidden_states=seen.tokens,
        **told,
        return_dict=False,
    )[0]
    return unpacked(tokens, *grid_of(seen, patch), patch)


def places(seen: Seen) -> dict[str, Tensor]:
    """Where tokens are, as networks like FLUX.1 are told: words have no place."""
    return {
        "img_ids": positions(*grid_of(seen)).to(seen.time),
        "txt_ids": seen.time.new_zeros(seen.tokens.shape[1], 3),
    }


def positions(rows: int, columns: int) -> Tensor:
    """(0, row, column) of each token, counted from (0, 0), shape (rows * columns, 3)."""
    row, column = torch.arange(rows), torch.arange(columns)
    grid = torch.cartesian_prod(row, column)
    return torch.cat([torch.zeros(len(grid), 1), grid], dim=1)


def whole_text(seen: Seen) -> Tensor:
    """Features of the whole text, for families that take them.

    Raises:
        ValueError: the prompt was encoded for another family.
    """
    if seen.whole is None:
        raise ValueError("this network needs the features of the whole text besides its tokens")
    return seen.whole


def acting(residuals: Iterable[Tensor], acts: Tensor) -> list[Tensor]:
    """Residuals of a control network, 0 for rows in which it does not act.

    Args:
        residuals: each of shape (B, tokens, width).
        acts: whether it does, shape (B,).
    """
    return [each * to_device(acts, each.device, each.dtype)[:, None, None] for each in residuals]


def with_clip(
    network: TransformerNetwork, config: Mapping[str, int], how: Building, control: nn.Module | None
) -> Built:
    """A transformer that also takes CLIP's features of the whole text, and its ControlNet if any.

    Args:
        network: with its ControlNet.
        config: of the transformer, in diffusers' words.
        how: where both come from.
        control: weights of the ControlNet.

    Raises:
        ModelError: the ControlNet does not fit.
    """
    if how.control is not None and control is not None:
        require_fit(control, network.module, how.control.name)
    return Built(
        network,
        network.module,
        config["joint_attention_dim"],
        config["pooled_projection_dim"],
        control,
    )


def require_fit(control: nn.Module, module: nn.Module, name: str) -> None:
    """Refuse a ControlNet whose features are not those of the transformer.

    Args:
        control, module: of diffusers.
        name: the ControlNet's file, for messages.

    Raises:
        ModelError: says of which sizes both are.
    """
    theirs = cast(Mapping[str, object], control.config)
    ours = cast(Mapping[str, object], module.config)
    for size in ("num_attention_heads", "in_channels", "joint_attention_dim"):
        if theirs[size] not in (None, ours[size]):  # None: it takes none of these
            raise ModelError(
                f"{name} does not fit the model: its {size} is {theirs[size]}, and the model's"
                f" {ours[size]}"
            )
