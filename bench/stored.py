"""Memory of networks whose weights have few bits: `make bench-storage`.

FLUX at its width of 3072 with a few of its blocks and random weights, stored in each format. A
process of its own loads the file and evaluates the network once, on a small window. What counts is
the most memory that the process had, mapped pages of the file with it, beyond what it had after it
did the same with a tiny network. Writes a table of docs/checkpoints.md.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFWriter
from safetensors.torch import save_file
from torch import Tensor

from bench.full_size import peak
from bench.tables import table, write
from tests.checkpoints.layouts.flux import flux_shapes, flux_transformer
from tests.checkpoints.layouts.gguf import blocks
from tileup.checkpoints.find import identified
from tileup.contracts import Box, Encoded, Scene, Wish
from tileup.families.family import Building
from tileup.tensors.checkpoint import open_checkpoint

FORMATS = ("fp8, scaled", "INT8, rotated", "NVFP4", "Q8_0", "Q5_1", "Q4_K", "Q2_K", "IQ4_XS")
WIDTH = 3072
TOKENS = 16


def shapes(doubles: int, singles: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Of FLUX dev with so many blocks."""
    yield from flux_shapes(doubles, singles, True, WIDTH, 4096, 768)


def save_marked(path: Path, kind: str, doubles: int, singles: int) -> None:
    """In ComfyUI's formats of 8 and 4 bits."""
    generator = torch.Generator().manual_seed(0)
    tensors: dict[str, Tensor] = {}
    for name, shape in shapes(doubles, singles):
        if len(shape) != 2:
            tensors[name] = torch.ones(shape, dtype=torch.bfloat16)
            continue
        stored, mark = MARKED[kind](shape, generator)
        stored["comfy_quant"] = torch.tensor([*json.dumps(mark).encode()], dtype=torch.uint8)
        layer = name.removesuffix("weight")
        tensors |= {layer + end: each for end, each in stored.items()}
    save_file(tensors, path)


Marked = tuple[dict[str, Tensor], dict[str, object]]
"""The tensors of a weight by the ends of their names, and its mark."""


def numbers(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.randint(-96, 97, shape, generator=generator, dtype=torch.int8)


def scales(shape: tuple[int, ...]) -> Tensor:
    """Of each row, so that what a layer gives is of order 1."""
    return torch.full((shape[0], 1), 1 / (56 * shape[1] ** 0.5))


def as_fp8(shape: tuple[int, ...], generator: torch.Generator) -> Marked:
    weight = numbers(shape, generator).to(torch.float8_e4m3fn)
    return {"weight": weight, "weight_scale": scales(shape)}, {"format": "float8_e4m3fn"}


def as_int8(shape: tuple[int, ...], generator: torch.Generator) -> Marked:
    rotated = shape[1] % 256 == 0
    mark = {"format": "int8_tensorwise", "convrot": rotated, "convrot_groupsize": 256}
    return {"weight": numbers(shape, generator), "weight_scale": scales(shape)}, mark


def as_nvfp4(shape: tuple[int, ...], generator: torch.Generator) -> Marked:
    rows, columns = shape
    halves = torch.randint(0, 256, (rows, columns // 2), generator=generator, dtype=torch.uint8)
    tiles = torch.ones(-(-rows // 128) * 128, -(-columns // 64) * 4).to(torch.float8_e4m3fn)
    whole = torch.tensor(1 / (2.9 * columns**0.5))
    stored = {"weight": halves, "weight_scale": tiles, "weight_scale_2": whole}
    return stored, {"format": "nvfp4"}


MARKED = {"fp8, scaled": as_fp8, "INT8, rotated": as_int8, "NVFP4": as_nvfp4}


def save_blocks(path: Path, kind: str, doubles: int, singles: int) -> None:
    """In GGUF; what does not divide into blocks in half precision."""
    writer = GGUFWriter(path, "flux", use_temp_file=True)
    wanted = GGMLQuantizationType[kind]
    for name, shape in shapes(doubles, singles):
        if len(shape) == 2 and shape[1] % GGML_QUANT_SIZES[wanted][0] == 0:
            writer.add_tensor(name, blocks(kind, *shape, shape[1] ** -0.5), raw_dtype=wanted)
        elif len(shape) == 2:
            writer.add_tensor(name, np.full(shape, shape[1] ** -0.5, np.float16))
        else:
            writer.add_tensor(name, np.ones(shape, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def evaluated(path: Path, dtype: torch.dtype) -> int:
    """Load a network and evaluate it once.

    Returns:
        Bytes of its largest layer in the precision that it computes in.
    """
    known = identified(path)
    assert known.found is not None
    tensors = open_checkpoint(path).state_dict(known.found.prefix)
    how = Building(str(path), known.spec.levels, dtype, "cpu")
    built = known.found.family.build(tensors, how)
    scene = Scene(torch.zeros(1, 16, 8, 8), torch.zeros(1, 3, 64, 64), (64, 64), Wish("", "", 1.0))
    text = Encoded(torch.ones(1, TOKENS, built.features), torch.ones(1, built.pooled or 1))
    found = built.network(torch.randn(1, 16, 8, 8), torch.ones(1), [Box(0, 0, 8, 8)], text, scene)
    assert found.isfinite().all()
    return max(each.numel() for each in built.module.parameters()) * dtype.itemsize


def child(path: Path, dtype: torch.dtype) -> dict[str, float]:
    """Figures of one file in GB; runs in a process."""
    with tempfile.TemporaryDirectory() as folder:
        tiny = Path(folder) / "tiny.safetensors"
        save_file(flux_transformer(), tiny)
        evaluated(tiny, dtype)
    before = peak()
    layer = evaluated(path, dtype)
    return {"memory": peak() - before, "layer": layer / 1e9}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--doubles", type=int, default=2)
    parser.add_argument("--singles", type=int, default=3)
    parser.add_argument("--formats", nargs="*", default=FORMATS)
    parser.add_argument("--folder", type=Path, help="where the files go; a temporary one")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--dtype", default="float32", help=argparse.SUPPRESS)
    parser.add_argument("--dry", action="store_true", help="print, do not write the document")
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(child(arguments.child, getattr(torch, arguments.dtype))))
        return
    rows: list[list[str]] = []
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        for kind in arguments.formats:
            blocked = kind not in MARKED
            path = Path(folder) / ("m.gguf" if blocked else "m.safetensors")
            (save_blocks if blocked else save_marked)(
                path, kind, arguments.doubles, arguments.singles
            )
            size = path.stat().st_size / 1e9
            row = [kind, f"{size:.2f} GB"]
            for dtype in ("float32", "bfloat16"):
                command = [sys.executable, "-m", "bench.stored", "--child", str(path)]
                done = subprocess.run(
                    [*command, "--dtype", dtype], stdout=subprocess.PIPE, check=True, text=True
                )
                found = json.loads(done.stdout.splitlines()[-1])
                beyond = (found["memory"] - found["layer"]) / size
                row += [f"{found['memory']:.2f} GB", f"{found['layer']:.2f} GB", f"{beyond:.2f}x"]
            print(*row, flush=True)
            rows.append(row)
            path.unlink()
    heads = ["stored in", "file"]
    for dtype in ("float32", "bfloat16"):
        heads += [f"peak in {dtype}", "one layer", "the rest / file"]
    text = table(heads, rows)
    print(text)
    if not arguments.dry:
        write("docs/checkpoints.md", "storage", text)


if __name__ == "__main__":
    main()
