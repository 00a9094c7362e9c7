"""Memory of networks whose weights have few bits: `make bench-storage`.

FLUX, T5-XXL and Qwen3 4B at their widths with a few of their blocks and random weights, stored in
each format. A process of its own loads the file and evaluates the network once, on a small window
or a short text. What counts is the most memory that the process had, mapped pages of the file with
it, beyond what it had after it did the same with a tiny network. Writes two tables of
docs/checkpoints.md; rows that are not measured anew stay as they are.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFWriter
from safetensors.torch import save_file
from torch import Tensor, nn

from bench.full_size import peak
from bench.tables import read, table, write
from tests.checkpoints.layouts.flux import flux_shapes, flux_transformer
from tests.checkpoints.layouts.gguf import blocks, llama_language, llama_t5
from tests.checkpoints.layouts.llm import language_model
from tests.checkpoints.layouts.text import t5 as small_t5
from tests.checkpoints.whole import save
from tileup.checkpoints.find import identified
from tileup.contracts import Box, Encoded, Scene, Wish
from tileup.families.family import Building
from tileup.tensors.checkpoint import open_checkpoint
from tileup.text.llm import load_llm
from tileup.text.recipes import LlmUse
from tileup.text.t5 import load_t5

FORMATS = (
    *("fp8, scaled", "INT8, rotated", "NVFP4", "Q8_0", "Q5_1", "Q5_0", "Q4_1", "Q4_0"),
    *("Q6_K", "Q5_K", "Q4_K", "Q3_K", "Q2_K", "IQ4_NL", "IQ4_XS"),
)
TEXT_FORMATS = ("fp8, scaled", "Q8_0", "Q6_K", "Q4_K")
WIDTH = 3072
TOKENS = 16
Shapes = Iterator[tuple[str, tuple[int, ...]]]


def flux(doubles: int, singles: int) -> Shapes:
    """FLUX dev with so many blocks."""
    yield from flux_shapes(doubles, singles, True, WIDTH, 4096, 768)


def t5(layers: int) -> Shapes:
    """The encoder of T5-XXL with so many of its 24 blocks."""
    yield "shared.weight", (32128, 4096)
    yield "encoder.final_layer_norm.weight", (4096,)
    first = "encoder.block.0.layer.0.SelfAttention"
    yield f"{first}.relative_attention_bias.weight", (32, 64)
    for index in range(layers):
        block = f"encoder.block.{index}"
        for name in "qkvo":
            yield f"{block}.layer.0.SelfAttention.{name}.weight", (4096, 4096)
        for name, shape in (
            ("wi_0", (10240, 4096)),
            ("wi_1", (10240, 4096)),
            ("wo", (4096, 10240)),
        ):
            yield f"{block}.layer.1.DenseReluDense.{name}.weight", shape
        for number in (0, 1):
            yield f"{block}.layer.{number}.layer_norm.weight", (4096,)


def qwen3(layers: int) -> Shapes:
    """Qwen3 4B with so many of its 36 layers."""
    yield "model.embed_tokens.weight", (151936, 2560)
    yield "model.norm.weight", (2560,)
    for index in range(layers):
        block = f"model.layers.{index}"
        for name, rows in (("q", 4096), ("k", 1024), ("v", 1024)):
            yield f"{block}.self_attn.{name}_proj.weight", (rows, 2560)
        yield f"{block}.self_attn.o_proj.weight", (2560, 4096)
        for name in ("q_norm", "k_norm"):
            yield f"{block}.self_attn.{name}.weight", (128,)
        for name in ("gate_proj", "up_proj"):
            yield f"{block}.mlp.{name}.weight", (9728, 2560)
        yield f"{block}.mlp.down_proj.weight", (2560, 9728)
        for name in ("input_layernorm", "post_attention_layernorm"):
            yield f"{block}.{name}.weight", (2560,)


def save_marked(path: Path, kind: str, shapes: Shapes) -> None:
    """In ComfyUI's formats of 8 and 4 bits."""
    generator = torch.Generator().manual_seed(0)
    tensors: dict[str, Tensor] = {}
    for name, shape in shapes:
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


def save_blocks(path: Path, kind: str, shapes: Shapes, architecture: str) -> None:
    """In GGUF; what does not divide into blocks in half precision."""
    writer = GGUFWriter(path, architecture, use_temp_file=True)
    wanted = GGMLQuantizationType[kind]
    called = LLAMA.get(architecture, str)
    for name, shape in shapes:
        if len(shape) == 2 and shape[1] % GGML_QUANT_SIZES[wanted][0] == 0:
            stored = blocks(kind, *shape, shape[1] ** -0.5)
            writer.add_tensor(called(name), stored, raw_dtype=wanted)
        elif len(shape) == 2:
            writer.add_tensor(called(name), np.full(shape, shape[1] ** -0.5, np.float16))
        else:
            writer.add_tensor(called(name), np.ones(shape, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


LLAMA = {"t5encoder": llama_t5, "qwen3": llama_language}
"""By architecture, what llama.cpp calls a tensor; networks that draw keep their names."""


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
    return largest(built.module, dtype)


def t5_read(path: Path, dtype: torch.dtype) -> int:
    """As `evaluated`, of T5 and a short text."""
    tensors = open_checkpoint(path).state_dict()
    encoder = load_t5(tensors, what="T5", dtype=dtype, device="cpu")
    assert encoder([[*range(TOKENS)]]).isfinite().all()
    return largest(encoder.network, dtype)


def qwen3_read(path: Path, dtype: torch.dtype) -> int:
    """As `evaluated`, of Qwen3 and a short text: all layers but the last are read."""
    tensors = open_checkpoint(path).state_dict("model.")
    use = LlmUse("qwen3", "Qwen3 4B", "", "", 512, (-2,))
    encoder = load_llm(tensors, use, dtype=dtype, device="cpu")
    assert encoder([*range(TOKENS)]).isfinite().all()
    return largest(encoder.network, dtype)


def largest(network: nn.Module, dtype: torch.dtype) -> int:
    """Bytes of the largest matrix of a network; of tables only rows are computed."""
    linear = (each for each in network.modules() if isinstance(each, nn.Linear))
    return max(each.weight.numel() for each in linear) * dtype.itemsize


@dataclass(frozen=True, slots=True)
class Subject:
    """What is measured."""

    title: str
    """In the table."""
    shapes: Callable[[], Shapes]
    architecture: str
    """By llama.cpp's name."""
    read: Callable[[Path, torch.dtype], int]
    """Loads and evaluates; bytes of its largest layer."""
    tiny: Callable[[], Mapping[str, Tensor]]
    """The same, small."""


def subjects(arguments: argparse.Namespace) -> dict[str, Subject]:
    doubles, singles, layers = arguments.doubles, arguments.singles, arguments.layers
    return {
        "flux": Subject(
            f"FLUX, {doubles + singles} of 57 blocks",
            lambda: flux(doubles, singles),
            "flux",
            evaluated,
            flux_transformer,
        ),
        "t5": Subject(
            f"T5-XXL, {layers} of 24 blocks", lambda: t5(layers), "t5encoder", t5_read, small_t5
        ),
        "qwen3": Subject(
            f"Qwen3 4B, {layers} of 36 layers",
            lambda: qwen3(layers),
            "qwen3",
            qwen3_read,
            language_model,
        ),
    }


def child(path: Path, subject: Subject, dtype: torch.dtype) -> dict[str, float]:
    """Figures of one file in GB; runs in a process."""
    with tempfile.TemporaryDirectory() as folder:
        tiny = Path(folder) / "tiny.safetensors"
        save(tiny, subject.tiny())
        subject.read(tiny, dtype)
    before = peak()
    layer = subject.read(path, dtype)
    return {"memory": peak() - before, "layer": layer / 1e9}


def measured(subject: Subject, name: str, kind: str, arguments: argparse.Namespace) -> list[str]:
    """Figures of one format, for the table."""
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        path = Path(folder) / ("m.safetensors" if kind in MARKED else "m.gguf")
        if kind in MARKED:
            save_marked(path, kind, subject.shapes())
        else:
            save_blocks(path, kind, subject.shapes(), subject.architecture)
        size = path.stat().st_size / 1e9
        row = [f"{size:.2f} GB"]
        for dtype in ("float32", "bfloat16"):
            command = [sys.executable, "-m", "bench.stored", "--child", str(path), "--of", name]
            done = subprocess.run(
                [*command, "--dtype", dtype], stdout=subprocess.PIPE, check=True, text=True
            )
            found = json.loads(done.stdout.splitlines()[-1])
            beyond = (found["memory"] - found["layer"]) / size
            row += [f"{found['memory']:.2f} GB", f"{found['layer']:.2f} GB", f"{beyond:.2f}x"]
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--of", nargs="*", default=["flux", "t5", "qwen3"])
    parser.add_argument("--doubles", type=int, default=2)
    parser.add_argument("--singles", type=int, default=3)
    parser.add_argument("--layers", type=int, default=3, help="of text encoders")
    parser.add_argument("--formats", nargs="*", help="those of the tables")
    parser.add_argument("--folder", type=Path, help="where the files go; a temporary one")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--dtype", default="float32", help=argparse.SUPPRESS)
    parser.add_argument("--dry", action="store_true", help="print, do not write the document")
    arguments = parser.parse_args()
    known = subjects(arguments)
    if arguments.child:
        dtype = getattr(torch, arguments.dtype)
        print(json.dumps(child(arguments.child, known[arguments.of[0]], dtype)))
        return
    figures = ["file"]
    for dtype in ("float32", "bfloat16"):
        figures += [f"peak in {dtype}", "one layer", "the rest / file"]
    for name in arguments.of:
        subject, text = known[name], name != "flux"
        for kind in arguments.formats or (TEXT_FORMATS if text else FORMATS):
            row = [subject.title, kind] if text else [kind]
            row += measured(subject, name, kind, arguments)
            print(*row, flush=True)
            if not arguments.dry:
                place, order = ("storage-text", TEXT_FORMATS) if text else ("storage", FORMATS)
                head = ["text encoder", "stored in", *figures] if text else ["stored in", *figures]
                put(place, head, row, 1 + text, order)


def put(
    place: str, head: Sequence[str], row: Sequence[str], keys: int, order: Sequence[str]
) -> None:
    """One row of a table of the document, in place of the one that was there, or where it belongs.

    Args:
        place: of the table.
        head, row: of it.
        keys: how many cells at the start say what was measured.
        order: of the last of these.
    """
    rows = [each for each in read("docs/checkpoints.md", place) if each[:keys] != [*row[:keys]]]
    rows.append([*row])
    rows.sort(key=lambda each: (each[: keys - 1], order.index(each[keys - 1])))
    write("docs/checkpoints.md", place, table(head, rows))


if __name__ == "__main__":
    main()
