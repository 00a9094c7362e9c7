"""Weights of few bits: whatever is done with one is done with its values, and it stays packed."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from tests.checkpoints.layouts.gguf import save_gguf
from tileup.tensors import packed as module
from tileup.tensors.checkpoint import open_checkpoint
from tileup.tensors.filling import Placing, build
from tileup.tensors.gguf_file import GgufBlocks
from tileup.tensors.packed import Packed, unpacked
from tileup.tensors.scaled import Scaled


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def made(*shape: int, single: bool = False) -> tuple[Packed, Tensor]:
    """A weight in fp8 with a scale, and its values."""
    weight = drawn(*shape).to(torch.float8_e4m3fn)
    scale = torch.tensor(0.7) if single else drawn(shape[0], *[1] * (len(shape) - 1), seed=1)
    return Packed(Scaled(), (weight, scale), shape), weight.float() * scale


Changes = list[Callable[[Tensor], Tensor]]
STAYS: Changes = [
    lambda w: w.detach(),
    lambda w: w.clone(),
    lambda w: w.split([2, 4])[1],
    lambda w: w.split(4)[1],
    lambda w: w.chunk(3)[2],
    lambda w: w[1:5],
    lambda w: w.roll(3, 0),
    lambda w: w.bfloat16(),
]
"""What keeps a weight packed."""
COMPUTED: Changes = [
    lambda w: w.T,
    lambda w: w.split([2, 3], dim=1)[1],
    lambda w: w.roll(1, 1),
    lambda w: w[2],
    lambda w: w[:, 1:3],
    lambda w: w.flatten(),
    lambda w: w.reshape(3, 10),
    lambda w: w + 1,
    lambda w: torch.cat([w, w]),
    lambda w: w.long(),
    lambda w: torch.stack(torch.aminmax(w)),
]
"""What takes its values."""
EACH = [*((each, True) for each in STAYS), *((each, False) for each in COMPUTED)]


@pytest.mark.parametrize("single", [False, True])
@pytest.mark.parametrize(("change", "stays"), EACH)
def test_what_is_done_with_it_is_done_with_its_values(
    change: Callable[[Tensor], Tensor], stays: bool, single: bool
) -> None:
    weight, values = made(6, 5, single=single)
    found = change(weight)
    assert isinstance(found, Packed) == stays
    torch.testing.assert_close(unpacked(found), change(values), rtol=0, atol=0)


def test_a_sum_with_it_is_of_its_values_from_either_side() -> None:
    weight, values = made(6, 5)
    assert torch.equal(torch.ones(6, 5) * weight, values)
    assert torch.equal(drawn(2, 6) @ weight, drawn(2, 6) @ values)


def test_layers_compute_as_if_they_held_the_values() -> None:
    matrix, dense = made(6, 5)
    kernel, filters = made(4, 3, 2, 2)
    table, rows = made(7, 5)
    linear = nn.Linear(5, 6)
    linear.load_state_dict({"weight": matrix, "bias": torch.ones(6)}, assign=True)
    x = drawn(2, 3, 5)
    with torch.no_grad():
        assert torch.equal(linear(x), functional.linear(x, dense, torch.ones(6)))
    conv = nn.Conv2d(3, 4, 2, bias=False)
    conv.weight = nn.Parameter(kernel, requires_grad=False)
    x = drawn(1, 3, 4, 4)
    assert torch.equal(conv(x), functional.conv2d(x, filters))
    embedding = nn.Embedding(7, 5)
    embedding.weight = nn.Parameter(table, requires_grad=False)
    for ids in (torch.tensor([[6, 0], [2, 2]]), torch.tensor([3]), torch.tensor(3)):
        assert torch.equal(embedding(ids), rows[ids])


def test_a_module_of_them_goes_to_devices_and_precisions() -> None:
    weight, values = made(6, 5)
    layer = nn.Linear(5, 6, bias=False)
    layer.load_state_dict({"weight": weight}, assign=True)
    place = weight.data_ptr()
    layer.to("cpu")
    assert layer.weight.data_ptr() == place
    layer.to(torch.bfloat16)
    assert isinstance(layer.weight, Packed)
    assert layer.weight.dtype == layer(drawn(1, 5).bfloat16()).dtype == torch.bfloat16
    assert torch.equal(unpacked(layer.weight), values.bfloat16())
    layer.to("meta")
    assert isinstance(layer.weight, Packed)
    assert {each.device.type for each in (layer.weight, *layer.weight.stored)} == {"meta"}


@pytest.mark.parametrize("at_once", [1, 7, 64, 10**6])
def test_values_do_not_depend_on_how_many_are_computed_at_once(
    monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(module, "AT_ONCE", at_once)
    for shape in ((7, 5), (3, 2, 2, 2), (4,), (0, 5)):
        for single in (False, True):
            weight, values = made(*shape, single=single)
            assert torch.equal(weight.values(), values)


def test_its_size_is_that_of_what_is_stored() -> None:
    weight, values = made(600, 50, single=True)
    assert weight.nbytes == values.numel() + 4
    assert weight.bfloat16().nbytes == weight.nbytes


def test_it_cannot_be_changed_in_place() -> None:
    weight, _ = made(6, 5)
    with pytest.raises(RuntimeError, match="not changed in place"):
        weight.add_(1)


@pytest.mark.parametrize("storage", [torch.float8_e4m3fn, torch.float8_e5m2, torch.int8])
def test_no_value_exceeds_the_largest(storage: torch.dtype) -> None:
    weight = (40 * drawn(6, 16)).to(storage)
    for rotated in (0, 4, 16):
        for scale in (torch.tensor(-0.5), drawn(6, 1)):
            found = Packed(Scaled(rotated), (weight, scale), weight.shape)
            largest = found.values().abs().max()
            assert largest <= found.largest() * 1.0001 <= largest * 40
            broken = Packed(Scaled(rotated), (weight, scale / 0), weight.shape)
            assert not broken.largest().isfinite()


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's figures")
@pytest.mark.parametrize("form", ["fp8", "gguf"])
def test_a_network_needs_its_file_and_one_layer(tmp_path: Path, form: str) -> None:
    """In float32, where all of its values would need 128 MiB; the file of 32 is mapped."""
    side, depth = 1024, 32
    if form == "fp8":
        path = tmp_path / "m.safetensors"
        weight = drawn(side, side).to(torch.float8_e4m3fn)
        tensors = {f"{layer}.weight": weight.clone() for layer in range(depth)}
        scales = {f"{layer}.weight_scale": torch.tensor(0.03) for layer in range(depth)}
        save_file(tensors | scales, path)
    else:
        path = tmp_path / "m.gguf"
        save_gguf(
            path, {f"{layer}.weight": drawn(side, side) / 32 for layer in range(depth)}, "Q8_0", "x"
        )
    x = drawn(2, side)

    def made() -> nn.Module:
        return nn.Sequential(*(nn.Linear(side, side, bias=False) for _ in range(depth)))

    made_of_blocks = Packed(GgufBlocks("Q8_0"), (torch.zeros(1, 34, dtype=torch.uint8),), (1, 32))
    assert not made_of_blocks.values().any()  # with this, what computes blocks is imported
    gc.collect()
    before = private()
    tensors = open_checkpoint(path).state_dict()
    network = build(made, tensors, "m", Placing(torch.float32, "cpu"))
    found = network(x)
    grown = private() - before
    assert found.isfinite().all()
    assert network(x).std() == found.std()
    assert grown < 40 * 2**20
    assert sum(each.nbytes for each in network.parameters()) < 1.1 * depth * side**2


def private() -> int:
    """Memory of this process that no file backs, bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise AssertionError
