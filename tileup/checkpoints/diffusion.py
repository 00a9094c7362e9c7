"""A checkpoint of a latent family as a model: its network, its VAE and its text encoders together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

from torch import Tensor

from tileup.codec.vae import VaeCodec
from tileup.contracts import Encoded, ModelSpec, Network, Scene
from tileup.sampling.guided import GuidedDenoiser


class Movable(Protocol):
    """A part of a model that can leave the device while another one works."""

    def load(self) -> None:
        """Bring the weights to the device."""
        ...

    def unload(self) -> None:
        """Take them to main memory."""
        ...


class MovableNetwork(Network, Movable, Protocol):
    """A network that can leave the device."""


class Reader(Protocol):
    """Encodes prompts."""

    def encode(self, prompt: str, negative: str | None = None) -> tuple[Encoded, Encoded | None]:
        """A prompt and what the picture shall not look like, one row each, of one length."""
        ...


@dataclass(slots=True)
class Turns:
    """Who is on the device: all parts, or with little memory only the one at work."""

    alone: bool
    present: tuple[Movable, ...] = ()

    def of(self, *parts: Movable) -> None:
        """Make sure that these parts are on the device, and the others not where memory is low."""
        if not self.alone or parts == self.present:
            return
        for part in self.present:
            part.unload()
        for part in parts:
            part.load()
        self.present = parts


@dataclass(frozen=True, slots=True)
class TurnCodec:
    """A VAE that is on the device while it works."""

    vae: VaeCodec
    turns: Turns

    def encode(self, pixels: Tensor) -> Tensor:
        """As `VaeCodec.encode`."""
        self.turns.of(self.vae)
        return self.vae.encode(pixels)

    def decode(self, latents: Tensor) -> Tensor:
        """As `VaeCodec.decode`."""
        self.turns.of(self.vae)
        return self.vae.decode(latents)


@dataclass
class DiffusionModel:
    """Everything that a checkpoint of a latent family needs, on one device; satisfies `Model`."""

    spec: ModelSpec
    device: str
    network: MovableNetwork
    vae: VaeCodec
    reader: Reader
    hashed: Callable[[], str]
    """SHA-256 of the file: seconds of reading, so only when it is asked for."""
    turns: Turns
    beside: tuple[Movable, ...] = ()
    """What works together with the network: a control network."""
    _notes: list[str] = field(default_factory=list[str], repr=False)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the file, hexadecimal."""
        return self.hashed()

    @property
    def codec(self) -> TurnCodec:
        return TurnCodec(self.vae, self.turns)

    def denoiser(self, scene: Scene) -> GuidedDenoiser:
        """The network, told the scene's prompt and shown its picture."""
        wish = scene.wish
        self.turns.of()
        text, negative = self.reader.encode(wish.prompt, None if wish.cfg == 1 else wish.negative)
        self.turns.of(self.network, *self.beside)
        return GuidedDenoiser(
            self.network, self.spec.prediction, scene, text, negative, cfg=wish.cfg
        )

    def take_notes(self) -> tuple[str, ...]:
        """What had to be done in another way than was asked for, since this was last called."""
        return self.vae.take_notes()
