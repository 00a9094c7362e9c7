"""A VAE's encoder or decoder over a canvas whose maps are too large to be held: one of them is.

As in `vae_tiles` each layer sees the true neighbourhood of a tile and statistics of the whole map,
so the result is that of the network, to rounding. But of the maps between layers only what a
residual block gives is kept. What lies between its two convolutions is worked out twice, tile by
tile: once for the statistics of its GroupNorm, and once more, with a border of one cell, when they
are known. What follows a doubling is worked out three times: for its own statistics too. A block
reads its input two cells around a tile, so it cannot write over it in place: it writes so many rows
higher, or lower, than it reads, and what a tile writes was read before.

What it costs. Memory: the result of one block at the finest level and the coarser map that it
comes from, (128 + 64) channels at full size for the usual decoder where `vae_tiles` holds 384; and
those that memory has no room for lie in a file, so that it holds tiles, and 1,024 channels for each
latent cell while attention sees them all. Time: the first convolution of each block twice and those
behind a doubling three times, 1.9 times the operations of the usual decoder.
"""

from __future__ import annotations

import mmap
from dataclasses import dataclass, field

from torch import Tensor

from tileup.codec.spilled import spilled
from tileup.codec.vae_tiles import (
    AnyModule,
    ConvInput,
    TiledNetwork,
    acted,
    convolution,
    convolved_box,
    doubled,
)
from tileup.contracts import Box


@dataclass(slots=True)
class KeptMap:
    """A map that is kept, with rows to spare above or below it."""

    cells: Tensor
    """Shape (B, C, H + spare, W)."""
    spare: int
    first: int
    """Row with which it begins: 0, or `spare`."""
    file: mmap.mmap | None = field(repr=False, default=None)
    """Where it lies, if not in memory."""

    @property
    def height(self) -> int:
        return self.cells.shape[2] - self.spare

    @property
    def width(self) -> int:
        return self.cells.shape[3]

    def at(self, box: Box, first: int) -> Tensor:
        """The cells of a box, if the map began with this row."""
        return self.cells[..., first + box.top : first + box.bottom, box.left : box.right]

    def let_go(self) -> None:
        """Of main memory, what lies in a file as well."""
        if self.file is not None and hasattr(mmap, "MADV_DONTNEED"):
            self.file.madvise(mmap.MADV_DONTNEED)


class LeanNetwork(TiledNetwork):
    """As `TiledNetwork`, with one map kept at a time.

    Raises:
        OutputError: a map has no room in the folder for temporary files.
    """

    def decode(self, decoder: AnyModule, latents: Tensor) -> ConvInput:
        """What a Decoder gives, its last layer worked out where it is read; `latents` are left
        alone."""
        coarse = self.convolved(decoder.conv_in, self.plain(latents))
        x, kept = self.plain(self.middle(decoder.mid_block, coarse)), None
        for block in decoder.up_blocks:
            for resnet in block.resnets:
                kept = self.block(resnet, x, kept)
                x = self.read(kept)
            for upsampler in block.upsamplers or ():
                x, kept = convolution(upsampler.conv, doubled(x)), None
        return self.last(decoder, x)

    def encode(self, encoder: AnyModule, pixels: ConvInput) -> Tensor:
        """What an Encoder gives, on the device of the maps; see `TiledNetwork.encode`."""
        kept = self.stored(convolution(encoder.conv_in, pixels))
        for block in encoder.down_blocks:
            for resnet in block.resnets:
                kept = self.block(resnet, self.read(kept), kept)
            for downsampler in block.downsamplers or ():
                kept = self.stored(convolution(downsampler.conv, self.read(kept)))
        coarse = kept.at(Box(0, 0, kept.height, kept.width), kept.first)
        coarse = coarse.to(self.maps).contiguous()  # out of its file, if it lies in one
        return self.left(encoder, self.middle(encoder.mid_block, coarse))

    def block(self, block: AnyModule, x: ConvInput, kept: KeptMap | None) -> KeptMap:
        """What a ResnetBlock2D gives, kept.

        Args:
            block: the block.
            x: what it is given.
            kept: where that is kept; overwritten, if there is room for the result.
        """
        first = self.normed_silu(block.norm1, x)
        then = self.normed_silu(block.norm2, convolution(block.conv1, acted(x, first)))

        def worked(box: Box) -> Tensor:
            near = held(x, around(box, 2, x))
            between = convolution(block.conv1, acted(near, first))
            inner = convolved_box(block.conv2, acted(between, then), box)
            own = near.read(box)
            return inner + (own if block.conv_shortcut is None else block.conv_shortcut(own))

        channels = block.conv2.out_channels
        fits = kept is not None and channels <= kept.cells.shape[1]
        return self.stored(ConvInput(x.height, x.width, worked), kept if fits else None)

    def stored(self, x: ConvInput, over: KeptMap | None = None) -> KeptMap:
        """A map, kept.

        Args:
            x: the map; a tile of it needs `over` two cells around it at most.
            over: a map of its size that is overwritten, and of whose channels so many are left.
        """
        rows = [*self.tile_rows(x.height, x.width)]
        if over is not None and not over.first:
            rows.reverse()
        kept = over
        for tiles in rows:
            for box in tiles:
                tile = x.read(box)
                if kept is None:
                    kept = self.room(tile, x, 2 + max(each[0].height for each in rows))
                elif kept is over:
                    cells = kept.cells[:, : tile.shape[1]]
                    kept = KeptMap(cells, kept.spare, kept.spare - kept.first, kept.file)
                kept.at(box, kept.first).copy_(tile)
            assert kept is not None
            kept.let_go()
        assert kept is not None
        return kept

    def room(self, like: Tensor, x: ConvInput, spare: int) -> KeptMap:
        """Room for a map where maps lie, in main memory or in a file: the same to the bit."""
        shape = x.height + spare, *like.shape[:2], x.width
        cells, file = spilled(shape, like.dtype, "a map of the VAE", self.maps)
        return KeptMap(cells.permute(1, 2, 0, 3), spare, spare, file)

    def read(self, kept: KeptMap) -> ConvInput:
        """A map that is kept."""

        def read(box: Box) -> Tensor:
            if box.left == 0:  # with which a row of tiles begins
                kept.let_go()
            return kept.at(box, kept.first).to(self.device)

        return ConvInput(kept.height, kept.width, read)


def around(box: Box, cells: int, x: ConvInput) -> Box:
    """A box and so many cells around it, inside a map."""
    return Box(
        max(0, box.top - cells),
        max(0, box.left - cells),
        min(x.height, box.bottom + cells),
        min(x.width, box.right + cells),
    )


def held(x: ConvInput, box: Box) -> ConvInput:
    """A map of which a box is read once; nothing else of it can be read."""
    tile = x.read(box)

    def read(part: Box) -> Tensor:
        rows = slice(part.top - box.top, part.bottom - box.top)
        return tile[..., rows, part.left - box.left : part.right - box.left]

    return ConvInput(x.height, x.width, read)
