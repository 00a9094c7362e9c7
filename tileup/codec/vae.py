"""Pixels to the latents of a VAE and back, whole or in tiles."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from tileup.codec.causal_layout import CausalLayout, causal_layout
from tileup.codec.causal_network import build_causal, causal_tensors
from tileup.codec.vae_layout import VaeLayout, vae_layout
from tileup.codec.vae_lean import LeanNetwork
from tileup.codec.vae_network import build_vae, diffusers_tensors, outer_name
from tileup.codec.vae_tiles import ConvInput, TiledNetwork, TileGrid, widest
from tileup.contracts import Box
from tileup.devices import maps_held
from tileup.errors import ModelError, TileupError
from tileup.tensors.transfers import pinned, to_device

if TYPE_CHECKING:
    from diffusers import AutoencoderKL

    from tileup.codec.causal_network import CausalAutoencoder

    Network = AutoencoderKL | CausalAutoencoder

log = logging.getLogger(__name__)

T = TypeVar("T")
PartsOf = Callable[[T], Iterable[Tensor]]
Rows = Callable[[int, int], Tensor]
"""Gives rows [top, bottom) of RGB in [0, 1], shape (1, 3, bottom - top, W)."""

WIDER = {
    torch.float16: (torch.bfloat16, torch.float32),
    torch.bfloat16: (torch.float32,),
    torch.float32: (),
}
"""What is tried where a precision gives values that are not finite."""
PATCH = 2
"""Latents that a patch is wide and high, where the file has statistics of such."""
BATCH_EPS = 1e-4
"""What is added to variances: black-forest-labs/flux2, autoencoder.py."""
TILE = 256
"""Side of a tile where none is asked for, pixels: small beside the maps, enough for a GPU."""


@dataclass(slots=True)
class VaeCodec:
    """An AutoencoderKL, or Qwen-Image's VAE, as a `Codec`.

    Each picture begins in `dtype`; where that gives values that are not finite, it is done again
    in a wider one. So a picture does not depend on those before it. Networks in other precisions
    are kept for the next picture.
    """

    layout: VaeLayout | CausalLayout
    scale: Tensor
    """Latents are (z - shift) * scale of what the encoder gives; of all channels, shape (1,), or of
    each, (C, 1, 1); on the CPU."""
    shift: Tensor
    dtype: torch.dtype
    """What the network computes in at first: float16, bfloat16 or float32."""
    device: str
    tile: int | None = TILE
    """Larger canvases go through in tiles of this side, output pixels; None: always whole."""
    maps: str | None = None
    """Where maps lie between the layers of a tiled run; None: on the device."""
    patch: int = 1
    """Cells of the encoder that one cell of the latents is wide and high."""
    tensors: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor], repr=False)
    """Weights as stored, by diffusers' names."""
    origin: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    """What the file calls them."""
    networks: dict[torch.dtype, Network] = field(
        default_factory=dict[torch.dtype, "Network"], repr=False
    )
    _notes: list[str] = field(default_factory=list[str], repr=False)

    @property
    def stride(self) -> int:
        """Pixels per latent cell."""
        return self.layout.stride * self.patch

    @property
    def channels(self) -> int:
        """Channels of a latent cell."""
        return self.layout.channels * self.patch**2

    def encode(self, pixels: Tensor) -> Tensor:
        """Latents, the mean of the posterior, shape (1, C, h, w), float32, of RGB in [0, 1].

        Args:
            pixels: shape (1, 3, h * stride, w * stride).

        Raises:
            TileupError: the VAE gives values that are not finite in every precision.
        """
        return self.encode_rows(lambda top, bottom: pixels[:, :, top:bottom], *pixels.shape[2:])

    def encode_rows(self, rows: Rows, height: int, width: int) -> Tensor:
        """The same of a picture that need not be in memory.

        Args:
            rows: gives rows [top, bottom), shape (1, 3, bottom - top, width); asked for from the
                top down, those around a tile twice, and once more for each wider precision.
            height, width: multiples of the stride.
        """
        if height % self.stride or width % self.stride:
            raise ValueError(f"sides must be multiples of {self.stride}, got {height} and {width}")
        mean = self._finite(
            "encode", lambda network: self._encoded(network, rows, height, width), lambda z: (z,)
        )
        mean = pixel_unshuffle(mean, self.patch)
        return (mean - self.shift.to(mean)) * self.scale.to(mean)

    def decode(self, latents: Tensor) -> Tensor:
        """RGB, nominally in [0, 1], shape (1, 3, h * stride, w * stride), float32.

        Args:
            latents: shape (1, C, h, w).

        Raises:
            TileupError: the VAE gives values that are not finite in every precision.
        """
        return torch.cat([*self.decode_rows(latents)], dim=2)

    @torch.no_grad()
    def decode_rows(self, latents: Tensor) -> Iterator[Tensor]:
        """The same some rows at a time, from the top down."""
        z = latents.to(self.device).float()
        z = pixel_shuffle(z / self.scale.to(z) + self.shift.to(z), self.patch)
        # Looked through before the first is given: the last layer, which that repeats, takes 1.1 %
        # of the decoder's time at full width.
        made = self._finite(
            "decode", lambda network: self._decoded(network, z), lambda rows: rows()
        )
        for part in made():
            yield (part.to(self.device).float() + 1) / 2

    def take_notes(self) -> tuple[str, ...]:
        """What had to be done in another way than was asked for, since this was last called."""
        notes = tuple(self._notes)
        self._notes.clear()
        return notes

    def network(self, dtype: torch.dtype) -> Network:
        """The network in a precision, built when it is first wanted."""
        if dtype not in self.networks:
            how = (dtype, self.device, self.origin)
            self.networks[dtype] = (
                build_vae(self.tensors, self.layout, *how)
                if isinstance(self.layout, VaeLayout)
                else build_causal(self.tensors, self.layout, *how)
            )
        return self.networks[dtype]

    def _encoded(self, network: Network, rows: Rows, height: int, width: int) -> Tensor:
        held: list[Tensor] = []

        def read(box: Box) -> Tensor:
            if box.left == 0:  # with which a row of tiles begins
                held[:] = [pinned(rows(box.top, box.bottom), self.device)]
            shown = to_device(held[0][..., box.left : box.right], self.device)
            return (shown.float() * 2 - 1).to(network.dtype)

        tiled = self._tiled(height, width, network)
        if tiled is None:
            x = network.encoder(read(Box(0, 0, height, width)))
        else:
            x = tiled.encode(network.encoder, ConvInput(height, width, read))
        if network.quant_conv is not None:
            x = network.quant_conv(x.to(self.device))
        return x.to(self.device).float().chunk(2, dim=1)[0]

    def _decoded(self, network: Network, z: Tensor) -> Callable[[], Iterator[Tensor]]:
        """Gives the rows of the picture, again and again."""
        z = z.to(network.dtype)
        if network.post_quant_conv is not None:
            z = network.post_quant_conv(z)
        height, width = (side * self.layout.stride for side in z.shape[2:])
        tiled = self._tiled(height, width, network)
        if tiled is None:
            whole = network.decoder(z)
            return lambda: iter([whole])
        return partial(tiled.rows, tiled.decode(network.decoder, z))

    def _tiled(self, height: int, width: int, network: Network) -> TiledNetwork | None:
        """How a canvas of so many pixels goes through in tiles; None: whole."""
        if self.tile is None or max(height, width) <= self.tile:
            return None
        size = height * width * widest(network.decoder) * network.dtype.itemsize
        maps = self.maps or self.device
        kind = TiledNetwork if size <= maps_held(maps) else LeanNetwork
        grid = TileGrid.over(height, width, self.tile)
        return kind(grid, torch.device(self.device), torch.device(maps))

    def _finite(self, work: str, run: Callable[[Network], T], parts: PartsOf[T]) -> T:
        """What the first precision gives all of whose parts are finite."""
        for dtype in (self.dtype, *WIDER[self.dtype]):
            with torch.no_grad():
                result = run(self.network(dtype))
                finite = all(bool(part.isfinite().all()) for part in parts(result))
            if finite:
                if dtype != self.dtype:
                    self._note(work, dtype)
                return result
            del result  # whose maps take memory
        raise TileupError(
            f"the VAE cannot {work} this picture: it gives values that are not finite numbers,"
            " also in float32; its file may be damaged, try another with --vae"
        )

    def _note(self, work: str, dtype: torch.dtype) -> None:
        asked, used = (str(each).removeprefix("torch.") for each in (self.dtype, dtype))
        note = (
            f"the VAE gave values that are not finite in {asked}, so {used} was used to {work};"
            f" --dtype {used} avoids the second try"
        )
        log.info(note)
        self._notes.append(note)


def load_vae(
    tensors: Mapping[str, Tensor],
    *,
    scale: float | tuple[float, ...],
    shift: float | tuple[float, ...] = 0.0,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    tile: int | None = TILE,
    maps: str | None = None,
) -> VaeCodec:
    """A codec from the tensors of a file; they are not copied where device and dtype agree.

    Args:
        tensors: as in the original single-file checkpoints, with the prefix removed
            (`decoder.up.3.block.0.conv1.weight`), or as in diffusers' own
            (`decoder.up_blocks.0.resnets.0.conv1.weight`). Others are passed over. Or those of
            Qwen-Image's VAE, in either's names.
        scale, shift: of the family's latents, (z - shift) * scale, for all channels or each; of no
            effect where the file has statistics of patches of 2 x 2 latents, as FLUX.2's has.
        dtype: float16, bfloat16 or float32.
        device: `cpu`, `cuda:0`, `mps`.
        tile: larger canvases go through in tiles of this side, output pixels; None: always whole.
        maps: where maps lie between layers of a tiled run; None: on the device. `cpu` spares a
            GPU's memory and costs transfers.

    Raises:
        ModelError: the tensors are no VAE, or do not fit together, or are not finite.
    """
    tensors = {outer_name(name): tensor for name, tensor in tensors.items()}
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if (causal := causal_layout(shapes)) is not None:
        layout, named = causal, causal_tensors(tensors, causal)
    else:
        layout = vae_layout(shapes)
        named = diffusers_tensors(tensors, layout)
    statistics = _statistics(tensors, layout.channels)
    factors = statistics or (_channels(scale, layout.channels), _channels(shift, layout.channels))
    patch = PATCH if statistics else 1
    codec = VaeCodec(layout, *factors, dtype, device, tile, maps, patch, *named)
    codec.network(dtype)
    return codec


def _statistics(tensors: Mapping[str, Tensor], channels: int) -> tuple[Tensor, Tensor] | None:
    """Scale and shift of patches of latents, each shape (4 C, 1, 1); None: the file has none.

    Raises:
        ModelError: they are damaged.
    """
    mean, variance = (tensors.get(f"bn.running_{each}") for each in ("mean", "var"))
    if mean is None or variance is None:
        return None
    size = (channels * PATCH**2,)
    if mean.shape != size or variance.shape != size:
        raise ModelError(f"the VAE's statistics should be {size[0]} numbers: the file is damaged")
    scale, shift = (variance.float() + BATCH_EPS).rsqrt(), mean.float()
    if not (scale.isfinite() & shift.isfinite()).all():
        raise ModelError("the VAE's statistics are not finite: the file is damaged")
    return scale[:, None, None], shift[:, None, None]


def _channels(value: float | tuple[float, ...], channels: int) -> Tensor:
    """A number for all channels, shape (1,), or for each, shape (C, 1, 1).

    Raises:
        ModelError: there is one for each of another number of channels.
    """
    if not isinstance(value, tuple):
        return torch.tensor([value])
    if len(value) != channels:
        raise ModelError(
            f"the VAE has {channels} latent channels, and this model needs {len(value)}: take the"
            f" VAE of its family"
        )
    return torch.tensor(value)[:, None, None]
