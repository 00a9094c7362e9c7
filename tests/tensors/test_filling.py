"""Networks filled with tensors: nothing is copied, nothing wrong gets in."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from tileup.errors import ModelError
from tileup.tensors.filling import Placing, build, build_renamed, extremes
from tileup.tensors.packed import precision


class Small(nn.Module):
    """Layers of every kind that a network is made of here."""

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Conv2d(3, 8, 1)
        self.norm = nn.RMSNorm(8)
        self.leave = nn.Linear(8, 4)
        self.register_buffer("table", torch.zeros(4))
        self.register_buffer("ids", torch.zeros(3, dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        middle = self.enter(x).mean((2, 3))
        return self.leave(self.norm(middle)) + self.table[self.ids[0]]


def weights(seed: int = 0, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    state = Small().state_dict()
    return {
        name: torch.randn(tensor.shape, generator=generator).to(dtype)
        if tensor.is_floating_point()
        else torch.arange(tensor.numel())
        for name, tensor in state.items()
    }


def made(
    tensors: dict[str, Tensor],
    dtype: torch.dtype = torch.float32,
    origin: dict[str, str] | None = None,
    **options: object,
) -> Small:
    settings: Any = {"dtype": dtype, "device": "cpu"} | options
    return build(Small, tensors, "small", Placing(**settings), origin=origin)


def test_a_network_of_the_same_precision_holds_the_tensors_themselves() -> None:
    tensors = weights()
    network = made(tensors)
    for name, tensor in network.state_dict().items():
        assert tensor.data_ptr() == tensors[name].data_ptr()
    assert not network.training
    assert not any(each.requires_grad for each in network.parameters())
    x = torch.ones(2, 3, 2, 2)
    plain = Small()
    plain.load_state_dict(tensors)
    assert torch.equal(network(x), plain(x))


def test_a_memory_mapped_file_is_not_copied(tmp_path: Path) -> None:
    """Every weight lies in the mapping, whose pages the system can drop and read again."""
    path = tmp_path / "small.safetensors"
    save_file(weights(), path)
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    network = made(tensors)
    for name, tensor in network.state_dict().items():
        assert tensor.data_ptr() == tensors[name].data_ptr()
        assert _is_mapped_from(path, tensor.data_ptr())


def _is_mapped_from(path: Path, address: int) -> bool:
    for line in Path("/proc/self/maps").read_text().splitlines():
        start, end = (int(each, 16) for each in line.split()[0].split("-"))
        if start <= address < end:
            return line.endswith(str(path))
    return False


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_numbers_are_cast_and_indices_are_not(dtype: torch.dtype) -> None:
    tensors = weights()
    for name, tensor in made(tensors, dtype).state_dict().items():
        wanted = tensors[name].to(dtype) if name != "ids" else torch.arange(3)
        assert tensor.dtype == wanted.dtype
        assert torch.equal(tensor, wanted)


@pytest.mark.parametrize("storage", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_matrices_in_fp8_stay_so_and_compute_as_if_they_were_cast(storage: torch.dtype) -> None:
    tensors = weights(dtype=storage)
    network = made(tensors)
    assert precision(network.enter.weight) == precision(network.leave.weight) == storage
    assert (
        network.leave.bias.dtype
        == network.norm.weight.dtype
        == network.table.dtype
        == torch.float32
    )
    x = torch.ones(2, 3, 2, 2)
    plain = made({name: tensor.float() for name, tensor in tensors.items()})
    assert torch.equal(network(x), plain(x))
    assert precision(network.leave.weight) == storage
    assert torch.equal(network.leave.weight.float(), tensors["leave.weight"].float())


def test_a_finer_bias_beside_fp8_is_not_rounded() -> None:
    tensors = weights()
    tensors["leave.weight"] = tensors["leave.weight"].to(torch.float8_e4m3fn)
    network = made(tensors)
    plain = made(tensors | {"leave.weight": tensors["leave.weight"].float()})
    x = torch.ones(2, 3, 2, 2)
    assert torch.equal(network(x), plain(x))
    assert precision(network.leave.weight) == torch.float8_e4m3fn
    assert torch.equal(network.leave.bias, tensors["leave.bias"])


def test_weights_stay_in_main_memory_and_come_when_their_layer_runs() -> None:
    """`meta` stands for another device; values are compared on the CPU."""
    away = made(weights(), device="meta", offload=True)
    assert {each.device.type for each in away.parameters()} == {"cpu"}
    assert {each.device.type for each in away.buffers()} == {"meta"}
    x, tensors = torch.ones(2, 3, 2, 2), weights()
    network = made(tensors, offload=True)
    for layer in (network.enter, network.norm, network.leave):
        assert len(layer._forward_pre_hooks) == len(layer._forward_hooks) == 1
    assert torch.equal(network(x), made(tensors)(x))
    assert network.leave.weight.data_ptr() == tensors["leave.weight"].data_ptr()


def test_indices_stored_as_numbers_become_indices() -> None:
    """So older files store the positions of CLIP."""
    assert made(weights() | {"ids": torch.tensor([2.0, 0.0, 1.0])}).ids.tolist() == [2, 0, 1]


def test_missing_tensors_are_named() -> None:
    tensors = weights()
    del tensors["leave.bias"], tensors["norm.weight"]
    with pytest.raises(ModelError, match=r"small lacks 2 .*: leave\.bias, norm\.weight\."):
        made(tensors)


def test_unexpected_tensors_are_named_and_left_out(caplog: pytest.LogCaptureFixture) -> None:
    extra = {f"extra.{index}": torch.zeros(1) for index in range(5)}
    found = made(weights() | extra).state_dict()
    assert found.keys() == weights().keys()
    (message,) = caplog.messages
    assert "small has 5 tensors" in message
    assert "no place for: extra.0, extra.1, extra.2 and 2 more; they are left out" in message


@pytest.mark.parametrize(
    "name",
    [
        *("leave.weight_zero_point", "leave.weight.absmax", "leave.lora.A", "leave.adapter.weight"),
        *("leave.weight_scale_inv", "leave.codebook", "leave.g_idx", "norm.bias_added", "leave.up"),
    ],
)
def test_what_changes_a_weight_beside_it_is_refused(name: str) -> None:
    """It says how the weight is stored or changed."""
    with pytest.raises(ModelError, match=rf"no place for: {name}\. They change what its weights"):
        made(weights() | {name: torch.zeros(1)})


@pytest.mark.parametrize("name", ["leave.mine", "leave.weight.note", "leave.extra.1", "norm.upper"])
def test_a_stray_tensor_beside_a_weight_is_named_and_left_out(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    found = made(weights() | {name: torch.zeros(1)}).state_dict()
    assert found.keys() == weights().keys()
    assert f"no place for: {name}; they are left out" in caplog.text


def test_what_lies_beside_a_weight_of_few_bits_is_refused_whatever_its_name() -> None:
    """Numbers of 8 bits mean something only with what else is said of them."""
    eight = weights()["leave.weight"].to(torch.float8_e4m3fn)
    assert made(weights() | {"leave.weight": eight})
    for name in ("leave.mine", "leave.weight.note"):
        with pytest.raises(ModelError, match="They change what its weights"):
            made(weights() | {"leave.weight": eight, name: torch.zeros(1)})
    made(weights() | {"leave.weight": eight, "norm.mine": torch.zeros(1)})


def test_missing_and_unexpected_tensors_are_named_together() -> None:
    tensors = weights() | {"extra": torch.zeros(1)}
    del tensors["leave.bias"]
    words = r"small lacks 1 .*: leave\.bias; and it has 1 .*: extra\. The file is incomplete"
    with pytest.raises(ModelError, match=words):
        made(tensors)


def test_tensors_by_the_names_of_a_file(caplog: pytest.LogCaptureFixture) -> None:
    tensors = weights()
    file = {name.upper(): tensor for name, tensor in tensors.items()}
    names = {name: name.upper() for name in tensors}
    placing = Placing(torch.float32, "cpu")
    found = build_renamed(Small, file, names, "small", placing).state_dict()
    assert {name: each.data_ptr() for name, each in found.items()} == {
        name: each.data_ptr() for name, each in tensors.items()
    }
    assert caplog.messages == []
    for name in ("EXTRA", "leave.bias"):
        build_renamed(Small, file | {name: torch.zeros(4)}, names, "small", placing)
        assert f"no place for: {name};" in caplog.messages.pop()
        caplog.clear()
    with pytest.raises(ModelError, match=r"no place for: LEAVE\.scale"):
        build_renamed(Small, file | {"LEAVE.scale": torch.zeros(4)}, names, "small", placing)
    file["LEAVE.WEIGHT"] = torch.full((4, 8), float("nan"))
    with pytest.raises(ModelError, match=r"LEAVE\.WEIGHT of small .* not finite"):
        build_renamed(Small, file, names, "small", placing)


def test_a_name_of_the_network_that_the_file_uses_for_another_does_not_serve() -> None:
    """The file lacks a tensor, and has one beyond that is called as the network calls it."""
    tensors = weights()
    file = {name.upper(): tensor for name, tensor in tensors.items() if name != "leave.bias"}
    names = {name: name.upper() for name in tensors if name != "leave.bias"}
    words = r"lacks 1 .*: leave\.bias; and it has 1 .*: leave\.bias\."
    placing = Placing(torch.float32, "cpu")
    with pytest.raises(ModelError, match=words):
        build_renamed(Small, file | {"leave.bias": torch.zeros(4)}, names, "small", placing)


def test_sizes_that_make_no_network_are_no_crash() -> None:
    with pytest.raises(ModelError, match=r"of small make no network: .*divisible"):
        build(lambda: nn.Conv2d(3, 4, 1, groups=2), {}, "small", Placing(torch.float32, "cpu"))


def test_layers_that_compute_in_float32() -> None:
    tensors = weights()
    tensors["leave.bias"][0] = 1e5
    network = made(tensors, torch.float16, float32=("leave",))
    assert network.leave.weight.dtype == network.leave.bias.dtype == torch.float32
    assert network.enter.weight.dtype == network.norm.weight.dtype == torch.float16
    assert torch.equal(network.leave.bias, tensors["leave.bias"])


def test_overflow_can_be_left_to_the_caller() -> None:
    tensors = weights()
    tensors["enter.bias"][0] = -1e5
    assert made(tensors, torch.float16, overflow=True).enter.bias[0] == -float("inf")
    tensors["enter.bias"][0] = float("nan")
    with pytest.raises(ModelError, match="not finite"):
        made(tensors, torch.float16, overflow=True)


def test_several_wrong_shapes_are_named_together() -> None:
    tensors = weights() | {"leave.weight": torch.zeros(4, 9), "enter.bias": torch.zeros(())}
    words = r"enter\.bias has shape \(\) where \(8,\) is needed, leave\.weight has shape \(4, 9\)"
    with pytest.raises(ModelError, match=words):
        made(tensors)


def test_a_tensor_of_the_wrong_shape_is_named_as_its_file_names_it() -> None:
    tensors = weights() | {"leave.weight": torch.zeros(4, 9)}
    with pytest.raises(ModelError, match=r"leave\.weight has shape \(4, 9\) where \(4, 8\)"):
        made(tensors)
    with pytest.raises(ModelError, match=r": out\.w has shape"):
        made(tensors, origin={"leave.weight": "out.w"})


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_one_value_that_is_not_finite_is_found(bad: float, dtype: torch.dtype) -> None:
    tensors = weights(dtype=dtype)
    tensors["enter.weight"][3, 1] = bad
    with pytest.raises(ModelError, match=r"enter\.weight of small .* not finite"):
        made(tensors)


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2], ids=str)
def test_every_byte_of_fp8_is_judged_by_its_value(dtype: torch.dtype) -> None:
    for byte in torch.arange(256, dtype=torch.uint8):
        value = byte.view(dtype).float()
        tensors = weights(dtype=dtype)
        tensors["enter.bias"] = byte.expand(8).clone().view(dtype)
        if value.isfinite():
            assert (made(tensors).enter.bias.float() == value).all()
        else:
            with pytest.raises(ModelError, match=r"enter\.bias of small .* not finite"):
                made(tensors)


def test_values_that_half_precision_cannot_hold_are_refused() -> None:
    tensors = weights(dtype=torch.bfloat16)
    tensors["enter.bias"][0] = -1e5
    with pytest.raises(ModelError, match=r"enter\.bias of small .* for float16.*--dtype"):
        made(tensors, torch.float16)
    assert made(tensors, torch.bfloat16).enter.bias[0] < -9e4


def test_quantised_weights_are_refused() -> None:
    tensors = weights() | {"leave.weight": torch.zeros(4, 8, dtype=torch.int8)}
    with pytest.raises(ModelError, match=r"stores leave\.weight as int8: quantised"):
        made(tensors)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_finite_is_what_torch_calls_finite(dtype: torch.dtype) -> None:
    largest = torch.finfo(dtype).max
    for values in ([1.0, -2.0], [largest] * 9, [largest, -largest], [], [0.0]):
        assert extremes(torch.tensor(values, dtype=dtype)).isfinite().all()
    for bad in (math.nan, math.inf, -math.inf):
        assert not extremes(torch.tensor([1.0, bad, 2.0], dtype=dtype)).isfinite().all()
    assert not extremes(torch.tensor([math.inf, -math.inf], dtype=dtype)).isfinite().all()


class Words(nn.Module):
    """A table, under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(50, 8)
        self.same = self.words

    def forward(self, ids: Tensor) -> Tensor:
        return self.same(ids)


@pytest.mark.parametrize("stored", [torch.float16, torch.bfloat16])
def test_a_table_stays_as_it_is_stored_and_its_rows_are_cast(stored: torch.dtype) -> None:
    """A language model's is of a gigabyte and more, and a prompt looks up some hundred rows."""
    table = torch.randn(50, 8, generator=torch.manual_seed(0)).to(stored)
    tensors = {"words.weight": table, "same.weight": table}
    network = build(Words, tensors, "words", Placing(torch.float32, "cpu"))
    assert network.words.weight.data_ptr() == table.data_ptr()
    assert precision(network.words.weight) == stored
    ids = torch.tensor([[3, 49], [0, 3]])
    assert torch.equal(network(ids), table.float()[ids])


def test_a_table_that_half_precision_cannot_hold_is_refused() -> None:
    tensors = {name: torch.full((50, 8), 70000.0) for name in ("words.weight", "same.weight")}
    with pytest.raises(ModelError, match=r"words\.weight of words has values that are too large"):
        build(Words, tensors, "words", Placing(torch.float16, "cpu"))


class Drawn(nn.Module):
    """Weights whose first values are drawn in every way, and a table that is computed."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            [nn.Linear(4, 4), nn.Conv2d(4, 4, 3), nn.Embedding(4, 4), nn.GroupNorm(2, 4)]
        )
        self.places = {each.device.type for each in self.layers.parameters()}
        self.mine = nn.Parameter(torch.randn(4) / torch.ones(4))
        self.register_buffer("angles", torch.arange(4.0).cos(), persistent=False)
        nn.init.trunc_normal_(self.mine)


def test_a_network_is_made_without_first_values_and_what_it_computes_is_there() -> None:
    state = {name: each.clone() for name, each in Drawn().state_dict().items()}
    network = build(Drawn, state, "drawn", Placing(torch.float32, "cpu"), computed=True)
    assert network.places == {"meta"}
    assert torch.equal(network.angles, torch.arange(4.0).cos())
    assert all(torch.equal(each, state[name]) for name, each in network.state_dict().items())
