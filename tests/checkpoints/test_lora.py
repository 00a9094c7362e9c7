"""LoRA files merged into weights, against the closed form and the libraries that train them."""

from __future__ import annotations

import importlib.util
import json
import math
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from tests.checkpoints.layouts.flux import flux_transformer
from tests.checkpoints.layouts.lora import (
    Changes,
    added,
    changes,
    dotted_lora,
    kohya_lora,
    layers_of,
    product,
)
from tests.checkpoints.layouts.unet import LdmUNet, Shape, sd1, sd1_unet, sdxl, sdxl_unet
from tests.families.building import built_unet, how, transformer_of
from tileup.checkpoints.changes import LowRank
from tileup.checkpoints.lora import Lora, open_lora, read_lora
from tileup.checkpoints.lora_merge import check_parts, merge_loras
from tileup.checkpoints.lora_names import normal, split_name, targets
from tileup.contracts import Box, Encoded, Scene
from tileup.errors import ModelError
from tileup.families.flux import build_flux
from tileup.families.flux import layer_rules as flux_rules
from tileup.families.sd3 import layer_rules as sd3_rules
from tileup.families.transformer import TransformerNetwork
from tileup.families.unet_layout import layer_rules as unet_rules
from tileup.families.unet_network import UNetNetwork
from tileup.tensors.packed import precision
from tileup.tensors.renaming import Rule
from tileup.torchvision_shield import shield_torchvision


def loaded(weights: Mapping[str, Tensor]) -> UNetNetwork:
    return built_unet(weights)


def rules_of(layers: Collection[str]) -> Callable[[Collection[str]], Iterable[Rule]]:
    """The rules of the network that has these layers."""
    if any(name.startswith("down_blocks.") for name in layers):
        return unet_rules
    return flux_rules if any(name.startswith("single_") for name in layers) else sd3_rules


def merge(
    module: nn.Module,
    loras: Sequence[tuple[Lora, float]],
    part: str = "network",
    dtype: torch.dtype = torch.bfloat16,
) -> None:
    """`merge_loras` with the rules of the module."""
    rules = rules_of([name for name, _ in module.named_modules()])
    merge_loras(module, loras, part, dtype=dtype, rules=rules)


def state(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def merged(
    module: nn.Module, *loras: tuple[Lora, float], part: str = "network"
) -> dict[str, Tensor]:
    """The weights with these changes; the module is put back."""
    before = state(module)
    merge(module, loras, part)
    after = state(module)
    module.load_state_dict(before)
    return after


def assert_same(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        if torch.equal(found[name], tensor):
            continue
        torch.testing.assert_close(
            found[name], tensor, rtol=1e-5, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}"
        )


def assert_all_layers_changed(
    found: Mapping[str, Tensor], before: Mapping[str, Tensor], made: Changes
) -> None:
    assert made
    for name in made:
        shift = (found[f"{name}.weight"] - before[f"{name}.weight"]).std()
        assert shift > 0.1 * before[f"{name}.weight"].std(), name


@pytest.fixture(scope="module")
def unet() -> nn.Module:
    """Of SD 1; nobody changes it for good."""
    return loaded(sd1_unet()).module


@pytest.fixture(scope="module")
def made(unet: nn.Module) -> Changes:
    return changes(layers_of(unet))


def test_the_change_is_alpha_by_rank_times_the_product() -> None:
    layer = nn.Sequential(nn.Linear(3, 2, bias=False))
    layer[0].weight.data = torch.zeros(2, 3)
    tensors = {
        "lora_unet_0.lora_down.weight": torch.tensor([[1.0, 2.0, 3.0], [0.0, 1.0, 0.0]]),
        "lora_unet_0.lora_up.weight": torch.tensor([[1.0, 0.0], [10.0, 100.0]]),
        "lora_unet_0.alpha": torch.tensor(4.0),
    }
    merge(layer, [(read_lora("x", tensors), 0.5)])
    # weight 0.5 * alpha 4 / rank 2 = 1
    assert layer[0].weight.tolist() == [[1.0, 2.0, 3.0], [10.0, 120.0, 30.0]]


@pytest.mark.parametrize(
    ("down", "up", "middle"),
    [
        ((2, 3), (4, 2), None),
        ((2, 3, 5, 7), (4, 2, 1, 1), None),
        ((2, 3, 1, 1), (4, 2, 1, 1), (2, 2, 5, 7)),
    ],
)
def test_the_shape_of_a_change_is_known_before_it_is_computed(
    down: tuple[int, ...], up: tuple[int, ...], middle: tuple[int, ...] | None
) -> None:
    first, second = torch.ones(down), torch.ones(up)
    change = LowRank(first, second, None if middle is None else torch.ones(middle), 1.0)
    assert (
        change.shape == change.product(torch.device("cpu")).shape == (4, 3, *(middle or down)[2:])
    )
    for odd in (torch.ones(3, *down[1:]), torch.ones(2)):
        with pytest.raises((RuntimeError, IndexError)):
            _ = replace(change, down=odd).shape


@pytest.mark.parametrize(("family", "shape"), [("sd1", sd1()), ("sdxl", sdxl())])
def test_names_of_the_first_release_reach_every_layer(family: str, shape: Shape) -> None:
    """The change added to a file's tensors before they are read is the one merged afterwards."""
    weights = sd1_unet() if family == "sd1" else sdxl_unet()
    with torch.device("meta"):
        made = changes_on_cpu(LdmUNet(shape))
    wanted = state(loaded(added(weights, made)).module)
    module = loaded(weights).module
    before = state(module)
    assert len(made) == len(layers_of(module))
    for tensors in (
        kohya_lora(made),
        dotted_lora(made, "diffusion_model."),
        dotted_lora(made, "model.diffusion_model.", "lora_down.weight", "lora_up.weight"),
    ):
        found = merged(module, (read_lora("x", tensors), 1.0))
        assert_same(found, wanted)
    diffusers_names = [
        name
        for name in layers_of(module)
        if not torch.equal(before[f"{name}.weight"], wanted[f"{name}.weight"])
    ]
    assert len(diffusers_names) == len(made)


def changes_on_cpu(module: nn.Module) -> Changes:
    layers = layers_of(module)
    with torch.device("cpu"):
        return changes(layers)


def test_every_trainers_layout_gives_the_same_network(unet: nn.Module, made: Changes) -> None:
    before = state(unet)
    wanted = added(before, made)
    layouts = [
        kohya_lora(made),
        kohya_lora(made, "lycoris_"),
        dotted_lora(made),
        dotted_lora(made, "base_model.model.unet."),
        dotted_lora(made, "unet.", "lora_A.default.weight", "lora_B.default.weight"),
        dotted_lora(made, "", "lora.down.weight", "lora.up.weight"),
        dotted_lora(made, "unet.", "lora_linear_layer.down.weight", "lora_linear_layer.up.weight"),
    ]
    for tensors in layouts:
        found = merged(unet, (read_lora("x", tensors), 1.0))
        assert_same(found, wanted)
    assert_all_layers_changed(wanted, before, made)


def test_the_processors_of_old_diffusers_are_known(unet: nn.Module) -> None:
    attention = {
        name: shape
        for name, shape in layers_of(unet).items()
        if name.endswith(("to_q", "to_k", "to_v", "to_out.0"))
    }
    made = changes(attention)
    tensors = dotted_lora(made, "unet.", "lora.down.weight", "lora.up.weight")
    old = {
        name.replace(".attn1.", ".attn1.processor.")
        .replace(".attn2.", ".attn2.processor.")
        .replace("to_out.0.lora", "to_out_lora")
        .replace(".lora.", "_lora."): tensor
        for name, tensor in tensors.items()
    }
    assert all("_lora." in name and ".processor." in name for name in old)
    assert_same(merged(unet, (read_lora("x", old), 1.0)), added(state(unet), made))


def test_weight_0_changes_nothing_and_weights_add_up(unet: nn.Module, made: Changes) -> None:
    before = state(unet)
    lora = read_lora("x", kohya_lora(made))
    still = merged(unet, (lora, 0.0))
    assert all(torch.equal(still[name], tensor) for name, tensor in before.items())
    assert_same(merged(unet, (lora, 0.4), (lora, 0.4)), merged(unet, (lora, 0.8)))
    assert_same(merged(unet, (lora, 0.4)), added(before, made, 0.4))
    assert_same(merged(unet, (lora, 0.7), (lora, -0.7)), before)
    other = changes(layers_of(unet), rank=3, seed=8)
    both = merged(unet, (lora, 0.5), (read_lora("y", kohya_lora(other)), -1.5))
    assert_same(both, added(added(before, made, 0.5), other, -1.5))


def test_the_picture_changes(unet: nn.Module) -> None:
    network = loaded(sd1_unet())
    x, sigma = (
        torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(2)),
        torch.tensor([2.0]),
    )
    text = Encoded(torch.randn(1, 7, 768, generator=torch.Generator().manual_seed(3)))
    scene = Scene(torch.zeros(1, 4, 8, 8), torch.zeros(1, 3, 64, 64), (64, 64))
    before = network(x, sigma, [Box(0, 0, 8, 8)], text, scene)
    keys = {name: shape for name, shape in layers_of(network.module).items() if "attn" in name}
    lora = read_lora("x", kohya_lora(changes(keys)))
    merge(network.module, [(lora, 0.0)])
    assert torch.equal(network(x, sigma, [Box(0, 0, 8, 8)], text, scene), before)
    merge(network.module, [(lora, 1.0)])
    after = network(x, sigma, [Box(0, 0, 8, 8)], text, scene)
    assert (after - before).std() > 0.05 * before.std()


@pytest.mark.parametrize("kernel", [1, 3])
def test_a_convolution_in_the_middle_is_the_chain_of_three(kernel: int) -> None:
    generator = torch.Generator().manual_seed(1)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    conv = nn.Sequential(nn.Conv2d(5, 4, kernel, padding=kernel // 2, bias=False)).requires_grad_(
        False
    )
    down, middle, up = drawn(2, 5, 1, 1), drawn(3, 2, kernel, kernel), drawn(4, 3, 1, 1)
    x = drawn(1, 5, 7, 6)
    before = conv(x)
    tensors = {
        "lora_unet_0.lora_down.weight": down,
        "lora_unet_0.lora_mid.weight": middle,
        "lora_unet_0.lora_up.weight": up,
        "lora_unet_0.alpha": torch.tensor(6.0),
    }
    merge(conv, [(read_lora("x", tensors), 1.0)])
    chain = functional.conv2d(
        functional.conv2d(functional.conv2d(x, down), middle, padding=kernel // 2), up
    )
    torch.testing.assert_close(conv(x), before + 2 * chain, rtol=1e-5, atol=1e-5)
    assert chain.std() > 1


def test_a_matrix_fits_a_convolution_of_one_pixel_and_the_other_way_round() -> None:
    down, up = torch.randn(2, 5), torch.randn(4, 2)
    flat = {"a.lora_A.weight": down, "a.lora_B.weight": up}
    wide = {name: tensor[..., None, None] for name, tensor in flat.items()}
    for layer in (nn.Linear(5, 4), nn.Conv2d(5, 4, 1)):
        before = layer.weight.detach().clone()
        holder = nn.ModuleDict({"a": layer})
        for tensors in (flat, wide):
            found = merged(holder, (read_lora("x", tensors), 1.0))["a.weight"]
            assert found.shape == before.shape
            torch.testing.assert_close((found - before).flatten(1), up @ down, rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float8_e4m3fn])
def test_files_of_low_precision_are_computed_in_float32(
    unet: nn.Module, made: Changes, dtype: torch.dtype
) -> None:
    tensors = {name: tensor.to(dtype) for name, tensor in kohya_lora(made).items()}
    rounded = {name: (down.to(dtype), up.to(dtype)) for name, (down, up) in made.items()}
    assert_same(merged(unet, (read_lora("x", tensors), 1.0)), added(state(unet), rounded))


def test_weights_of_low_precision_are_rounded_once() -> None:
    made = changes({"a": (64, 64)})
    layer = nn.ModuleDict({"a": nn.Linear(64, 64).half()})
    weights = {name: tensor.float() for name, tensor in state(layer).items()}
    lora = read_lora("x", kohya_lora(made))
    found = merged(layer, *[(lora, 0.01)] * 10)["a.weight"]
    assert found.dtype == torch.float16
    wanted = added(weights, made, 0.1)["a.weight"].half()
    assert (found == wanted).float().mean() > 0.99
    step = weights["a.weight"].half()
    for _ in range(10):
        step = added({"a.weight": step.float()}, made, 0.01)["a.weight"].half()
    assert (step == wanted).float().mean() < 0.8, "ten roundings are not one"


def test_weights_of_8_bits_become_wider_where_they_change() -> None:
    made = changes({"a": (64, 64)})
    layers = nn.ModuleDict({name: nn.Linear(64, 64).requires_grad_(False) for name in "ab"})
    for each in layers.values():
        each.weight.data = each.weight.data.to(torch.float8_e4m3fn)
    before = layers["a"].weight.float()
    merge(layers, [(read_lora("x", kohya_lora(made)), 0.01)])
    assert layers["b"].weight.dtype == torch.float8_e4m3fn
    found = layers["a"].weight
    assert found.dtype == torch.bfloat16
    wanted = added({"a.weight": before}, made, 0.01)["a.weight"]
    torch.testing.assert_close(found.float(), wanted, rtol=2**-8, atol=1e-6)
    assert (wanted.to(torch.float8_e4m3fn).float() == before).float().mean() > 0.3, "lost in 8 bits"


def test_a_flux_network_of_8_bits_keeps_its_change_from_evaluation_to_evaluation() -> None:
    """Layers that were changed are of another precision; the others stay as they were."""
    weights = {name: tensor.to(torch.float8_e4m3fn) for name, tensor in flux_transformer().items()}
    made = changes(
        {"double_blocks.0.img_attn.qkv": (768, 256), "single_blocks.0.linear2": (256, 1280)}
    )
    plain = {name: tensor.float() for name, tensor in weights.items()}

    def network(tensors: dict[str, Tensor]) -> TransformerNetwork:
        return transformer_of(build_flux(tensors, how()))

    eight, changed, wanted = network(weights), network(weights), network(added(plain, made, 0.1))
    lora = read_lora("x", kohya_lora(made))
    merge(changed.module, [(lora, 0.1)], dtype=torch.float32)
    text = Encoded(torch.ones(1, 5, 32), torch.ones(1, 24))
    scene = Scene(torch.zeros(1, 16, 8, 8), torch.zeros(1, 3, 64, 64), (64, 64))
    x = torch.randn(1, 16, 8, 8, generator=torch.Generator().manual_seed(4))

    def evaluated(network: TransformerNetwork) -> Tensor:
        return network(x, torch.tensor([1.0]), [Box(0, 0, 8, 8)], text, scene)

    exact = evaluated(wanted)
    for _ in range(3):
        torch.testing.assert_close(evaluated(changed), exact, rtol=0, atol=1e-4)
    assert (evaluated(eight) - exact).abs().max() > 1e-2
    dtypes = {name: precision(each) for name, each in changed.module.named_parameters()}
    assert dtypes["transformer_blocks.0.attn.to_q.weight"] == torch.float32
    assert dtypes["transformer_blocks.0.attn.add_q_proj.weight"] == torch.float8_e4m3fn


def clip(width: int = 32, *, projection: bool = False) -> nn.Module:
    shield_torchvision()
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    config = CLIPTextConfig(
        vocab_size=50,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=2,
        projection_dim=width,
    )
    torch.manual_seed(0)
    return (CLIPTextModelWithProjection if projection else CLIPTextModel)(config)


def t5() -> nn.Module:
    shield_torchvision()
    from transformers import T5Config, T5EncoderModel

    torch.manual_seed(0)
    return T5EncoderModel(
        T5Config(vocab_size=50, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2)
    )


@pytest.mark.parametrize(
    ("part", "kohya", "dotted"),
    [
        ("clip_l", "lora_te_", "text_encoder."),
        ("clip_l", "lora_te1_", "text_encoders.clip_l.transformer."),
        ("clip_h", "lora_te_", "text_encoder."),
        ("clip_g", "lora_te2_", "text_encoder_2."),
        ("t5", "lora_te3_", "text_encoder_3."),
        ("t5", "lora_te2_", "text_encoder_2."),
    ],
)
def test_text_encoders_are_changed_in_every_layout(part: str, kohya: str, dotted: str) -> None:
    module = t5() if part == "t5" else clip(projection=part != "clip_l")
    own = layers_of(module)
    made = changes(own)
    before = state(module)
    assert len(made) > 10
    # Files name the layers of CLIP under text_model, whatever version of transformers is installed.
    known = {
        name
        if part == "t5" or name == "text_projection"
        else f"text_model.{name.removeprefix('text_model.')}": change
        for name, change in made.items()
    }
    wanted = added(before, made)
    for tensors in (kohya_lora(known, kohya), dotted_lora(known, dotted)):
        lora = read_lora("x", tensors)
        check_parts(lora, (part,))
        assert_same(merged(module, (lora, 1.0), part=part), wanted)
        still = merged(module, (lora, 1.0), part="network")
        assert all(torch.equal(still[name], tensor) for name, tensor in before.items())


def test_old_names_of_an_encoders_attention_are_known() -> None:
    assert normal("text_model.encoder.layers.0.self_attn.to_q_lora") == normal(
        "text_model.encoder.layers.0.self_attn.q_proj"
    )
    assert normal("encoder.layers.0.self_attn.to_out_lora") == "encoder_layers_0_self_attn_out_proj"
    assert split_name("lora_te1_text_model_encoder_layers_11_mlp_fc1") == (
        "clip_l",
        "encoder_layers_11_mlp_fc1",
    )


def flux() -> nn.Module:
    """FLUX with one block of each kind, at full width, without memory."""
    shield_torchvision()
    from diffusers import FluxTransformer2DModel

    with torch.device("meta"):
        return FluxTransformer2DModel(num_layers=1, num_single_layers=1, guidance_embeds=True)


FLUX_LAYERS = {
    "double_blocks.0.img_attn.qkv": (9216, 3072),
    "double_blocks.0.img_attn.proj": (3072, 3072),
    "double_blocks.0.img_mlp.0": (12288, 3072),
    "double_blocks.0.img_mlp.2": (3072, 12288),
    "double_blocks.0.img_mod.lin": (18432, 3072),
    "double_blocks.0.txt_attn.qkv": (9216, 3072),
    "double_blocks.0.txt_attn.proj": (3072, 3072),
    "double_blocks.0.txt_mlp.0": (12288, 3072),
    "double_blocks.0.txt_mlp.2": (3072, 12288),
    "double_blocks.0.txt_mod.lin": (18432, 3072),
    "single_blocks.0.linear1": (21504, 3072),
    "single_blocks.0.linear2": (3072, 15360),
    "single_blocks.0.modulation.lin": (9216, 3072),
    "img_in": (3072, 64),
    "txt_in": (3072, 4096),
    "time_in.in_layer": (3072, 256),
    "time_in.out_layer": (3072, 3072),
    "vector_in.in_layer": (3072, 768),
    "vector_in.out_layer": (3072, 3072),
    "guidance_in.in_layer": (3072, 256),
    "guidance_in.out_layer": (3072, 3072),
    "final_layer.linear": (64, 3072),
    "final_layer.adaLN_modulation.1": (6144, 3072),
}
"""Of the first release, with one block of each kind."""


@pytest.mark.parametrize("layout", ["kohya", "dotted", "xlabs"])
def test_flux_is_changed_as_by_diffusers_conversion(layout: str) -> None:
    """A few columns of each change: what diffusers makes of the file, against what we add."""
    shield_torchvision()
    from diffusers.loaders import lora_conversion_utils as conversion

    module = flux()
    layers = layers_of(module)
    made = changes(FLUX_LAYERS)
    # diffusers loses alpha of the last layer (its source says so), hence 2, which is the rank.
    if layout == "kohya":
        tensors = kohya_lora(made, alpha=2)
        wanted = conversion._convert_kohya_flux_lora_to_diffusers(dict(tensors))
    elif layout == "dotted":
        tensors = dotted_lora(made, "diffusion_model.", alpha=2)
        kohya = kohya_lora(made, alpha=2)
        wanted = conversion._convert_kohya_flux_lora_to_diffusers(kohya)
    else:
        names = {
            "double_blocks.0.processor.qkv_lora1": (9216, 3072),
            "double_blocks.0.processor.proj_lora1": (3072, 3072),
            "double_blocks.0.processor.qkv_lora2": (9216, 3072),
            "double_blocks.0.processor.proj_lora2": (3072, 3072),
            "single_blocks.0.processor.qkv_lora": (9216, 3072),
            "single_blocks.0.processor.proj_lora": (3072, 15360),
        }
        tensors = dotted_lora(changes(names), "", "down.weight", "up.weight", alpha=2)
        wanted = conversion._convert_xlabs_flux_lora_to_diffusers(dict(tensors))
    lora = read_lora("x", tensors)
    merge(module, [(lora, 1.0)])  # on the meta device: every name and shape fits
    known, seen = targets(layers, rules_of(layers)), set[str]()
    for name, change in lora.parts["network"].items():
        target = known[name]
        heights = [layers[each][0] for each in target.modules]
        assert change.weight is not None
        product = change.weight.delta(torch.empty(change.weight.shape))
        start = 0
        for each, height in zip(target.modules, heights, strict=True):
            rows = torch.arange(start, start + height)
            if target.swapped:
                rows = (rows + height // 2) % height
            found = product[rows, :5]
            key = each if f"{each}.lora_A.weight" in wanted else f"transformer.{each}"
            up, down = wanted[f"{key}.lora_B.weight"], wanted[f"{key}.lora_A.weight"]
            torch.testing.assert_close(found, up @ down[:, :5], rtol=1e-5, atol=1e-6)
            start += height
            seen.add(key)
    assert {key.rpartition(".lora_")[0] for key in wanted} == seen
    assert lora.family == ("Chroma, FLUX or FLUX.2" if layout == "xlabs" else "FLUX")
    if layout != "xlabs":
        assert {each.removeprefix("transformer.") for each in seen} == layers.keys()


def test_flux_in_diffusers_own_names_needs_no_translation() -> None:
    module = build_flux(flux_transformer(), how()).module
    before = state(module)
    made = changes({name: each for name, each in layers_of(module).items() if ".attn." in name})
    wanted = added(before, made)
    assert_all_layers_changed(wanted, before, made)
    for tensors in (
        dotted_lora(made, "transformer."),
        kohya_lora(made, "lora_transformer_"),
        dotted_lora(made, "base_model.model.transformer."),
    ):
        assert_same(merged(module, (read_lora("x", tensors), 1.0)), wanted)


def sd3_layers(depth: int, width: int) -> dict[str, tuple[int, ...]]:
    layers: dict[str, tuple[int, ...]] = {
        "x_embedder.proj": (width, 16, 2, 2),
        "context_embedder": (width, 32),
        "t_embedder.mlp.0": (width, 256),
        "t_embedder.mlp.2": (width, width),
        "y_embedder.mlp.0": (width, 24),
        "y_embedder.mlp.2": (width, width),
        "final_layer.linear": (64, width),
        "final_layer.adaLN_modulation.1": (2 * width, width),
    }
    for index in range(depth):
        for side in ("x_block", "context_block"):
            last = index + 1 == depth and side == "context_block"
            block = f"joint_blocks.{index}.{side}"
            parts = 2 if last else 9 if index == 0 and side == "x_block" else 6
            layers[f"{block}.attn.qkv"] = (3 * width, width)
            layers[f"{block}.adaLN_modulation.1"] = (parts * width, width)
            if not last:
                layers[f"{block}.attn.proj"] = (width, width)
                layers[f"{block}.mlp.fc1"] = (4 * width, width)
                layers[f"{block}.mlp.fc2"] = (width, 4 * width)
    layers["joint_blocks.0.x_block.attn2.qkv"] = (3 * width, width)
    layers["joint_blocks.0.x_block.attn2.proj"] = (width, width)
    return layers


def test_sd3_is_changed_as_its_tensors_are_converted() -> None:
    """Change and conversion commute: diffusers converts the file with the change in it."""
    shield_torchvision()
    from diffusers import SD3Transformer2DModel
    from diffusers.loaders.single_file_utils import convert_sd3_transformer_checkpoint_to_diffusers

    depth, width = 3, 128
    layers = sd3_layers(depth, width)
    generator = torch.Generator().manual_seed(0)
    weights = {"pos_embed": torch.zeros(1, 144, width)}
    for name, shape in layers.items():
        weights[f"{name}.weight"] = torch.randn(shape, generator=generator)
        weights[f"{name}.bias"] = torch.zeros(shape[0])
    made = changes(layers)
    module = SD3Transformer2DModel(
        sample_size=32,
        num_layers=depth,
        attention_head_dim=64,
        num_attention_heads=2,
        joint_attention_dim=32,
        caption_projection_dim=width,
        pooled_projection_dim=24,
        out_channels=16,
        pos_embed_max_size=12,
        dual_attention_layers=(0,),
    )

    def convert(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        return convert_sd3_transformer_checkpoint_to_diffusers(dict(tensors))

    module.load_state_dict(convert(weights))
    before, wanted = state(module), convert(added(weights, made))
    for tensors in (kohya_lora(made), dotted_lora(made, "diffusion_model.")):
        lora = read_lora("x", tensors)
        assert lora.family == "SD 3"
        assert_same(merged(module, (lora, 1.0)), wanted)
    assert all(
        not torch.equal(wanted[f"{name}.weight"], before[f"{name}.weight"])
        for name in layers_of(module)
    )


@pytest.mark.parametrize("kind", ["unet", "flux"])
def test_no_two_layers_share_a_name(kind: str, unet: nn.Module) -> None:
    layers = layers_of(flux() if kind == "flux" else unet)
    assert len({normal(layer) for layer in layers}) == len(layers)
    known = targets(layers, rules_of(layers))
    reached = {target.modules for target in known.values() if len(target.modules) == 1}
    assert reached == {(layer,) for layer in layers}
    assert len(known) > 1.5 * len(layers)


@pytest.mark.parametrize(("alpha", "rslora"), [(8, False), (3, True)])
def test_alpha_in_the_metadata_of_diffusers_counts(alpha: int, rslora: bool) -> None:
    made = changes({"mid.to_q": (6, 5), "mid.to_k": (6, 5)})
    module = nn.ModuleDict(
        {"mid": nn.ModuleDict({name: nn.Linear(5, 6) for name in ("to_q", "to_k")})}
    )
    content = {
        "unet.r": 2,
        "unet.lora_alpha": alpha,
        "unet.use_rslora": rslora,
        "unet.alpha_pattern": {"to_k": 5},
    }
    lora = read_lora(
        "x", dotted_lora(made, alpha=2), {"lora_adapter_metadata": json.dumps(content)}
    )
    root = math.sqrt(2) if rslora else 2
    before = state(module)
    found = merged(module, (lora, 1.0))
    for name, own in (("to_q", alpha), ("to_k", 5)):
        layer = f"mid.{name}.weight"
        wanted = own / root * product(*made[f"mid.{name}"])
        torch.testing.assert_close(found[layer] - before[layer], wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("metadata", ["{", "3", "[]", '{"unet.lora_alpha": null}', ""])
def test_odd_metadata_stops_nothing_but_is_not_silent_when_broken(metadata: str) -> None:
    tensors = dotted_lora(changes({"a": (4, 4)}))
    given = {"lora_adapter_metadata": metadata}
    if metadata == "{":
        with pytest.raises(ModelError, match="not JSON"):
            read_lora("x", tensors, given)
    else:
        assert scale_of(read_lora("x", tensors, given), "a") == 1.0


def scale_of(lora: Lora, layer: str) -> float:
    """alpha / rank of one layer of the network."""
    change = lora.parts["network"][layer].weight
    assert isinstance(change, LowRank)
    return change.scale


@pytest.mark.parametrize(
    ("extra", "kind"),
    [
        ("lora_unet_a.oft_blocks", "OFT"),
        ("lora_unet_a.on_input", "(IA)^3"),
        ("lora_unet_a.a1.weight", "GLoRA"),
        ("lora_controlnet", "ControlNet LoRA"),
        ("double_blocks.0.img_attn.norm.query_norm.scale", "ControlNet LoRA"),
    ],
)
def test_other_kinds_are_refused_by_name(extra: str, kind: str) -> None:
    tensors = kohya_lora(changes({"a": (4, 4)}))
    with pytest.raises(ModelError) as caught:
        read_lora("style.safetensors", tensors | {extra: torch.zeros(1)})
    assert kind in str(caught.value)
    assert "style.safetensors" in str(caught.value)
    assert extra in str(caught.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"lora_unet_a.lora_up.weight": None}, "has no up weight"),
        ({"lora_unet_a.lora_down.weight": None}, "has no down weight"),
        ({"lora_unet_a.lora_up.weight": torch.zeros(4, 3)}, r"'down': \(2, 4\), 'up': \(4, 3\)"),
        ({"lora_unet_a.lora_up.weight": torch.zeros(4)}, "damaged"),
        ({"lora_unet_a.lora_up.weight": torch.zeros(4, 2, 3, 3)}, "damaged"),
        ({"lora_unet_a.lora_mid.weight": torch.zeros(2, 2)}, "damaged"),
        ({"lora_unet_a.lora_up.weight": torch.full((4, 2), math.nan)}, "not finite"),
        ({"lora_unet_a.alpha": torch.tensor(math.inf)}, "not finite"),
        (
            {"unet.a.lora_A.weight": torch.zeros(2, 4), "unet.a.lora_B.weight": torch.zeros(4, 2)},
            "are the same",
        ),
    ],
)
def test_damage_is_named(change: dict[str, Tensor | None], words: str) -> None:
    tensors = kohya_lora(changes({"a": (4, 4)})) | change
    with pytest.raises(ModelError, match=words):
        read_lora("x", {name: each for name, each in tensors.items() if each is not None})


@pytest.mark.parametrize("weights", [{}, {"model.diffusion_model.out.2.weight": torch.zeros(4)}])
def test_what_is_no_lora_is_refused(weights: dict[str, Tensor]) -> None:
    with pytest.raises(ModelError, match="is not a LoRA"):
        read_lora("x", weights)
    with pytest.raises(ModelError, match="is not a LoRA"):
        read_lora("x", sd1_unet())


def test_a_lora_of_another_family_is_refused_and_changes_nothing(
    unet: nn.Module, made: Changes
) -> None:
    before = state(unet)
    fitting = read_lora("fits", kohya_lora(made))
    with torch.device("meta"):
        other = changes_on_cpu(LdmUNet(sdxl()))
    strange = [
        (other, "SDXL", "find no layer, such as lora_unet_"),
        (changes(FLUX_LAYERS), "FLUX", "22 of its 22|23 of its 23"),
        (changes(sd3_layers(2, 64)), "SD 3", "find no layer"),
        (
            changes({"transformer_blocks.0.attn.to_q": (64, 64)}),
            "SD 3, Chroma, FLUX, Qwen-Image or FLUX.2",
            "1 of its 1 ",
        ),
    ]
    for each, family, words in strange:
        with pytest.raises(ModelError, match=words) as caught:
            merge(unet, [(fitting, 1.0), (read_lora("strange", kohya_lora(each)), 0.0)])
        assert f"strange does not fit this model (it was made for {family})" in str(caught.value)
    attention = {
        name: (outputs, 1024 if "attn2.to_k" in name else inputs)
        for name, (outputs, inputs, *kernel) in layers_of(unet).items()
        if "attn2" in name
    }
    with pytest.raises(ModelError, match=r"made for SD 2.x\): its change to .* has the shape"):
        merge(unet, [(fitting, 1.0), (read_lora("x", kohya_lora(changes(attention))), 1.0)])
    after = state(unet)
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


def test_a_change_of_an_encoder_that_the_model_lacks_is_left_out_by_name(
    caplog: pytest.LogCaptureFixture,
) -> None:
    own = kohya_lora(changes({"a": (4, 4)}))
    other = kohya_lora(changes({"text_model.encoder.layers.0.mlp.fc1": (4, 4)}), "lora_te2_")
    lora = read_lora("x", own | other)
    check_parts(lora, ("network", "clip_l", "clip_g"))
    assert caplog.messages == []
    check_parts(lora, ("network", "clip_l"))
    words = r"second text encoder, which this model does not have \(lora_te2_text_model"
    (message,) = caplog.messages
    assert re.search(words, message)
    with pytest.raises(ModelError, match=words):
        check_parts(read_lora("x", other), ("network", "clip_l"))


def test_changes_without_a_layer_are_left_out_by_name_where_as_many_fit(
    caplog: pytest.LogCaptureFixture,
) -> None:
    module = nn.ModuleDict({name: nn.Linear(4, 4) for name in "ab"})
    made = changes(dict.fromkeys("abcd", (4, 4)))
    before = state(module)
    found = merged(module, (read_lora("mine", kohya_lora(made)), 1.0))
    assert_same(found, added(before, {name: made[name] for name in "ab"}))
    assert caplog.messages == [
        "mine: 2 of its 4 changes to the network find no layer, and are left out: lora_unet_c,"
        " lora_unet_d"
    ]
    more = changes(dict.fromkeys("abcde", (4, 4)))
    with pytest.raises(ModelError, match="3 of its 5 changes to the network find no layer"):
        merge(module, [(read_lora("mine", kohya_lora(more)), 1.0)])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"lora_unet_d.lora_up.weight": None}, "lora_unet_d has no up weight"),
        (
            {"lora_unet_d.lora_up.weight": torch.zeros(4, 3)},
            "lora_unet_d has weights of the shapes",
        ),
        ({"lora_unet_e.alpha": torch.tensor(1.0)}, "lora_unet_e has alpha and no change"),
    ],
)
def test_a_layer_whose_tensors_make_no_change_is_named_and_left_out(
    change: dict[str, Tensor | None], words: str, caplog: pytest.LogCaptureFixture
) -> None:
    module = nn.ModuleDict({name: nn.Linear(4, 4) for name in "abcd"})
    made = changes(dict.fromkeys("abcd", (4, 4)))
    tensors = {k: e for k, e in (kohya_lora(made) | change).items() if e is not None}
    good = {name: made[name] for name in ("abcd" if "lora_unet_e.alpha" in change else "abc")}
    wanted = added(state(module), good)
    assert_all_layers_changed(wanted, state(module), good)
    assert_same(merged(module, (read_lora("mine", tensors), 1.0)), wanted)
    (message,) = caplog.messages
    assert f"mine: left out are layers whose tensors make no change: {words}" in message


def test_a_file_of_which_most_layers_make_no_change_is_refused() -> None:
    tensors = kohya_lora(changes(dict.fromkeys("abc", (4, 4))))
    del tensors["lora_unet_a.lora_up.weight"]
    assert read_lora("x", tensors).parts["network"].keys() == {"b", "c"}
    del tensors["lora_unet_b.lora_up.weight"]
    with pytest.raises(ModelError, match="x is incomplete: lora_unet_a has no up weight"):
        read_lora("x", tensors)


def test_a_change_of_another_shape_is_named_and_left_out(caplog: pytest.LogCaptureFixture) -> None:
    """Unless all layers of a kind have another: what fits then, fits by chance."""
    module = nn.ModuleDict(
        {f"{name}{n}": nn.Linear(4, 4) for name in ("to_q", "to_k") for n in range(3)}
    )
    shapes: dict[str, tuple[int, ...]] = dict.fromkeys(module, (4, 4))
    made = changes(shapes | {"to_q1": (6, 4)})
    before = state(module)
    found = merged(module, (read_lora("mine", kohya_lora(made)), 1.0))
    assert_same(found, added(before, {name: made[name] for name in shapes if name != "to_q1"}))
    assert caplog.messages == [
        "mine: 1 of its 6 changes to the network do not fit, and are left out: its change to"
        " lora_unet_to_q1 has the shape (6, 4), not (4, 4)"
    ]
    every = changes(shapes | {f"to_q{n}": (6, 4) for n in range(3)})
    for lora in (every, changes({"to_q1": (6, 4)})):
        with pytest.raises(ModelError, match=r"does not fit this model: its change to .* has the"):
            merge(module, [(read_lora("mine", kohya_lora(lora)), 1.0)])
    assert_same(state(module), before)


def test_what_is_no_part_of_a_lora_is_named_and_left_out(
    caplog: pytest.LogCaptureFixture,
) -> None:
    tensors = kohya_lora(changes({"a": (4, 4)}))
    plain = read_lora("x", tensors)
    assert caplog.messages == []
    more = read_lora("x", tensors | {"something.else": torch.zeros(4, 768)})
    assert more.parts.keys() == plain.parts.keys()
    assert more.parts["network"].keys() == plain.parts["network"].keys()
    (message,) = caplog.messages
    assert "left out: something.else" in message


def test_embeddings_that_onetrainer_puts_into_a_lora_are_taken(
    caplog: pytest.LogCaptureFixture,
) -> None:
    tensors = kohya_lora(changes({"a": (4, 4)}))
    vectors = torch.arange(4.0 * 768).view(4, 768)
    lora = read_lora("x", tensors | {"bundle_emb.mine.string_to_param.*": vectors})
    assert caplog.messages == []
    assert lora.parts["network"].keys() == read_lora("x", tensors).parts["network"].keys()
    (mine,) = lora.embeddings
    assert mine.name == "mine"
    assert torch.equal(mine.vectors[""], vectors)
    assert read_lora("x", tensors).embeddings == ()


@pytest.mark.parametrize(("alpha", "rslora"), [(8, False), (3, True)])
def test_alpha_in_pefts_configuration_beside_the_file_counts(
    tmp_path: Path, alpha: int, rslora: bool
) -> None:
    """By PEFT's formulas: alpha / r, with rslora alpha / sqrt(r), the first pattern that fits."""
    layers = {f"down.0.attn.{name}": (6, 5) for name in ("to_q", "to_k", "to_v")}
    made = changes(layers)
    pattern = {"attn.to_k": 5, "to_k": 7, "down.0.attn.to_v": 6}
    content = {"r": 2, "lora_alpha": alpha, "use_rslora": rslora, "alpha_pattern": pattern}
    tensors = dotted_lora(made, "base_model.model.", alpha=2)
    for file in ("adapter_model.safetensors", "other.safetensors"):
        save_file({name: each.contiguous() for name, each in tensors.items()}, tmp_path / file)
    (tmp_path / "adapter_config.json").write_text(json.dumps(content))
    root = math.sqrt(2) if rslora else 2
    scales = {"to_q": alpha / root, "to_k": 5 / root, "to_v": 6 / root}
    peft = open_lora(str(tmp_path / "adapter_model.safetensors"))
    (tmp_path / "alone").mkdir()
    (tmp_path / "adapter_model.safetensors").rename(tmp_path / "alone/adapter_model.safetensors")
    (tmp_path / "alone/adapter_config.json").write_text(json.dumps(content))
    for lora in (peft, open_lora(str(tmp_path / "alone"))):
        found = {name: scale_of(lora, name) for name in lora.parts["network"]}
        wanted = {f"down_0_attn_{name}": scale for name, scale in scales.items()}
        assert found == pytest.approx(wanted)
    other = open_lora(str(tmp_path / "other.safetensors"))
    assert {scale_of(other, name) for name in other.parts["network"]} == {1.0}


@pytest.mark.skipif(importlib.util.find_spec("peft") is None, reason="needs peft")
@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_diffusers_loads_the_same_network_with_peft(family: str) -> None:
    """diffusers' own load_lora_weights, then fused; kohya's names and its own."""
    module: Any = loaded(sd1_unet() if family == "sd1" else sdxl_unet()).module
    before = state(module)
    # kohya's trainer takes diffusers' names for SD 1 and those of the first release for SDXL. Left
    # out are the ends of the network, whose names diffusers' conversion does not know.
    with torch.device("meta"):
        layers = layers_of(LdmUNet(sdxl())) if family == "sdxl" else layers_of(module)
    made = changes({name: each for name, each in layers.items() if name.count(".") > 2})
    own = {name: each for name, each in layers_of(module).items() if "attn" in name}
    dotted = changes(own, rank=3)
    for tensors in (kohya_lora(made), dotted_lora(dotted, alpha=3)):
        wanted = fused(module, dict(tensors), family)
        module.load_state_dict(before)
        found = merged(module, (read_lora("x", tensors), 0.6))
        assert_same(found, wanted)
        assert sum(not torch.equal(wanted[name], before[name]) for name in before) > 20


def fused(module: Any, tensors: dict[str, Tensor], family: str) -> dict[str, Tensor]:  # noqa: ANN401
    """The weights after diffusers has loaded and fused a LoRA at 0.6; the module is unloaded."""
    from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline

    kind: Any = StableDiffusionXLPipeline if family == "sdxl" else StableDiffusionPipeline
    converted, alphas = kind.lora_state_dict(tensors, unet_config=module.config)[:2]
    kind.load_lora_into_unet(converted, network_alphas=alphas, unet=module)
    module.fuse_lora(lora_scale=0.6)
    result = {
        name.replace(".base_layer.", "."): tensor.clone()
        for name, tensor in module.state_dict().items()
        if ".lora_" not in name
    }
    module.unload_lora()
    return result
