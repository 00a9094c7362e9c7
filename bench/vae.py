"""What decoding in tiles costs, against decoding whole, and against diffusers' own tiling.

    python -m bench.vae [--height 1024] [--width 1536] [--tiles 256 512] [--ways untiled file]

A full-width AutoencoderKL with random weights decodes latents that vary over the canvas as those of
a picture do. Errors are mean absolute differences from the untiled result, whose standard
deviation counts as 0.5: the last layer is linear, so scaling it afterwards is scaling its weights.
Each run has a process of its own, which measures its peak memory (Linux); it takes minutes to an
hour on a CPU, and goes on where it stopped (`--keep FOLDER`).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from bench.tables import ROOT, table, write
from tileup.codec import spilled
from tileup.codec.vae_lean import LeanNetwork
from tileup.codec.vae_tiles import TiledNetwork, TileGrid
from tileup.torchvision_shield import shield_torchvision

WIDTHS = (128, 256, 512, 512)
WAYS = {
    "untiled": "untiled",
    "ours": "tileup, {} px",
    "lean": "tileup, {} px, one map held",
    "file": "tileup, {} px, one map in a file",
    "local": "tileup, {} px, attention within tiles",
    "diffusers": "diffusers `enable_tiling`, {} px",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--height", type=int, default=1024, help="canvas, pixels")
    parser.add_argument("--width", type=int, default=1536, help="canvas, pixels")
    parser.add_argument("--tiles", type=int, nargs="+", default=[256, 512], help="pixels")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=[*WAYS], help="untiled first")
    parser.add_argument("--dry", action="store_true", help="print, do not write the document")
    parser.add_argument("--document", default="docs/checkpoints.md")
    parser.add_argument("--keep", type=Path, help="folder for results, to go on from")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    size = (asked.height, asked.width)
    if asked.child:
        print(json.dumps(measured(asked.child[0], int(asked.child[1]), size, asked.keep)))
        return
    with tempfile.TemporaryDirectory() as made:
        folder = asked.keep or Path(made)
        folder.mkdir(parents=True, exist_ok=True)
        text = report(size, asked.tiles, asked.ways, folder)
    print(text)
    if not asked.dry:
        write(asked.document, "vae", text)


def report(size: tuple[int, int], tiles: list[int], ways: list[str], folder: Path) -> str:
    """Run everything that is not there yet, and lay it out as a table."""
    runs = [("untiled", 0), *((way, tile) for tile in tiles for way in ways if way != "untiled")]
    rows: list[list[object]] = []
    for way, tile in runs:
        figures = child(way, tile, size, folder)
        error = f"{figures['error']:.1e}" if figures["error"] else "0"
        percent = f"{255 / 2 * figures['error']:.3f}"
        rows.append(
            [
                WAYS[way].format(tile),
                error,
                percent,
                f"{figures['seconds']:.0f}",
                f"{figures['peak'] / 2**30:.1f} GB",
            ]
        )
    canvas = f"canvas of {size[1]}x{size[0]} px"
    return table([canvas, "mean error", "of 255 levels", "CPU-s", "peak memory"], rows)


def child(way: str, tile: int, size: tuple[int, int], folder: Path) -> dict[str, float]:
    """Figures of one run in a process of its own."""
    kept = folder / f"{way}-{tile}-{size[0]}x{size[1]}.json"
    if not kept.exists():
        command = [sys.executable, "-m", "bench.vae", "--child", way, str(tile)]
        command += ["--height", str(size[0]), "--width", str(size[1]), "--keep", str(folder)]
        done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
        kept.write_text(done.stdout.splitlines()[-1])
        print(f"{way} {tile}: {kept.read_text()}", file=sys.stderr, flush=True)
    return json.loads(kept.read_text())


def measured(way: str, tile: int, size: tuple[int, int], folder: Path) -> dict[str, float]:
    """Decode once; CPU seconds, bytes above those before, mean error at a deviation of 0.5."""
    network, z = random_vae(), latents(size)
    before = peak_bytes(reset=True)
    start = time.process_time()
    with torch.no_grad():
        result = decoded(way, tile, network, z)
    seconds = time.process_time() - start
    peak = peak_bytes() - before
    reference = folder / f"untiled-{size[0]}x{size[1]}.pt"
    if way == "untiled":
        torch.save(result, reference)
    truth = torch.load(reference)
    error = 0.5 * float((result - truth).abs().mean() / truth.std())
    return {"seconds": seconds, "peak": peak, "error": error}


def random_vae() -> torch.nn.Module:
    """AutoencoderKL at the widths of SD 1 to FLUX, as torch initialises it."""
    shield_torchvision()
    from diffusers import AutoencoderKL

    torch.manual_seed(0)
    levels = len(WIDTHS)
    network = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=WIDTHS,
        layers_per_block=2,
    )
    return network.eval().requires_grad_(False)


def latents(size: tuple[int, int]) -> Tensor:
    """Large shapes with fine noise that is stronger in some of them, of variance near 1."""
    height, width = size[0] // 8, size[1] // 8
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randn(1, 5, 4, 6, generator=generator)
    shapes = functional.interpolate(coarse, (height, width), mode="bicubic", align_corners=True)
    noise = torch.randn(1, 4, height, width, generator=generator)
    return shapes[:, :4] + 0.7 * noise * shapes[:, 4:].sigmoid()


def decoded(way: str, tile: int, network: torch.nn.Module, z: Tensor) -> Tensor:
    """Pixels in one of the `WAYS`."""
    if way == "untiled":
        return network.decode(z).sample
    if way == "diffusers":
        network.enable_tiling()
        network.tile_sample_min_size, network.tile_latent_min_size = tile, tile // 8
        return network.decode(z).sample
    kind = {"ours": TiledNetwork, "local": AttentionWithinTiles}.get(way, LeanNetwork)
    spilled.memory_free = lambda device: 0 if way == "file" else 2**63
    grid = TileGrid.over(8 * z.shape[2], 8 * z.shape[3], tile)
    tiled = kind(grid, torch.device("cpu"))
    made = tiled.decode(network.decoder, network.post_quant_conv(z))
    return torch.cat([*tiled.rows(made)], dim=2)


class AttentionWithinTiles(TiledNetwork):
    """What most tiled decoders do with the attention of the middle block: each tile sees itself."""

    def attended(self, attention: torch.nn.Module, x: Tensor) -> Tensor:
        act = self.normed(attention.group_norm, self.plain(x))
        for box in self.grid.boxes(*x.shape[2:]):
            x[..., *box.index] = self.attend(attention, x[..., *box.index].contiguous(), act)
        return x


def peak_bytes(reset: bool = False) -> int:
    """Most resident memory of this process, since the last reset."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


if __name__ == "__main__":
    main()
