"""UNets from files in the original layout, against a separate implementation of them."""

from __future__ import annotations

import functools
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from tests.checkpoints.layouts.unet import (
    LdmUNet,
    Shape,
    ldm_unet,
    sd1,
    sd2,
    sd2_unet,
    sdxl,
    sdxl_refiner,
    tensors,
    the_unet,
    waves,
)
from tests.families.building import built_unet
from tileup.checkpoints.model import OffloadGroup
from tileup.contracts import Box, Encoded, Scene
from tileup.errors import ModelError
from tileup.families.unet_control import UNetInputs
from tileup.families.unet_layout import diffusers_names, unet_config
from tileup.families.unet_network import UNetNetwork, refiner_ids, size_ids
from tileup.plan.noise_levels import training_levels
from tileup.sampling.guided import GuidedDenoiser
from tileup.tensors.packed import precision
from tileup.tiling.profiles import WindowWeights, window_weight
from tileup.tiling.tiled import TiledDenoiser

LEVELS = training_levels()
SHAPES = {"sd1": sd1(), "sd2": sd2(), "sdxl": sdxl(), "refiner": sdxl_refiner()}
SCENE = Scene(torch.zeros(1, 4, 24, 32), torch.zeros(1, 3, 192, 256), (190, 250))
WIDE = {"sd1": sd1(64), "sd2": sd2(64), "sdxl": sdxl(64), "refiner": sdxl_refiner(64)}
"""The finest level's groups have two channels: of one alone, normalisation takes out each bias."""
POOLED = 1280


def original_of(family: str) -> LdmUNet:
    """Nobody changes it."""
    return the_unet(SHAPES[family])


def loaded(
    weights: Mapping[str, Tensor], dtype: torch.dtype = torch.float32, *, offload: bool = False
) -> UNetNetwork:
    return built_unet(weights, dtype=dtype, offload=offload)


@pytest.fixture(scope="module")
def small() -> tuple[LdmUNet, UNetNetwork]:
    """Of SD 1; nobody changes it."""
    original = original_of("sd1")
    return original, loaded(tensors(original))


def windows_of(height: int, width: int) -> list[Box]:
    return [Box(top, left, top + height, left + width) for top, left in ((0, 0), (3, 5))]


def prompt(shape: Shape, rows: int = 2, seed: int = 1) -> Encoded:
    generator = torch.Generator().manual_seed(seed)
    pooled = torch.randn(rows, POOLED, generator=generator) if shape.adm else None
    return Encoded(torch.randn(rows, 7, shape.context, generator=generator), pooled)


def noisy(height: int, width: int, rows: int = 2) -> Tensor:
    return torch.randn(rows, 4, height, width, generator=torch.Generator().manual_seed(2))


def label(text: Encoded, ids: Sequence[Sequence[float]]) -> Tensor | None:
    """What SDXL's `label_emb` takes: the pooled prompt, then 256 waves of each number."""
    if text.pooled is None:
        return None
    numbers = torch.tensor(ids)
    return torch.cat([text.pooled, waves(numbers.flatten(), 256).reshape(len(ids), -1)], 1)


def told(shape: Shape, box: Box) -> list[float]:
    """The numbers that SDXL (six) and its refiner (five) are told of a window."""
    height, width = box.height * 8.0, box.width * 8.0
    last = [height, width] if shape.adm == sdxl().adm else [6.0]
    return [height, width, 0.0, 0.0, *last]


@functools.cache
def written_and_read(family: str) -> tuple[LdmUNet, UNetNetwork]:
    """A network, and what is loaded from its file; nobody changes them."""
    original = the_unet(WIDE[family])
    return original, loaded(tensors(original))


SIDES = {"whole": (8, 16), "odd": (9, 13), "a few": (2, 2), "a row": (1, 11)}
"""Of one cell alone, normalisation in groups of one channel would leave nothing but rounding."""


@pytest.mark.parametrize("family", SHAPES)
@pytest.mark.parametrize("sides", SIDES.values(), ids=SIDES)
def test_a_file_gives_the_network_that_it_was_written_from(
    family: str, sides: tuple[int, int]
) -> None:
    shape = WIDE[family]
    original, network = written_and_read(family)
    x, text, windows = noisy(*sides), prompt(shape), windows_of(*sides)
    sigma = torch.tensor([0.3, 7.0])
    found = network(x, sigma, windows, text, SCENE)
    ids = [told(shape, box) for box in windows]
    wanted = original(x, network.time(sigma), text.tokens, label(text, ids))
    assert found.dtype == torch.float32
    assert 0.1 < wanted.std() < 10
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5 * float(wanted.abs().max()))


@pytest.mark.parametrize("family", SHAPES)
def test_every_tensor_of_these_files_counts(family: str) -> None:
    """Otherwise they would prove nothing of how they are read."""
    shape = WIDE[family]
    original = the_unet(shape)
    weights = {name: each.clone().requires_grad_() for name, each in original.named_parameters()}
    text = prompt(shape)
    ids = [told(shape, box) for box in windows_of(9, 13)]
    given = noisy(9, 13), torch.tensor([20.0, 700.0]), text.tokens, label(text, ids)
    output = torch.func.functional_call(original, weights, given)
    (output * noisy(9, 13)).sum().backward()
    for name, parameter in weights.items():
        assert parameter.grad is not None
        effect = (parameter.grad * parameter).norm() / math.sqrt(output.numel())
        assert effect > 1e-4, name


PUBLISHED = {
    "sd1": (sd1(320), 859_520_964),
    "sd2": (sd2(320), 865_910_724),
    "sdxl": (sdxl(320, (0, 2, 10)), 2_567_463_684),
}
"""Parameters of the published UNets."""


@pytest.mark.parametrize("family", PUBLISHED)
def test_the_layouts_have_the_published_number_of_parameters(family: str) -> None:
    shape, parameters = PUBLISHED[family]
    with torch.device("meta"):
        original = LdmUNet(shape)
    assert sum(each.numel() for each in original.parameters()) == parameters


CONFIGS = {
    "sd1": {
        "block_out_channels": (320, 640, 1280, 1280),
        "attention_head_dim": (8, 8, 8, 8),
        "cross_attention_dim": 768,
        "use_linear_projection": False,
        "transformer_layers_per_block": (1, 1, 1, 1),
    },
    "sd2": {
        "block_out_channels": (320, 640, 1280, 1280),
        "attention_head_dim": (5, 10, 20, 20),
        "cross_attention_dim": 1024,
        "use_linear_projection": True,
        "transformer_layers_per_block": (1, 1, 1, 1),
    },
    "sdxl": {
        "block_out_channels": (320, 640, 1280),
        "attention_head_dim": (5, 10, 20),
        "cross_attention_dim": 2048,
        "use_linear_projection": True,
        "transformer_layers_per_block": (0, 2, 10),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "projection_class_embeddings_input_dim": 2816,
    },
    "refiner": {
        "block_out_channels": (384, 768, 1536, 1536),
        "attention_head_dim": (6, 12, 24, 24),
        "cross_attention_dim": 1280,
        "transformer_layers_per_block": (0, 4, 4, 4),
        "projection_class_embeddings_input_dim": 2560,
    },
}
"""As the published models' own configs say, except depths where there is no attention."""


@pytest.mark.parametrize("family", CONFIGS)
def test_full_sizes_are_read_from_the_shapes(family: str) -> None:
    shapes = {name: shape for name, (shape, _) in PUBLISHED.items()}
    shapes["refiner"] = sdxl_refiner(384, 4)
    with torch.device("meta"):
        own = {
            name: tuple(each.shape) for name, each in LdmUNet(shapes[family]).state_dict().items()
        }
    names = diffusers_names(own)
    assert sorted(names.values()) == sorted(own)
    config = unet_config({name: own[each] for name, each in names.items()})
    assert {name: config[name] for name in CONFIGS[family]} == CONFIGS[family]


def test_time_is_the_row_of_the_table_and_goes_on_between_rows(
    small: tuple[LdmUNet, UNetNetwork],
) -> None:
    _, network = small
    table = torch.tensor(LEVELS.sigmas, dtype=torch.float64)
    rows = torch.tensor([0, 1, 500, 998, 999])
    torch.testing.assert_close(network.time(table[rows]), rows.float(), rtol=0, atol=1e-4)
    between = (table[500] * table[501]).sqrt()[None]
    torch.testing.assert_close(network.time(between), torch.tensor([500.5]), rtol=0, atol=1e-3)
    assert network.time(torch.tensor([1e-3, 1e3])).tolist() == [0, 999]


@pytest.mark.parametrize("family", ["sd1", "refiner"])
def test_rows_of_a_batch_are_evaluations_of_their_own(family: str) -> None:
    shape = SHAPES[family]
    network = loaded(tensors(original_of(family)))
    text = replace(prompt(shape), negative=(False, True))
    x, sigma, windows = noisy(9, 13), torch.tensor([0.3, 7.0]), windows_of(9, 13)
    together = network(x, sigma, windows, text, SCENE)
    for row in range(2):
        pooled = None if text.pooled is None else text.pooled[row : row + 1]
        own = Encoded(text.tokens[row : row + 1], pooled, text.negative[row : row + 1])
        alone = network(x[row : row + 1], sigma[row : row + 1], [windows[row]], own, SCENE)
        torch.testing.assert_close(alone, together[row : row + 1], rtol=0, atol=2e-5)
    changed = network(x, sigma.flip(0), windows, text, SCENE)
    assert (changed - together).abs().max() > 0.01


def test_one_prompt_serves_every_row(small: tuple[LdmUNet, UNetNetwork]) -> None:
    _, network = small
    one = prompt(SHAPES["sd1"], rows=1)
    both = Encoded(one.tokens.expand(2, -1, -1))
    given = noisy(8, 8), torch.tensor([0.3, 7.0]), windows_of(8, 8)
    assert torch.equal(network(*given, one, SCENE), network(*given, both, SCENE))


def test_the_sizes_told_are_those_of_the_window_alone() -> None:
    assert size_ids(Box(40, 7, 168, 135)) == [1024, 1024, 0, 0, 1024, 1024]
    assert size_ids(Box(0, 0, 3, 5)) == size_ids(Box(9, 90, 12, 95)) == [24, 40, 0, 0, 24, 40]
    assert refiner_ids(Box(4, 4, 12, 20)) == [64, 128, 0, 0, 6.0]
    assert refiner_ids(Box(4, 4, 12, 20), wanted=False) == [64, 128, 0, 0, 2.5]


def test_the_refiner_is_told_which_row_is_not_wanted() -> None:
    shape = SHAPES["refiner"]
    original = original_of("refiner")
    network = loaded(tensors(original))
    text = replace(prompt(shape), negative=(False, True))
    x, sigma, windows = noisy(8, 8), torch.tensor([1.0, 1.0]), windows_of(8, 8)
    found = network(x, sigma, windows, text, SCENE)
    wanted = original(
        x,
        network.time(sigma),
        text.tokens,
        label(text, [[64.0, 64, 0, 0, 6.0], [64.0, 64, 0, 0, 2.5]]),
    )
    torch.testing.assert_close(found, wanted, rtol=0, atol=2e-5)
    plain = network(x, sigma, windows, replace(text, negative=()), SCENE)
    assert torch.equal(plain[0], found[0])
    assert not torch.equal(plain[1], found[1])


@pytest.mark.parametrize("width", [768, 1281])
def test_a_text_encoder_of_another_family_is_refused(width: int) -> None:
    network = loaded(tensors(original_of("sdxl")))
    text = Encoded(torch.zeros(1, 7, 2048), torch.zeros(1, width))
    with pytest.raises(ModelError, match=f"{width} features.*2816"):
        network(noisy(8, 8), torch.ones(2), windows_of(8, 8), text, SCENE)


def test_diffusers_layout_is_read_too(small: tuple[LdmUNet, UNetNetwork]) -> None:
    _, network = small
    again = loaded(network.module.state_dict())
    text = prompt(SHAPES["sd1"])
    given = noisy(8, 8), torch.tensor([0.3, 7.0]), windows_of(8, 8), text, SCENE
    assert torch.equal(again(*given), network(*given))


def test_depths_may_differ_from_layer_to_layer_and_on_the_way_up() -> None:
    """As in SSD-1B, a distilled SDXL: its depths are 4, 4 down and 4, 4, 10 up."""
    from diffusers import UNet2DConditionModel

    torch.manual_seed(0)
    config = {
        "block_out_channels": (32, 64, 128),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "transformer_layers_per_block": (1, (2, 1), 2),
        "reverse_transformer_layers_per_block": ((1, 1, 3), (2, 1, 1), 1),
        "attention_head_dim": (1, 1, 2),
        "cross_attention_dim": 2048,
        "use_linear_projection": True,
    }
    module = UNet2DConditionModel(**config).eval()
    network = loaded(module.state_dict())
    x, sigma, text = noisy(8, 8), torch.tensor([0.3, 7.0]), prompt(sd1())
    text = Encoded(torch.randn(2, 7, 2048))
    with torch.no_grad():
        wanted = module(x, network.time(sigma), text.tokens).sample
    found = network(x, sigma, windows_of(8, 8), text, SCENE)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)


# What files can be wrong in.


def without(weights: dict[str, Tensor], *names: str) -> dict[str, Tensor]:
    assert set(names) <= set(weights)
    return {name: tensor for name, tensor in weights.items() if name not in names}


def spoiled(weights: dict[str, Tensor], name: str, value: float) -> dict[str, Tensor]:
    tensor = weights[name].clone()
    tensor.view(-1)[-1] = value
    return weights | {name: tensor}


KERNEL = "input_blocks.1.0.in_layers.2.weight"
MATRIX = "middle_block.1.transformer_blocks.0.attn2.to_v.weight"
WRONG: dict[str, tuple[Callable[[dict[str, Tensor]], dict[str, Tensor]], str]] = {
    "a tensor is missing": (
        lambda w: without(w, MATRIX),
        r"lacks 1 of .*: mid_block\.attentions\.0\.transformer_blocks\.0\.attn2\.to_v\.weight\.",
    ),
    "the first is missing": (
        lambda w: without(w, "input_blocks.0.0.weight"),
        r"lacks conv_in\.weight",
    ),
    "a deciding one is missing": (
        lambda w: without(w, "middle_block.1.proj_in.weight"),
        r"lacks mid_block\.attentions\.0\.proj_in\.weight",
    ),
    "a block is missing": (
        lambda w: {k: v for k, v in w.items() if not k.startswith("input_blocks.5.")},
        "11 input blocks.*is the file complete",
    ),
    "half is missing": (
        lambda w: dict(list(w.items())[: len(w) // 2]),
        r"lacks conv_out\.weight",
    ),
    "many are missing": (
        lambda w: {k: v for k, v in w.items() if "norm1.bias" not in k},
        r"the UNet lacks \d+ of .*norm1\.bias, .* and \d+ more\. The file is incomplete",
    ),
    "one that changes a weight": (
        lambda w: w | {"input_blocks.1.0.in_layers.2.absmax": torch.zeros(1)},
        r"has 1 tensor that its network has no place for: "
        r"input_blocks\.1\.0\.in_layers\.2\.absmax\.",
    ),
    "a wrong shape": (
        lambda w: w | {MATRIX: torch.zeros(128, 767)},
        rf"fit together: {MATRIX} has shape \(128, 767\) where \(128, 768\) is needed",
    ),
    "a deciding one has a wrong shape": (
        lambda w: w | {"input_blocks.0.0.weight": torch.zeros(33, 4, 3, 3)},
        r"input_blocks\.0\.0\.weight has shape \(33, 4, 3, 3\) where \(32, 4, 3, 3\) is needed",
    ),
    "a number instead of a kernel": (
        lambda w: w | {"out.2.weight": torch.tensor(1.0)},
        "wrong number of axes",
    ),
    "a width that no groups divide": (
        lambda w: w | {"input_blocks.1.0.in_layers.2.weight": torch.zeros(33, 32, 3, 3)},
        "the UNet make no network",
    ),
    "NaN": (
        lambda w: spoiled(w, MATRIX, math.nan),
        f"{MATRIX} of the UNet has values .* not finite: the file is damaged",
    ),
    "infinity": (
        lambda w: spoiled(w, KERNEL, -math.inf),
        f"{KERNEL} of the UNet has values .* not finite: the file is damaged",
    ),
    "integers": (
        lambda w: w | {MATRIX: torch.zeros(128, 768, dtype=torch.int8)},
        f"stores {MATRIX} as int8: quantised",
    ),
    "nothing": (lambda w: {}, "0 input blocks"),
}


@pytest.mark.parametrize("how", WRONG)
def test_a_wrong_file_is_refused_by_name(how: str) -> None:
    change, message = WRONG[how]
    with pytest.raises(ModelError, match=message):
        loaded(change(tensors(original_of("sd1"))))


def test_an_incomplete_size_embedding_is_refused() -> None:
    weights = without(tensors(original_of("sdxl")), "label_emb.0.2.bias")
    with pytest.raises(ModelError, match=r"lacks label_emb\.0\.2\.bias"):
        loaded(weights)


def test_values_too_large_for_half_precision_are_not_called_damage() -> None:
    weights = spoiled(tensors(original_of("sd1")), MATRIX, 1e5)
    with pytest.raises(
        ModelError, match=f"{MATRIX} of the UNet has values that are too large for float16"
    ):
        loaded(weights, torch.float16)
    loaded(weights, torch.bfloat16)


# How weights are held.


def test_tensors_that_need_no_cast_are_not_copied() -> None:
    weights = tensors(original_of("sd1"))
    held = {each.data_ptr() for each in loaded(weights).module.parameters()}
    assert held == {each.data_ptr() for each in weights.values()}
    cast = loaded(weights, torch.bfloat16).module
    assert {each.dtype for each in cast.parameters()} == {torch.bfloat16}
    assert {each.dtype for each in weights.values()} == {torch.float32}


def test_half_precision_is_the_same_network_to_its_digits(
    small: tuple[LdmUNet, UNetNetwork],
) -> None:
    original, exact = small
    half = loaded(tensors(original), torch.bfloat16)
    given = noisy(8, 8), torch.tensor([0.3, 7.0]), windows_of(8, 8), prompt(SHAPES["sd1"]), SCENE
    wanted, found = exact(*given), half(*given)
    assert found.dtype == torch.float32
    assert 1e-4 < (found - wanted).norm() / wanted.norm() < 0.05


@pytest.mark.parametrize("offload", [False, True])
def test_weights_of_8_bits_stay_so_and_compute_in_the_precision_asked_for(offload: bool) -> None:
    weights = tensors(original_of("sd1"))
    eight = {
        name: tensor.to(torch.float8_e4m3fn) if tensor.ndim > 1 else tensor.half()
        for name, tensor in weights.items()
    }
    network = loaded(eight, offload=offload)
    reference = loaded({name: tensor.float() for name, tensor in eight.items()})
    given = noisy(8, 8), torch.tensor([0.3, 7.0]), windows_of(8, 8), prompt(SHAPES["sd1"]), SCENE
    held = {name: each.data_ptr() for name, each in network.module.named_parameters()}
    assert torch.equal(network(*given), reference(*given))
    for name, parameter in network.module.named_parameters():
        assert precision(parameter) == (
            torch.float8_e4m3fn if parameter.ndim > 1 else torch.float32
        )
        assert parameter.data_ptr() == held[name]


def test_an_inpainting_model_is_told_to_draw_everything_anew(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Against the original network, given a mask of ones and the grey picture's latents there."""
    shape = replace(SHAPES["sd1"], inputs=9)
    original = ldm_unet(shape)
    network = loaded(tensors(original))
    (message,) = caplog.messages
    assert "is an inpainting model: it is told to draw all of the picture anew" in message
    grey = torch.randn(1, 4, 24, 32, generator=torch.Generator().manual_seed(9))
    x, sigma, windows, text = noisy(8, 8), torch.tensor([0.3, 7.0]), windows_of(8, 8), prompt(shape)
    found = network(x, sigma, windows, text, replace(SCENE, masked=grey))
    behind = torch.cat([grey[..., *box.index] for box in windows])
    given = torch.cat([x, torch.ones(2, 1, 8, 8), behind], dim=1)
    expected = original(given, network.time(sigma), text.tokens)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="latents of a grey picture"):
        network(x, sigma, windows, text, SCENE)


def test_biases_of_8_bits_and_nan_among_them() -> None:
    eight = {
        name: tensor.to(torch.float8_e4m3fn) for name, tensor in tensors(original_of("sd1")).items()
    }
    network = loaded(eight)
    assert (
        network(noisy(8, 8), torch.ones(2), windows_of(8, 8), prompt(SHAPES["sd1"]), SCENE)
        .isfinite()
        .all()
    )
    broken = eight[MATRIX].clone()
    broken.view(torch.uint8)[0, 0] = 0x7F  # its NaN
    with pytest.raises(
        ModelError, match=f"{MATRIX} of the UNet .* not finite: the file is damaged"
    ):
        loaded(eight | {MATRIX: broken})


def test_layers_let_go_of_their_weights_also_when_a_call_fails() -> None:
    weights = tensors(original_of("sd1"))
    network = loaded(weights, offload=True)
    text = Encoded(torch.zeros(1, 7, 5))  # no width that the network knows
    with pytest.raises(RuntimeError, match=r"\[2, 768\]"):
        network(noisy(8, 8), torch.ones(2), windows_of(8, 8), text, SCENE)
    given = noisy(8, 8), torch.ones(2), windows_of(8, 8), prompt(SHAPES["sd1"]), SCENE
    assert torch.equal(network(*given), loaded(weights)(*given))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("offload", [False, True])
def test_a_device_computes_what_the_cpu_does(offload: bool) -> None:
    weights = tensors(original_of("sdxl"))
    given = noisy(9, 13), torch.tensor([0.3, 7.0]), windows_of(9, 13), prompt(sdxl()), SCENE
    wanted = loaded(weights)(*given)
    network = built_unet(weights, device="cuda:0", offload=offload)
    places = {each.device.type for each in network.module.parameters()}
    assert places == {"cpu" if offload else "cuda"}
    found = network(*given)
    assert (found - wanted).norm() / wanted.norm() < 1e-3
    part = OffloadGroup(lambda: () if offload else [network.module], "cuda:0")
    part.unload()
    assert {each.device.type for each in network.module.parameters()} == {"cpu"}
    part.load()
    assert torch.equal(network(*given), found)


def memory_of_loading(path: Path) -> tuple[int, int]:
    """Bytes of a network's weights, and what loading it from a file takes at its peak; in a process
    of its own, which has imported everything."""
    reading, writing = os.pipe()
    if not (child := os.fork()):
        try:
            torch.set_num_threads(1)
            Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
            before = peak()
            with safe_open(path, framework="pt") as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            network = built_unet(tensors, dtype=torch.float16)
            size = sum(each.numel() * each.element_size() for each in network.module.parameters())
            os.write(writing, f"{size} {peak() - before}".encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as told:
        size, memory = map(int, told.read().split())
    os.waitpid(child, 0)
    return size, memory


def peak() -> int:
    (line,) = re.findall(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    return 1024 * int(line)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux tells the peak there")
def test_loading_at_the_stored_precision_takes_the_memory_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "half.safetensors"
    with torch.device("meta"):
        names = LdmUNet(sd1(96)).state_dict()
    save_file({k: torch.full(v.shape, 0.01, dtype=torch.float16) for k, v in names.items()}, path)
    loaded(tensors(original_of("sd1")))  # with this, what loading needs is imported
    size, memory = memory_of_loading(path)
    assert size > 150e6
    assert 0.5 * size < memory < 1.3 * size, f"{memory / size:.2f} of the file's size"


# Windows, guidance, and control.


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
@pytest.mark.parametrize("cfg", [1.0, 4.0])
def test_a_canvas_is_the_weighted_sum_of_its_windows(family: str, cfg: float) -> None:
    shape = SHAPES[family]
    network = loaded(tensors(original_of(family)))
    text, negative = prompt(shape, 1, 3), prompt(shape, 1, 4)
    denoiser = GuidedDenoiser(network, "v", SCENE, text, negative, cfg)
    boxes = [Box(top, left, top + 9, left + 11) for top in (0, 5) for left in (0, 6)]
    raw = window_weight("feather", 9, 11, 4)
    tiled = TiledDenoiser(
        denoiser,
        [boxes],
        WindowWeights("feather", 4, torch.empty(0, dtype=torch.float64)),
        height=14,
        width=17,
        batch=3,
    )
    x, sigma = noisy(14, 17, 1), torch.tensor([2.0])

    total, weights = torch.zeros(1, 4, 14, 17), torch.zeros(14, 17)
    for box in boxes:
        crop = x[..., *box.index]
        both = [
            crop / 5 - 2 / math.sqrt(5) * network(crop / math.sqrt(5), sigma, [box], each, SCENE)
            for each in (text, negative)
        ]
        total[..., *box.index] += raw * (cfg * both[0] + (1 - cfg) * both[1])
        weights[box.index] += raw
    found = tiled(x, sigma)
    torch.testing.assert_close(found, (total / weights).to(found), rtol=0, atol=5e-5)
    assert found.std() > 0.1


@dataclass
class Recorded:
    """A control network that adds given residuals, and keeps what it was asked."""

    residuals: list[Tensor]
    calls: list[UNetInputs] = field(default_factory=list)

    def __call__(self, shown: UNetInputs) -> tuple[Sequence[Tensor], Tensor]:
        self.calls.append(shown)
        *sides, middle = self.residuals
        return sides, middle


def residuals(original: LdmUNet, x: Tensor, seed: int = 5) -> list[Tensor]:
    """Random ones in the shapes of the skip connections and of the middle."""
    shapes: list[torch.Size] = []

    def note(module: nn.Module, args: object, output: Tensor) -> None:
        shapes.append(output.shape)

    hooks = [
        block.register_forward_hook(note)
        for block in (*original.input_blocks, original.middle_block)
    ]
    original(x, torch.zeros(len(x)), torch.zeros(len(x), 1, original.shape.context))
    for hook in hooks:
        hook.remove()
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator) for shape in shapes]


def test_control_is_added_where_the_noise_is_strong_enough(
    small: tuple[LdmUNet, UNetNetwork],
) -> None:
    original, network = small
    x, sigma, text = noisy(8, 8), torch.tensor([0.3, 7.0]), prompt(SHAPES["sd1"])
    windows = windows_of(8, 8)
    added = residuals(original, x)
    assert len(added) == 13
    control = Recorded(added)
    controlled = replace(network, control=control)
    time = network.time(sigma)
    plain = network(x, sigma, windows, text, SCENE)
    full = original(x, time, text.tokens, None, added)
    assert (full - plain).abs().max() > 0.1

    def under(until: float) -> Tensor:
        return controlled(x, sigma, windows, text, replace(SCENE, control_until=until))

    torch.testing.assert_close(under(0.0), full, rtol=0, atol=2e-5)
    torch.testing.assert_close(under(0.3), full, rtol=0, atol=2e-5)
    strong = under(1.0)
    torch.testing.assert_close(strong[1], full[1], rtol=0, atol=2e-5)
    torch.testing.assert_close(strong[0], plain[0], rtol=0, atol=2e-5)
    assert len(control.calls) == 3
    assert torch.equal(under(8.0), plain)
    assert len(control.calls) == 3
    shown = control.calls[0]
    assert (shown.x.shape, shown.tokens.shape) == (x.shape, text.tokens.shape)
    assert shown.time.tolist() == time.tolist()
    assert (shown.added, shown.windows, shown.scene) == (None, windows, SCENE)
    assert shown.sigma is sigma


def test_control_of_weight_0_changes_nothing(small: tuple[LdmUNet, UNetNetwork]) -> None:
    original, network = small
    x, text = noisy(8, 8), prompt(SHAPES["sd1"])
    nothing = Recorded([torch.zeros_like(each) for each in residuals(original, x)])
    given = x, torch.tensor([0.3, 7.0]), windows_of(8, 8), text, SCENE
    assert torch.equal(replace(network, control=nothing)(*given), network(*given))


def test_control_of_sdxl_is_shown_the_sizes() -> None:
    shape = SHAPES["sdxl"]
    network = loaded(tensors(original_of("sdxl")))
    control = Recorded([])
    text = prompt(shape)
    with pytest.raises(ValueError, match="unpack"):  # it adds nothing at all
        replace(network, control=control)(noisy(8, 8), torch.ones(2), windows_of(8, 8), text, SCENE)
    added = control.calls[0].added
    assert isinstance(added, dict)
    assert torch.equal(added["text_embeds"], text.pooled)
    assert added["time_ids"].tolist() == [[64, 64, 0, 0, 64, 64]] * 2


def test_v_and_eps_checkpoints_are_told_apart_by_one_bias() -> None:
    name = "output_blocks.11.1.transformer_blocks.0.norm1.bias"
    spreads = {v: float(sd2_unet(v=v)[name].std(unbiased=False)) for v in (True, False)}
    np.testing.assert_allclose([spreads[True], spreads[False]], [0.2, 0.02], rtol=1e-5)


def test_a_gpu_finds_its_fast_ways(
    small: tuple[LdmUNet, UNetNetwork], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What every convolution gives has its channels last, and every attention is torch's own, two
    in each block of a transformer: on a GPU those are the fast ones. The CPU plays the GPU here."""
    original, usual = small
    monkeypatch.setattr("tileup.tensors.filling.CHANNELS_LAST", ("cpu",))
    network = loaded(tensors(original))
    attend = functional.scaled_dot_product_attention
    attended: list[object] = []
    last: list[bool] = []

    def counted(*args: Tensor, **more: bool) -> Tensor:
        attended.append(args)
        return attend(*args, **more)

    def look(layer: nn.Module, args: object, output: Tensor) -> None:
        last.append(output.is_contiguous(memory_format=torch.channels_last))

    monkeypatch.setattr(functional, "scaled_dot_product_attention", counted)
    convolutions = [each for each in network.module.modules() if isinstance(each, nn.Conv2d)]
    for each in convolutions:
        each.register_forward_hook(look)
    given = noisy(8, 16), torch.tensor([0.3, 7.0]), windows_of(8, 16), prompt(SHAPES["sd1"]), SCENE
    found = network(*given)
    assert last == [True] * len(convolutions)
    blocks = [name for name, _ in network.module.named_modules() if name.endswith(".attn2")]
    assert len(attended) == 2 * len(blocks) > 8
    torch.testing.assert_close(found, usual(*given), rtol=1e-4, atol=1e-5)
