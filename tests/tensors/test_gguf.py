"""GGUF: every format of blocks against the package's own account, and files that are damaged."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType, GGUFWriter
from gguf.quants import dequantize
from torch import Tensor

from tests.checkpoints.layouts.gguf import KINDS, blocks, llama_t5, save_gguf
from tests.checkpoints.layouts.text import t5
from tileup.errors import ModelError, UnknownCheckpointError
from tileup.tensors.checkpoint import open_checkpoint
from tileup.tensors.gguf_file import GgufBlocks
from tileup.tensors.packed import Packed, unpacked


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("kind", KINDS)
def test_blocks_are_computed_as_by_the_package(kind: str) -> None:
    stored = blocks(kind, 6, 512, seed=3)
    wanted = torch.from_numpy(dequantize(stored, GGMLQuantizationType[kind]))
    weight = Packed(GgufBlocks(kind), (torch.from_numpy(stored),), (6, 512))
    assert 0.5 < wanted.std() < 2
    torch.testing.assert_close(weight.values(), wanted, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(unpacked(weight[2:4]), wanted[2:4], rtol=1e-6, atol=1e-6)
    assert wanted.abs().max() <= weight.largest() < float("inf")
    assert weight.nbytes == stored.nbytes


@pytest.mark.parametrize("kind", KINDS)
def test_a_scale_that_is_not_finite_is_found(kind: str) -> None:
    from tileup.tensors.gguf_file import HALVES

    for place in range(*HALVES[kind], 2):
        for value in (np.inf, np.nan):
            stored = blocks(kind, 2, 512)
            size = GgufBlocks(kind).size
            half = np.asarray([value], np.float16).view(np.uint8)
            stored.reshape(-1, size)[-1, place : place + 2] = half
            weight = Packed(GgufBlocks(kind), (torch.from_numpy(stored),), (2, 512))
            assert not weight.largest().isfinite()


def test_a_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    tensors = {
        "a.weight": drawn(8, 64),
        "a.bias": drawn(8),
        "kernel.weight": drawn(4, 3, 2, 2),
        "table": drawn(1, 5, 7),
    }
    path = tmp_path / "m.gguf"
    wanted = save_gguf(path, tensors, "Q5_1", "flux")
    checkpoint = open_checkpoint(path)
    infos = {name: (each.dtype, each.shape) for name, each in checkpoint.tensors.items()}
    assert infos["a.weight"] == ("Q5_1", (8, 64))
    assert infos["kernel.weight"] == ("F32", (4, 3, 2, 2))
    assert checkpoint.metadata["general.architecture"] == "flux"
    found = checkpoint.state_dict()
    for name, values in wanted.items():
        torch.testing.assert_close(unpacked(found[name]), torch.from_numpy(values))
    assert isinstance(found["a.weight"], Packed)
    small = checkpoint.values("a.bias")
    assert small is not None
    assert np.array_equal(small, wanted["a.bias"])
    assert checkpoint.values("a.weight") is None


def test_halves_and_brain_floats_are_read(tmp_path: Path) -> None:
    path, weight = tmp_path / "m.gguf", drawn(4, 6)
    writer = GGUFWriter(path, "flux")
    writer.add_tensor("half", weight.half().numpy())
    brain = weight.bfloat16().view(torch.uint8).numpy()
    writer.add_tensor("brain", brain, raw_dtype=GGMLQuantizationType.BF16)
    write(writer)
    checkpoint = open_checkpoint(path)
    found = checkpoint.state_dict()
    assert torch.equal(found["half"], weight.half())
    assert torch.equal(found["brain"], weight.bfloat16())
    for name in found:
        values = checkpoint.values(name)
        assert values is not None
        assert np.array_equal(values, found[name].float().numpy())


def write(writer: GGUFWriter) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.mark.parametrize(("shape", "packed"), [((8, 8, 2, 2), True), ((8, 4, 3, 3), False)])
def test_a_kernel_that_was_cut_into_rows_has_its_shape(
    tmp_path: Path, shape: tuple[int, ...], packed: bool
) -> None:
    """As city96's tool writes kernels; where a block lies in two rows they are computed at once."""
    path, stored = tmp_path / "m.gguf", blocks("Q8_0", int(np.prod(shape)) // 32, 32)
    writer = GGUFWriter(path, "sdxl")
    writer.add_array("comfy.gguf.orig_shape.a.weight", [*shape])
    writer.add_tensor("a.weight", stored, raw_dtype=GGMLQuantizationType.Q8_0)
    write(writer)
    found = open_checkpoint(path).state_dict()["a.weight"]
    assert isinstance(found, Packed) == packed
    wanted = dequantize(stored, GGMLQuantizationType.Q8_0).reshape(shape)
    assert torch.equal(unpacked(found), torch.from_numpy(wanted))


def test_t5_has_the_names_of_transformers(tmp_path: Path) -> None:
    tensors = t5(64)
    stored = {llama_t5(name): tensor for name, tensor in tensors.items()}
    save_gguf(tmp_path / "t5.gguf", stored, "Q8_0", "t5encoder")
    found = open_checkpoint(tmp_path / "t5.gguf").tensors
    assert found.keys() == tensors.keys() - {"encoder.embed_tokens.weight"}
    assert all(each.shape == tuple(tensors[name].shape) for name, each in found.items())


def in_pairs(rows: Tensor, heads: int) -> Tensor:
    """As llama.cpp stores queries and keys of Mistral: 0, n/2, 1, n/2 + 1 ... of each head."""
    half = len(rows) // heads // 2
    order = [
        head * 2 * half + part * half + place
        for head in range(heads)
        for place in range(half)
        for part in range(2)
    ]
    return rows[order]


@pytest.mark.parametrize("architecture", ["llama", "mistral3"])
@pytest.mark.parametrize("kind", ["Q8_0", "Q6_K"])
def test_queries_and_keys_of_mistral_are_put_in_order(
    tmp_path: Path, architecture: str, kind: str
) -> None:
    tensors = {f"blk.0.attn_{name}.weight": drawn(rows, 64) for name, rows in QKV.items()}
    numbers = {f"{architecture}.attention.head_count": 4}
    numbers |= {f"{architecture}.attention.head_count_kv": 2}
    stored = dict(tensors)
    for name, heads in (("q", 4), ("k", 2)):
        key = f"blk.0.attn_{name}.weight"
        stored[key] = in_pairs(tensors[key], heads)
    path = tmp_path / "m.gguf"
    save_gguf(path, stored, kind, architecture, numbers)
    found = open_checkpoint(path).state_dict("model.layers.0.self_attn.")
    assert found.keys() == {"q_proj.weight", "k_proj.weight", "v_proj.weight"}
    plain = save_gguf(tmp_path / "plain.gguf", tensors, kind, "flux")
    for name in QKV:
        wanted = torch.from_numpy(plain[f"blk.0.attn_{name}.weight"])
        torch.testing.assert_close(unpacked(found[f"{name}_proj.weight"]), wanted)
    packed = [isinstance(each, Packed) for each in found.values()]
    assert packed == [kind == "Q8_0"] * 3


QKV = {"q": 32, "k": 16, "v": 16}
"""Rows of queries, keys and values."""


def test_heads_that_do_not_divide_the_rows_are_named(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    save_gguf(path, {"blk.0.attn_q.weight": drawn(30, 64)}, "Q8_0", "llama")
    with pytest.raises(ModelError, match=r"m\.gguf"):
        open_checkpoint(path)
    numbers = {"llama.attention.head_count": 4}
    save_gguf(path, {"blk.0.attn_q.weight": drawn(30, 64)}, "Q8_0", "llama", numbers)
    with pytest.raises(ModelError, match="30 rows, which are not those of 4 heads"):
        open_checkpoint(path)


@pytest.mark.parametrize("kind", ["IQ2_XXS", "MXFP4", "TQ1_0"])
def test_other_formats_are_refused_by_name(tmp_path: Path, kind: str) -> None:
    from gguf import GGML_QUANT_SIZES

    numbers, size = GGML_QUANT_SIZES[GGMLQuantizationType[kind]]
    writer = GGUFWriter(tmp_path / "m.gguf", "flux")
    stored = np.zeros((2, size * 256 // numbers), np.uint8)
    writer.add_tensor("a.weight", stored, raw_dtype=GGMLQuantizationType[kind])
    write(writer)
    with pytest.raises(UnknownCheckpointError, match=rf"a\.weight in the GGUF format {kind}"):
        open_checkpoint(tmp_path / "m.gguf")


def test_files_cut_short_and_damaged_are_named(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    save_gguf(path, {"a.weight": drawn(8, 64), "b": drawn(8)}, "Q4_0", "flux")
    whole = path.read_bytes()
    for length in (4, 8, 20, 30, 60, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(ModelError, match=r"m\.gguf"):
            open_checkpoint(path)
    generator = np.random.default_rng(0)
    for _ in range(200):
        changed = bytearray(whole)
        for place in generator.integers(4, 200, 2):
            changed[place] = generator.integers(256)
        path.write_bytes(changed)
        with contextlib.suppress(ModelError):  # and nothing else
            open_checkpoint(path).state_dict()


def test_the_file_is_mapped_and_its_head_needs_no_torch(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    save_gguf(path, {"a.weight": drawn(64, 64)}, "Q8_0", "flux")
    code = (
        "import sys; from pathlib import Path\n"
        "from tileup.tensors.checkpoint import open_checkpoint\n"
        f"print(open_checkpoint(Path({str(path)!r})).tensors); assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    tensors = open_checkpoint(path).state_dict()
    address = tensors["a.weight"].data_ptr()
    lines = (line.split() for line in Path("/proc/self/maps").read_text().splitlines())
    spans = [(*line[0].split("-"), line[-1]) for line in lines]
    (file,) = [name for start, end, name in spans if int(start, 16) <= address < int(end, 16)]
    assert file == str(path)
