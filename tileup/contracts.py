"""The values and Protocols that the parts of tileup meet through.

Everything is variance-exploding: `x = x0 + sigma * noise`, and a denoiser returns x0. Whatever
a model family does differently is brought into this form once, at its adapter.

Boxes and tensors are in latent cells of the padded canvas, pictures are in pixels. One cell
is `ModelSpec.stride` pixels wide and high.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Box:
    """Half-open rectangle: rows [top, bottom), columns [left, right); never empty."""

    top: int
    left: int
    bottom: int
    right: int

    def __post_init__(self) -> None:
        if self.top >= self.bottom or self.left >= self.right:
            raise ValueError(f"a box needs at least one row and one column, got {self}")

    @property
    def height(self) -> int:
        return self.bottom - self.top

    @property
    def width(self) -> int:
        return self.right - self.left

    @property
    def area(self) -> int:
        return self.height * self.width

    @property
    def index(self) -> tuple[slice, slice]:
        """Selects this box on the last two axes: `x[..., *box.index]`, shape (..., h, w)."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    def scaled(self, factor: int) -> Box:
        """The same rectangle in a unit `factor` times finer: cells to pixels."""
        return Box(self.top * factor, self.left * factor, self.bottom * factor, self.right * factor)


class NoiseLevels(Protocol):
    """How a family's diffusion time, as a denoise strength in [0, 1], becomes a noise level."""

    @property
    def sigma_min(self) -> float:
        """The lowest noise level that the network was trained for, above 0."""
        ...

    @property
    def sigma_max(self) -> float:
        """The top noise level: `sigma(1.0)`."""
        ...

    def sigma(self, denoise: NDArray[np.float64]) -> NDArray[np.float64]:
        """Noise level of each strength in [0, 1]; strictly increasing, sigma_min at 0."""
        ...

    def denoise(self, sigma: NDArray[np.float64]) -> NDArray[np.float64]:
        """Strength of each noise level: the inverse of `sigma`, clamped to [0, 1]."""
        ...


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """What planning needs to know of a checkpoint: read from its header, no tensors loaded."""

    name: str
    """What metadata and messages call it: the file's stem."""
    family: str
    """The name of its defaults in configs/families."""
    prediction: str
    """What the network predicts: eps, v, x0 or flow."""
    stride: int
    """Pixels per latent cell."""
    channels: int
    """Channels of a latent cell."""
    window: int
    """Side of the square it was trained on, output pixels."""
    multiple: int
    """A window's side must be a multiple of this, output pixels; itself one of stride."""
    levels: NoiseLevels
    """Strength to noise level."""
    text: bool = True
    """Whether it takes text; then it also has a VAE."""
    guided: bool = False
    """Whether it was distilled with guidance, and is told how much."""
    any_shape: bool = False
    """Whether windows may have any shape, and any size up to a few times its own: nothing in the
    network depends on how far away the edges are."""
    shapes: tuple[tuple[int, int], ...] = ()
    """Heights and widths that it was trained on besides the square, output pixels."""
    textured: bool = False
    """Whether it has a network of its own for texture."""
    deblocks: bool = False
    """Whether it has a network of its own for sources that JPEG damaged."""
    batch: int = 4
    """Windows evaluated at once where nobody measures how many fit."""
    precision: str = "float16"
    """What it computes in on a GPU, unless something else is asked for: float16, bfloat16 or
    float32."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """Prompts as a network takes them: one row, or one for each row of its batch."""

    tokens: Tensor
    """Features of the tokens, shape (rows, length, features)."""
    pooled: Tensor | None = None
    """Features of the whole text, shape (rows, features), for families that take them."""
    negative: tuple[bool, ...] = ()
    """For each row, whether it says what is not wanted; empty: none does."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What a picture shall look like, in words and in how strictly they are followed."""

    prompt: str = ""
    negative: str = ""
    """What the picture shall not look like; counts only where `cfg` is not 1."""
    cfg: float = 1.0
    """Classifier-free guidance: 1 evaluates the prompt alone, more moves away from `negative`."""
    guidance: float | None = None
    """What a guidance-distilled network is told; None: its family's own."""
    cfg_norm: bool = False
    """Whether guidance of a flow keeps the length of what is predicted, in each patch."""
    texture: float = 1.0
    """How much texture strong tiles are drawn with, 0 to 1, by models that can tell."""
    deblock: bool = False
    """Whether JPEG's damage shall be undone, by models that can."""


@dataclass(frozen=True, slots=True)
class Scene:
    """One picture as a model is shown it, on the padded canvas."""

    source: Tensor
    """Clean latents of the enlarged picture, shape (1, C, H, W)."""
    pixels: Tensor | None
    """The enlarged picture itself, RGB in [0, 1], shape (1, 3, H * stride, W * stride); None where
    latents are pixels, and all is seen in `source`."""
    size: tuple[int, int]
    """Height and width of the picture without the padding, pixels."""
    wish: Wish = Wish()
    """What it shall look like."""
    control_until: float = 0.0
    """A control network acts at this noise level and above."""
    strength: Tensor | None = None
    """Denoising strength of each cell, shape (1, 1, H, W), on the CPU; None: 0 everywhere."""
    masked: Tensor | None = None
    """Latents of a grey picture, the shape of `source`, for networks that are shown what of the
    picture stays: nothing of it does."""


class Network(Protocol):
    """What a family's network predicts, in its own terms: eps, v or velocity."""

    def __call__(
        self, x: Tensor, sigma: Tensor, windows: Sequence[Box], text: Encoded, scene: Scene
    ) -> Tensor:
        """Evaluate a batch of windows.

        Args:
            x: input in the network's own scale, shape (B, C, h, w), float32.
            sigma: noise level of each row in variance-exploding terms, shape (B,). On the CPU
                nobody waits for a GPU to know it.
            windows: where each row lies on the padded canvas, in cells.
            text: one row, or B.
            scene: the picture, for spatial conditions.

        Returns:
            The prediction, shape and dtype of `x`.
        """
        ...


class Denoiser(Protocol):
    """Predicts clean latents for a batch of windows of one canvas."""

    def __call__(self, x: Tensor, sigma: Tensor, windows: Sequence[Box]) -> Tensor:
        """Denoise each row of the batch at its own noise level.

        Args:
            x: noisy latents of the windows, shape (B, C, h, w), float32 or float64.
            sigma: noise level of each row, shape (B,); best on the CPU, as with a `Network`.
            windows: where each row lies on the padded canvas, in cells. Spatial conditions
                (the enlarged source, a control hint) are cropped with these boxes.

        Returns:
            x0, with the shape and dtype of `x`.
        """
        ...


class Codec(Protocol):
    """Pixels to latents and back."""

    def encode(self, pixels: Tensor) -> Tensor:
        """Latents, shape (1, C, H, W), of RGB pixels in [0, 1], shape (1, 3, H * stride, ...)."""
        ...

    def decode(self, latents: Tensor) -> Tensor:
        """RGB pixels, shape (1, 3, H * stride, W * stride), nominally in [0, 1], of latents."""
        ...

    def encode_rows(self, rows: Callable[[int, int], Tensor], height: int, width: int) -> Tensor:
        """As `encode`, of pixels that need not be in memory.

        Args:
            rows: gives rows [top, bottom), shape (1, 3, bottom - top, width); asked for from the
                top down, and from the top again where precision does not suffice.
            height, width: of all of them, multiples of the stride.
        """
        ...

    def decode_rows(self, latents: Tensor) -> Iterator[Tensor]:
        """As `decode`, some rows at a time from the top down."""
        ...


class Model(Protocol):
    """A loaded checkpoint."""

    @property
    def spec(self) -> ModelSpec: ...

    @property
    def digest(self) -> str:
        """SHA-256 of the file, hexadecimal; metadata carries its first ten characters."""
        ...

    @property
    def codec(self) -> Codec: ...

    @property
    def device(self) -> str:
        """Where the network runs: `cpu`, `cuda:0`, `mps`."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """What the network computes in."""
        ...

    @property
    def runtime(self) -> str:
        """What computes the network: `torch`, `ncnn` or `int8`."""
        ...

    def denoiser(self, scene: Scene) -> Denoiser:
        """The network, conditioned on one picture."""
        ...

    def take_notes(self) -> tuple[str, ...]:
        """What had to be done in another way than was asked for, since this was last called."""
        ...


@dataclass(frozen=True, slots=True)
class AroundModel:
    """What stands around a model: all that it does not do in its own way, the model does."""

    model: Model

    @property
    def spec(self) -> ModelSpec:
        """What its header says."""
        return self.model.spec

    @property
    def digest(self) -> str:
        """SHA-256 of the file, hexadecimal."""
        return self.model.digest

    @property
    def codec(self) -> Codec:
        """Pixels to latents and back."""
        return self.model.codec

    @property
    def device(self) -> str:
        """Where the network runs: `cpu`, `cuda:0`, `mps`."""
        return self.model.device

    @property
    def dtype(self) -> torch.dtype:
        """What the network computes in."""
        return self.model.dtype

    @property
    def runtime(self) -> str:
        """What computes the network: `torch`, `ncnn` or `int8`."""
        return self.model.runtime

    def denoiser(self, scene: Scene) -> Denoiser:
        """The network, conditioned on one picture."""
        return self.model.denoiser(scene)

    def take_notes(self) -> tuple[str, ...]:
        """What had to be done in another way than was asked for, since this was last called."""
        return self.model.take_notes()


@dataclass(frozen=True, slots=True)
class Step:
    """Progress within one picture, told after each evaluation of the denoiser."""

    phase: int
    """Which phase is running, from 1."""
    phases: int
    """How many phases there are."""
    calls: int
    """Windows evaluated so far."""
    total_calls: int
    """Windows that the whole run evaluates."""
    known: int = 0
    """Of `calls`, those that an earlier run evaluated: they took no time."""


OnStep = Callable[[Step], None]
"""Called with each `Step`; raising stops the run."""

RawSettings = Mapping[str, object]
"""Settings as they come from outside, not yet checked: names to values."""
