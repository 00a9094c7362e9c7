"""A checkpoint of a latent family as a model: network, VAE and text encoders together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor, nn

from tileup.codec.vae import VaeCodec
from tileup.contracts import Encoded, ModelSpec, Network, Scene
from tileup.sampling.guided import GuidedDenoiser


class PromptEncoder(Protocol):
    """Encodes prompts."""

    def encode(self, prompt: str, negative: str | None = None) -> tuple[Encoded, Encoded | None]:
        """A prompt and what the picture shall not look like, one row each, of one length."""
        ...


@dataclass(frozen=True, slots=True)
class OffloadGroup:
    """Modules that work together, and leave the device together where memory is low."""

    modules: Callable[[], Iterable[nn.Module]]
    device: str

    def load(self) -> None:
        """Bring the weights to the device."""
        for module in self.modules():
            module.to(self.device)

    def unload(self) -> None:
        """Take them to main memory."""
        for module in self.modules():
            module.to("cpu")


@dataclass(slots=True)
class Offloader:
    """Who is on the device: all parts, or where memory is low only the one at work."""

    alone: bool
    present: OffloadGroup | None = None

    def of(self, part: OffloadGroup | None) -> None:
        """Make sure that a part is on the device, where memory is low without the others."""
        if not self.alone or part is self.present:
            return
        if self.present is not None:
            self.present.unload()
        if part is not None:
            part.load()
        self.present = part


@dataclass(frozen=True, slots=True)
class OffloadedCodec:
    """A VAE that comes to the device when it works; satisfies `Codec`."""

    vae: VaeCodec
    part: OffloadGroup
    offloader: Offloader

    def encode(self, pixels: Tensor) -> Tensor:
        """As `VaeCodec.encode`."""
        self.offloader.of(self.part)
        return self.vae.encode(pixels)

    def decode(self, latents: Tensor) -> Tensor:
        """As `VaeCodec.decode`."""
        self.offloader.of(self.part)
        return self.vae.decode(latents)

    def encode_rows(self, rows: Callable[[int, int], Tensor], height: int, width: int) -> Tensor:
        """As `VaeCodec.encode_rows`."""
        self.offloader.of(self.part)
        return self.vae.encode_rows(rows, height, width)

    def decode_rows(self, latents: Tensor) -> Iterator[Tensor]:
        """As `VaeCodec.decode_rows`."""
        self.offloader.of(self.part)
        return self.vae.decode_rows(latents)


@dataclass
class DiffusionModel:
    """Everything that a checkpoint of a latent family needs, on one device; satisfies `Model`."""

    spec: ModelSpec
    device: str
    dtype: torch.dtype
    """What the network computes in."""
    network: Network
    part: OffloadGroup
    """The network's modules, with those of a control network."""
    codec: OffloadedCodec
    reader: PromptEncoder
    offloader: Offloader
    masked: bool
    """Whether the network is shown what of the picture stays (inpainting models)."""
    hashed: Callable[[], str]
    """SHA-256 of the file: seconds of reading, so only when it is asked for."""

    runtime: str = "torch"
    """What computes the network."""
    _digest: str = ""

    @property
    def digest(self) -> str:
        """SHA-256 of the file, hexadecimal."""
        self._digest = self._digest or self.hashed()
        return self._digest

    def denoiser(self, scene: Scene) -> GuidedDenoiser:
        """The network, told the scene's prompt and shown its picture."""
        wish = scene.wish
        self.offloader.of(None)  # the text encoders come and go by themselves
        text, negative = self.reader.encode(wish.prompt, None if wish.cfg == 1 else wish.negative)
        if self.masked and scene.masked is None:
            height, width = (side * self.spec.stride for side in scene.source.shape[-2:])

            def grey(top: int, bottom: int) -> Tensor:
                return torch.full((1, 3, bottom - top, width), 0.5)

            scene = replace(scene, masked=self.codec.encode_rows(grey, height, width))
        self.offloader.of(self.part)
        patch = self.spec.multiple // self.spec.stride if wish.cfg_norm else None
        return GuidedDenoiser(
            self.network, self.spec.prediction, scene, text, negative, wish.cfg, patch
        )

    def take_notes(self) -> tuple[str, ...]:
        """What had to be done in another way than was asked for, since this was last called."""
        return self.codec.vae.take_notes()
