"""LoRA's relatives merged into weights, against the libraries that train them and closed forms."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.checkpoints.layouts.unet import sd1_unet
from tests.families.building import built_unet
from tileup.checkpoints.lora import read_lora
from tileup.checkpoints.lora_merge import merge_loras
from tileup.errors import ModelError
from tileup.families.unet_layout import layer_rules
from tileup.tensors.renaming import Rule
from tileup.torchvision_shield import shield_torchvision

LAYERS: Mapping[str, Callable[[], nn.Module]] = {
    "matrix": lambda: nn.Linear(24, 16),
    "kernel": lambda: nn.Conv2d(12, 16, 3, padding=1),
    "pixel": lambda: nn.Conv2d(24, 16, 1),
}


def library(name: str) -> Any:  # noqa: ANN401
    """A library that trains such files; the test is left out where it is not installed."""
    shield_torchvision()
    return pytest.importorskip(name)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def seen_by(layer: nn.Module) -> Tensor:
    """Something that the layer takes."""
    return drawn(5, 24) if isinstance(layer, nn.Linear) else drawn(2, layer.weight.shape[1], 6, 7)


def one(name: str) -> nn.ModuleDict:
    torch.manual_seed(1)
    return nn.ModuleDict({"a": LAYERS[name]()}).requires_grad_(False)


def randomised(module: nn.Module) -> None:
    """Random numbers in place of the zeros that training begins with."""
    for number, (name, each) in enumerate(module.named_parameters()):
        if "dora_scale" in name:
            each.data *= 1 + 0.3 * drawn(*each.shape, seed=number)
        else:
            each.data = 0.5 * drawn(*each.shape, seed=number)


def assert_merged(
    holder: nn.ModuleDict, tensors: Mapping[str, Tensor], wanted: Tensor, weight: float = 1.0
) -> None:
    """The layer with the file in it gives what its library's does, and what it gave before not."""
    x = seen_by(holder["a"])
    before = holder["a"](x)
    merge_loras(holder, [(read_lora("x", tensors), weight)])
    torch.testing.assert_close(holder["a"](x), wanted, rtol=1e-4, atol=1e-4)
    assert (wanted - before).std() > 0.1 * before.std()


KINDS: Mapping[str, tuple[str, Mapping[str, object]]] = {
    "LoCon": ("LoConModule", {}),
    "LoCon in three": ("LoConModule", {"use_tucker": True}),
    "LoHa": ("LohaModule", {}),
    "LoHa in three": ("LohaModule", {"use_tucker": True}),
    "LoKr": ("LokrModule", {"factor": 4}),
    "LoKr in three": ("LokrModule", {"factor": 4, "lora_dim": 1, "use_tucker": True}),
    "LoKr of products": ("LokrModule", {"factor": 4, "decompose_both": True, "lora_dim": 1}),
    "LoKr whole": ("LokrModule", {"factor": 4, "full_matrix": True, "alpha": 7}),
    "rsLoRA": ("LoConModule", {"rs_lora": True}),
}


@pytest.mark.parametrize("decomposed", ["no", "by output", "by input"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layer", LAYERS)
def test_a_layer_does_what_lycoris_makes_of_it(layer: str, kind: str, decomposed: str) -> None:
    lycoris = library("lycoris.modules")
    class_name, options = KINDS[kind]
    holder = one(layer)
    options = {"lora_dim": 2, "alpha": 3.0} | options
    if decomposed != "no":
        options |= {"weight_decompose": True, "wd_on_out": decomposed == "by output"}
    made: Any = getattr(lycoris, class_name)("a", holder["a"], **options)
    randomised(made)
    made.eval()
    saved = {f"lycoris_a.{name}": each.clone() for name, each in made.state_dict().items()}
    saved = {name: each for name, each in saved.items() if not name.endswith("scalar")}
    wanted = forward_of(made, seen_by(holder["a"]))
    assert_merged(holder, saved, wanted)


@torch.no_grad()
def forward_of(made: Any, x: Tensor) -> Tensor:  # noqa: ANN401
    """What a layer of LyCORIS gives. Its merging multiplies LoHa and LoKr by their scale twice."""
    made.org_forward = made.org_module[0].forward
    return made(x)


@pytest.mark.parametrize("layer", LAYERS)
def test_full_differences_of_weight_and_bias(layer: str) -> None:
    lycoris = library("lycoris.modules")
    holder = one(layer)
    made: Any = lycoris.FullModule("a", holder["a"])
    randomised(made)
    tensors = {"lora_unet_a.diff": made.weight.detach(), "lora_unet_a.diff_b": made.bias.detach()}
    weight, bias = made.get_merged_weight()
    wanted = copy.deepcopy(holder["a"])
    wanted.weight.data, wanted.bias.data = weight, bias
    assert_merged(holder, tensors, wanted(seen_by(wanted)))
    half = one(layer)
    before = half["a"].bias.clone()
    merge_loras(half, [(read_lora("x", tensors), 0.5)])
    torch.testing.assert_close(half["a"].bias, (before + bias) / 2)


def test_a_bias_that_the_layer_lacks_is_made() -> None:
    layer = nn.ModuleDict({"a": nn.Linear(3, 4, bias=False)})
    merge_loras(layer, [(read_lora("x", {"lora_unet_a.diff_b": torch.arange(4.0)}), 2.0)])
    assert layer["a"].bias.tolist() == [0.0, 2.0, 4.0, 6.0]


@pytest.mark.parametrize("words", ["original", "diffusers"])
def test_norms_of_a_unet_are_changed_in_both_layouts(words: str) -> None:
    module = built_unet(sd1_unet()).module
    names = {
        "down_blocks.0.resnets.0.norm1": "input_blocks.1.0.in_layers.0",
        "up_blocks.1.resnets.0.norm2": "output_blocks.3.0.out_layers.0",
        "mid_block.attentions.0.norm": "middle_block.1.norm",
        "mid_block.attentions.0.transformer_blocks.0.norm3": (
            "middle_block.1.transformer_blocks.0.norm3"
        ),
        "conv_norm_out": "out.0",
    }
    tensors: dict[str, Tensor] = {}
    wanted: dict[str, Tensor] = {}
    for number, (ours, original) in enumerate(names.items()):
        layer = "lora_unet_" + (original if words == "original" else ours).replace(".", "_")
        norm = module.get_submodule(ours)
        for own, end in (("weight", "w_norm"), ("bias", "b_norm")):
            old: Tensor = getattr(norm, own)
            tensors[f"{layer}.{end}"] = drawn(*old.shape, seed=number)
            wanted[f"{ours}.{own}"] = old + tensors[f"{layer}.{end}"]
    before = {name: each.clone() for name, each in module.state_dict().items()}
    merge_loras(module, [(read_lora("x", tensors), 1.0)], rules=layer_rules)
    for name, each in module.state_dict().items():
        torch.testing.assert_close(each, wanted.get(name, before[name]))


PEFT: Mapping[str, tuple[str, Mapping[str, object]]] = {
    "LoRA": ("LoraConfig", {"r": 2, "lora_alpha": 3}),
    "DoRA": ("LoraConfig", {"r": 2, "lora_alpha": 3, "use_dora": True}),
    "LoRA with biases": ("LoraConfig", {"r": 2, "lora_alpha": 3, "lora_bias": True}),
    "LoHa": ("LoHaConfig", {"r": 2, "alpha": 3}),
    "LoHa in three": ("LoHaConfig", {"r": 2, "alpha": 3, "use_effective_conv2d": True}),
    "LoKr": ("LoKrConfig", {"r": 2, "alpha": 3}),
    "LoKr of products": ("LoKrConfig", {"r": 1, "alpha": 3, "decompose_both": True}),
}


@pytest.mark.parametrize("kind", PEFT)
@pytest.mark.parametrize("layer", LAYERS)
def test_a_layer_does_what_peft_makes_of_it(layer: str, kind: str) -> None:
    peft = library("peft")
    class_name, options = PEFT[kind]
    holder = one(layer)
    if kind == "LoRA with biases" and layer != "matrix":
        pytest.skip("PEFT has biases of matrices alone")
    config: Any = getattr(peft, class_name)(target_modules=["a"], **options)
    model: Any = peft.get_peft_model(copy.deepcopy(holder), config).eval()
    for number, (name, each) in enumerate(model.named_parameters()):
        if "magnitude" in name:
            each.data *= 1 + 0.3 * drawn(*each.shape, seed=number)
        elif each.requires_grad:
            each.data = 0.5 * drawn(*each.shape, seed=number)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PEFT takes its own biases for incomplete
        saved = peft.get_peft_model_state_dict(model)
    tensors = {name: each.detach().clone() for name, each in saved.items()}
    before = holder["a"](seen_by(holder["a"]))
    with torch.no_grad():
        wanted = model.base_model.model["a"](seen_by(holder["a"]))
    merge_loras(holder, [(read_lora("x", tensors, config=config.to_dict()), 1.0)])
    x = seen_by(holder["a"])
    torch.testing.assert_close(holder["a"](x), wanted, rtol=1e-4, atol=1e-4)
    assert (wanted - before).std() > 0.1 * before.std()


@pytest.mark.parametrize("by_input", [False, True])
def test_a_length_of_several_layers_in_one_is_that_of_all_their_rows(by_input: bool) -> None:
    """The first release has one matrix where diffusers has three; a norm by input sees all."""
    names = [f"transformer_blocks.0.attn.to_{each}" for each in "qkv"]
    torch.manual_seed(0)
    module = nn.Module()
    for name in names:
        module.register_module(name.replace(".", "_"), nn.Linear(6, 4, bias=False))
    joined = torch.cat([each.weight.detach() for each in module.children()])
    down, up = drawn(2, 6, seed=1), drawn(12, 2, seed=2)
    lengths = drawn(1, 6, seed=3) if by_input else drawn(12, 1, seed=3)
    tensors = {
        "lora_unet_joined.lora_down.weight": down,
        "lora_unet_joined.lora_up.weight": up,
        "lora_unet_joined.dora_scale": lengths,
    }
    rule = Rule("joined.weight", tuple(f"{name.replace('.', '_')}.weight" for name in names))
    merge_loras(module, [(read_lora("x", tensors), 0.5)], rules=lambda layers: [rule])
    changed = joined + up @ down
    norm = changed.square().sum(0 if by_input else 1, keepdim=True).sqrt()
    wanted = (joined + lengths * changed / norm) / 2
    found = torch.cat([each.weight.detach() for each in module.children()])
    torch.testing.assert_close(found, wanted)


def test_changes_follow_one_another() -> None:
    """A DoRA sees the weight with what came before in it; what follows is added to its own."""
    layer = nn.ModuleDict({"a": nn.Linear(5, 3, bias=False)})
    weight = layer["a"].weight.detach().clone()
    first, last = drawn(3, 5, seed=1), drawn(3, 5, seed=2)
    down, up, lengths = drawn(2, 5, seed=3), drawn(3, 2, seed=4), drawn(3, 1, seed=5)
    dora = {"a.lora_A.weight": down, "a.lora_B.weight": up, "a.lora_magnitude_vector": lengths}
    files = [{"a.diff": first}, dora, {"a.diff": last}]
    merge_loras(layer, [(read_lora("x", each), 1.0) for each in files])
    changed = weight + first + up @ down
    wanted = lengths * changed / changed.norm(dim=1, keepdim=True) + last
    torch.testing.assert_close(layer["a"].weight.detach(), wanted)


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ({"a.hada_w1_a": (4, 2), "a.hada_w1_b": (2, 4), "a.hada_w2_a": (4, 2)}, "no hada_w2_b"),
        ({"a.lokr_w1": (2, 2), "a.lokr_w2_a": (2, 1)}, "has no lokr_w2_b"),
        (
            {
                "a.hada_w1_a": (4, 2),
                "a.hada_w1_b": (2, 4),
                "a.hada_w2_a": (3, 2),
                "a.hada_w2_b": (2, 4),
            },
            "damaged",
        ),
        ({"a.lokr_w1": (2,), "a.lokr_w2_a": (2, 1), "a.lokr_w2_b": (2, 1)}, "damaged"),
        ({"a.dora_scale": (4, 1)}, "is incomplete: a has dora_scale and no change"),
        ({"a.diff": (4, 4), "a.dora_scale": (3, 1)}, "damaged"),
        ({"a.diff": (4, 5)}, r"has the shape \(4, 5\), not \(4, 4\)"),
        ({"a.diff_b": (5,)}, r"has the shape \(5,\), not \(4,\)"),
    ],
)
def test_damage_is_named(tensors: dict[str, tuple[int, ...]], words: str) -> None:
    layer = nn.ModuleDict({"a": nn.Linear(4, 4)})
    drawn_tensors = {name: drawn(*shape) for name, shape in tensors.items()}
    with pytest.raises(ModelError, match=words):
        merge_loras(layer, [(read_lora("x", drawn_tensors), 1.0)])
