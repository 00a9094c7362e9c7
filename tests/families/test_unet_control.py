"""ControlNets from files, against a separate implementation and diffusers' own pipelines."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.checkpoints.layouts.control import (
    PREFIX,
    LdmControlNet,
    LdmUnion,
    hint_for,
    sd1_controlnet,
    sd2_controlnet,
    sdxl_controlnet,
    sdxl_union,
    the_controlnet,
)
from tests.checkpoints.layouts.unet import (
    Shape,
    sd1,
    sd1_unet,
    sd2,
    sdxl,
    sdxl_unet,
    tensors,
    waves,
)
from tests.families.building import built_unet, how
from tileup.contracts import Box, Encoded, Scene
from tileup.errors import ModelError
from tileup.families.family import ControlFile
from tileup.families.unet_control import (
    ControlNet,
    UNetInputs,
    load_control,
    require_same_family,
)
from tileup.families.unet_network import UNetNetwork
from tileup.plan.itinerary import control_until
from tileup.plan.noise_levels import training_levels
from tileup.tensors.packed import precision
from tileup.torchvision_shield import shield_torchvision

LEVELS = training_levels()
SHAPES = {"sd1": sd1(), "sd2": sd2(), "sdxl": sdxl()}
POOLED = 1280


def loaded(
    weights: Mapping[str, Tensor], scale: float = 1.0, dtype: torch.dtype = torch.float32
) -> ControlNet:
    return load_control(ControlFile("tile.safetensors", weights, scale), how(dtype=dtype))


def with_control(control: ControlNet | None, weights: Mapping[str, Tensor]) -> UNetNetwork:
    return replace(built_unet(weights, levels=LEVELS), control=control)


def scene_of(hint: Tensor, until: float = 0.0) -> Scene:
    height, width = hint.shape[2] // 8, hint.shape[3] // 8
    source = torch.zeros(1, 4, height, width)
    return Scene(source, hint, (hint.shape[2], hint.shape[3]), control_until=until)


def drawn(*shape: int, seed: int = 3) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def sizes(shape: Shape, rows: int) -> dict[str, Tensor] | None:
    if not shape.adm:
        return None
    return {"text_embeds": drawn(rows, POOLED), "time_ids": drawn(rows, 6, seed=4).abs() * 500}


def label(added: Mapping[str, Tensor] | None) -> Tensor | None:
    if added is None:
        return None
    numbers = waves(added["time_ids"].flatten(), 256).reshape(len(added["time_ids"]), -1)
    return torch.cat([added["text_embeds"], numbers], 1)


def same(found: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5 * float(wanted.abs().max()))


@pytest.fixture(scope="module")
def control() -> ControlNet:
    """Of SD 1; nobody changes it."""
    return loaded(sd1_controlnet())


@pytest.fixture(scope="module")
def unet() -> dict[str, Tensor]:
    return sd1_unet()


@pytest.mark.parametrize("family", SHAPES)
@pytest.mark.parametrize("sides", [(8, 16), (9, 13), (4, 6)])
def test_a_file_gives_the_network_that_it_was_written_from(
    family: str, sides: tuple[int, int]
) -> None:
    """On a single cell it would be ill-conditioned: groups of two values are normalised."""
    shape = SHAPES[family]
    original = the_controlnet(shape)
    x, time, tokens = drawn(2, 4, *sides), torch.tensor([20.5, 700.0]), drawn(2, 7, shape.context)
    added, hint = sizes(shape, 2), hint_for(*sides)
    windows, sigma = [Box(0, 0, *sides)] * 2, torch.tensor([0.1, 3.0])
    residuals, middle = loaded(tensors(original), 0.7)(
        UNetInputs(x, time, tokens, added, windows, scene_of(hint), sigma)
    )
    wanted = original(x, time, tokens, hint.expand(2, -1, -1, -1), label(added))
    assert len(residuals) == len(original.input_blocks)
    for found, one in zip([*residuals, middle], wanted, strict=True):
        assert one.std() > 0.1
        same(found, 0.7 * one)


@pytest.fixture(scope="module")
def union() -> tuple[LdmUnion, dict[str, Tensor]]:
    """A union ControlNet of SDXL, and its file."""
    return sdxl_union()


def test_a_union_controlnet_is_shown_the_picture_as_a_tile(
    union: tuple[LdmUnion, dict[str, Tensor]],
) -> None:
    """Each row by itself, whatever it is batched with."""
    original, weights = union
    sides = (8, 16)
    x, time, tokens = drawn(2, 4, *sides), torch.tensor([20.5, 700.0]), drawn(2, 7, 2048)
    added, hint = sizes(sdxl(), 2), hint_for(*sides)
    assert added is not None
    control = loaded(weights, 0.7)
    assert control.kinds == 8
    shown = UNetInputs(
        x, time, tokens, added, [Box(0, 0, *sides)] * 2, scene_of(hint), torch.tensor([0.1, 3.0])
    )
    residuals, middle = control(shown)
    for row in range(2):
        one = slice(row, row + 1)
        own = {name: each[one] for name, each in added.items()}
        wanted = original(x[one], time[one], tokens[one], hint, label(own))
        for found, each in zip([*residuals, middle], wanted, strict=True):
            assert each.std() > 0.1
            same(found[one], 0.7 * each)


def test_a_union_controlnet_without_tile_is_refused(
    union: tuple[LdmUnion, dict[str, Tensor]],
) -> None:
    first = dict(union[1])
    first["task_embedding"] = first["task_embedding"][:6]
    inputs = first["control_add_embedding.linear_1.weight"]
    first["control_add_embedding.linear_1.weight"] = inputs[:, : 6 * 256]
    with pytest.raises(ModelError, match="of 6 kinds, without tile: give the later version"):
        loaded(first)


def test_a_union_controlnet_acts_as_in_diffusers_pipeline(
    union: tuple[LdmUnion, dict[str, Tensor]],
) -> None:
    """What its own network of diffusers says of one row, called as the pipeline does."""
    control, hint = loaded(union[1]), hint_for(8, 8)
    x, added = drawn(1, 4, 8, 8), sizes(sdxl(), 1)
    shown = UNetInputs(
        x,
        torch.tensor([300.0]),
        drawn(1, 7, 2048),
        added,
        [Box(0, 0, 8, 8)],
        scene_of(hint),
        torch.ones(1),
    )
    residuals, middle = control(shown)
    kind = torch.zeros(8).scatter_(0, torch.tensor([6]), 1).reshape(1, -1)
    control.module.transformer_layes = nn.ModuleList(
        [each.inner for each in control.module.transformer_layes]
    )
    with torch.no_grad():
        theirs, centre = control.module(
            x,
            shown.time,
            encoder_hidden_states=shown.tokens,
            controlnet_cond=[hint],
            control_type=kind,
            control_type_idx=[6],
            conditioning_scale=1.0,
            added_cond_kwargs=added,
            return_dict=False,
        )
    for found, wanted in zip([*residuals, middle], [*theirs, centre], strict=True):
        same(found, wanted)


PUBLISHED = {
    "sd1": (sd1(320), 361_279_120),
    "sdxl": (sdxl(320, (0, 2, 10)), 1_251_014_160),
}
"""Parameters of the published ControlNets."""


@pytest.mark.parametrize("family", PUBLISHED)
def test_the_layouts_have_the_published_number_of_parameters(family: str) -> None:
    shape, parameters = PUBLISHED[family]
    with torch.device("meta"):
        original = LdmControlNet(shape)
    assert sum(each.numel() for each in original.parameters()) == parameters


@pytest.mark.parametrize("family", SHAPES)
def test_every_layout_gives_the_same_network(family: str) -> None:
    bare = tensors(the_controlnet(SHAPES[family]))
    first = loaded(bare).module.state_dict()
    prefixed = {PREFIX + name: tensor for name, tensor in bare.items()}
    whole = prefixed | {"model.diffusion_model.out.2.weight": torch.zeros(4, 32, 3, 3)}
    for layout in (prefixed, whole, first):
        found = loaded(layout).module.state_dict()
        assert found.keys() == first.keys()
        assert all(torch.equal(found[name], tensor) for name, tensor in first.items())


def test_the_smallest_ones_of_sdxl_have_no_attention() -> None:
    shield_torchvision()
    from diffusers import ControlNetModel

    torch.manual_seed(0)
    module = ControlNetModel(
        block_out_channels=(32, 64, 128),
        down_block_types=("DownBlock2D",) * 3,
        mid_block_type="UNetMidBlock2D",
        attention_head_dim=(1, 1, 2),
        use_linear_projection=True,
        cross_attention_dim=2048,
        addition_embed_type="text_time",
        addition_time_embed_dim=256,
        projection_class_embeddings_input_dim=2816,
    )
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.05)
    x, time, hint = drawn(1, 4, 8, 8), torch.tensor([20.5]), hint_for(8, 8)
    added = sizes(sdxl(), 1)
    tokens = drawn(1, 7, 2048)
    with torch.no_grad():
        wanted, last = module(
            x, time, tokens, hint, 1.0, None, None, None, added, return_dict=False
        )
    found = loaded(module.state_dict())
    sides, middle = found(
        UNetInputs(x, time, tokens, added, [Box(0, 0, 8, 8)], scene_of(hint), torch.tensor([1.0]))
    )
    for one, other in zip([*sides, middle], [*wanted, last], strict=True):
        assert other.std() > 1e-3
        same(one, other)
    require_same_family(found, with_control(None, sdxl_unet()).module, "small.safetensors")


def blank_pipeline(family: str, network: UNetNetwork, control: ControlNet) -> Any:  # noqa: ANN401
    """diffusers' own, around the same two networks, for latents and encoded prompts."""
    shield_torchvision()
    from diffusers import (
        AutoencoderKL,
        EulerDiscreteScheduler,
        StableDiffusionControlNetImg2ImgPipeline,
        StableDiffusionXLControlNetImg2ImgPipeline,
    )

    scheduler = EulerDiscreteScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        timestep_spacing="trailing",
    )
    parts: dict[str, Any] = {
        "vae": AutoencoderKL(
            block_out_channels=(32,) * 4,
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
        ),
        "text_encoder": None,
        "tokenizer": None,
        "unet": network.module,
        "controlnet": control.module,
        "scheduler": scheduler,
        "feature_extractor": None,
    }
    if family == "sdxl":
        return StableDiffusionXLControlNetImg2ImgPipeline(
            **parts, text_encoder_2=None, tokenizer_2=None, add_watermarker=False
        )
    return StableDiffusionControlNetImg2ImgPipeline(
        **parts, safety_checker=None, requires_safety_checker=False
    )


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
@pytest.mark.parametrize("end", [0.5, 1.0])
def test_one_window_is_what_diffusers_pipeline_draws(family: str, end: float) -> None:
    weights, shape, cells = (sd1_unet() if family == "sd1" else sdxl_unet()), SHAPES[family], 16
    control = loaded(tensors(the_controlnet(shape)), 0.3)
    network = with_control(None, weights)
    source, hint, tokens = (
        drawn(1, 4, cells, cells),
        hint_for(cells, cells),
        drawn(1, 7, shape.context),
    )
    pooled = drawn(1, POOLED, seed=5) if shape.adm else None
    pipeline = blank_pipeline(family, network, control)
    pipeline.set_progress_bar_config(disable=True)
    wanted = pipeline(
        image=source,
        control_image=hint,
        prompt_embeds=tokens,
        **({} if pooled is None else {"pooled_prompt_embeds": pooled}),
        strength=0.5,
        num_inference_steps=8,
        guidance_scale=1.0,
        controlnet_conditioning_scale=control.scale,
        control_guidance_end=end,
        generator=torch.Generator().manual_seed(7),
        output_type="latent",
        return_dict=False,
    )[0]
    sigmas = [float(each) for each in pipeline.scheduler.sigmas[4:]]
    assert len(sigmas) == 5
    noise = torch.randn(1, 4, cells, cells, generator=torch.Generator().manual_seed(7))
    scene = scene_of(hint, control_until(sigmas, end))

    def euler(network: UNetNetwork) -> Tensor:
        x = source + sigmas[0] * noise
        for sigma, after in itertools.pairwise(sigmas):
            seen, level = x / math.sqrt(sigma**2 + 1), torch.tensor([sigma])
            eps = network(seen, level, [Box(0, 0, cells, cells)], Encoded(tokens, pooled), scene)
            x = x + (after - sigma) * eps
        return x

    found = euler(replace(network, control=control))
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-4 * float(wanted.abs().max()))
    without = euler(network)
    assert (found - without).abs().max() > 0.05 * wanted.abs().max(), "the ControlNet counts"


def test_each_window_sees_its_own_part_of_the_picture(
    control: ControlNet, unet: dict[str, Tensor]
) -> None:
    network = with_control(control, unet)
    windows = [Box(0, 0, 8, 8), Box(0, 8, 8, 16), Box(3, 5, 11, 13)]
    x, sigma, text = drawn(3, 4, 8, 8), torch.tensor([0.5, 2.0, 7.0]), Encoded(drawn(1, 7, 768))
    whole = hint_for(12, 16)
    found = network(x, sigma, windows, text, scene_of(whole))
    for row, box in enumerate(windows):
        crop = whole[..., 8 * box.top : 8 * box.bottom, 8 * box.left : 8 * box.right]
        one = network(
            x[row : row + 1], sigma[row : row + 1], [Box(0, 0, 8, 8)], text, scene_of(crop)
        )
        same(found[row : row + 1], one)
    changed = whole.clone()
    changed[..., 8 * 11 :, :] = 0  # no window reaches there
    changed[..., :24, 64 + 40 :] = 0.9  # only the second one does
    other = network(x, sigma, windows, text, scene_of(changed))
    assert torch.equal(other[0], found[0])
    assert torch.equal(other[2], found[2])
    assert (other[1] - found[1]).abs().max() > 1e-3 * found.abs().max()


def test_at_scale_0_nothing_changes(unet: dict[str, Tensor]) -> None:
    x, sigma, text = drawn(1, 4, 8, 8), torch.tensor([2.0]), Encoded(drawn(1, 7, 768))
    windows, scene = [Box(0, 0, 8, 8)], scene_of(hint_for(8, 8))
    base = with_control(None, unet)(x, sigma, windows, text, scene)
    off, half, full = (
        with_control(loaded(sd1_controlnet(), scale), unet)(x, sigma, windows, text, scene)
        for scale in (0.0, 0.5, 1.0)
    )
    assert torch.equal(off, base)
    assert (full - base).abs().max() > 2 * (half - base).abs().max() * 0.3 > 0.01


class Forbidden(nn.Module):
    def forward(self, *args: object, **named: object) -> None:
        raise AssertionError("it should not be evaluated")


def test_below_its_level_it_is_not_evaluated(control: ControlNet, unet: dict[str, Tensor]) -> None:
    x, sigma, text = drawn(2, 4, 8, 8), torch.tensor([0.5, 2.0]), Encoded(drawn(1, 7, 768))
    windows, hint = [Box(0, 0, 8, 8)] * 2, hint_for(8, 8)
    base = with_control(None, unet)(x, sigma, windows, text, scene_of(hint))
    idle = with_control(replace(control, module=Forbidden()), unet)
    for until in (2.001, math.inf):
        assert torch.equal(idle(x, sigma, windows, text, scene_of(hint, until)), base)
    with pytest.raises(AssertionError, match="not be evaluated"):
        idle(x, sigma, windows, text, scene_of(hint, 2.0))


def test_of_a_batch_only_the_rows_above_the_level_are_touched(
    control: ControlNet, unet: dict[str, Tensor]
) -> None:
    seen: list[int] = []
    control.module.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    network = with_control(control, unet)
    x, sigma = drawn(3, 4, 8, 8), torch.tensor([0.5, 2.0, 0.7])
    text, windows, hint = Encoded(drawn(3, 7, 768)), [Box(0, 0, 8, 8)] * 3, hint_for(8, 8)
    base = with_control(None, unet)(x, sigma, windows, text, scene_of(hint))
    full = network(x, sigma, windows, text, scene_of(hint))
    part = network(x, sigma, windows, text, scene_of(hint, 1.0))
    assert seen == [3, 1]
    same(part[1], full[1])
    assert torch.equal(part[[0, 2]], base[[0, 2]])
    assert ((full - base).abs().amax((1, 2, 3)) > 1e-2).all()
    with pytest.raises(ValueError, match="no row"):
        control(UNetInputs(x, sigma, text.tokens, None, windows, scene_of(hint, 9.0), sigma))


def test_half_precision_is_near_and_what_needs_no_cast_is_not_copied() -> None:
    weights = {name: tensor.half() for name, tensor in sd1_controlnet().items()}
    half, single = loaded(weights, dtype=torch.float16), loaded(weights)
    own = {tensor.data_ptr() for tensor in weights.values()}
    assert {tensor.data_ptr() for tensor in half.module.state_dict().values()} == own
    bfloat = loaded(weights, dtype=torch.bfloat16)
    x, time, tokens = drawn(1, 4, 8, 8), torch.tensor([300.0]), drawn(1, 7, 768)
    rest = (tokens, None, [Box(0, 0, 8, 8)], scene_of(hint_for(8, 8)), torch.tensor([1.0]))
    exact = single(UNetInputs(x, time, *rest))[1]
    rounded = bfloat(UNetInputs(x.bfloat16(), time, *rest))[1]
    assert rounded.dtype == torch.bfloat16
    assert 1e-4 < (rounded.float() - exact).std() / exact.std() < 0.05


WEIGHTS = {"sd1": sd1_controlnet, "sd2": sd2_controlnet, "sdxl": sdxl_controlnet}


@pytest.mark.parametrize(
    ("theirs", "words"),
    [("sd2", "for SD 2.x and the model is SD 1.x"), ("sdxl", "for SDXL and the model is SD 1.x")],
)
def test_one_of_another_family_is_refused(theirs: str, words: str, unet: dict[str, Tensor]) -> None:
    module = with_control(None, unet).module
    with pytest.raises(ModelError, match=words):
        require_same_family(loaded(WEIGHTS[theirs]()), module, "tile.safetensors")
    require_same_family(loaded(sd1_controlnet()), module, "tile.safetensors")
    with pytest.raises(ModelError, match=r"its levels have \(64, "):
        require_same_family(loaded(sd1_controlnet(64)), module, "tile.safetensors")


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ("lora_controlnet", "is a Control-LoRA"),
        ("difference", "difference to a base model"),
        ("lllite_unet_input_blocks_4_1.down.0.weight", "is a ControlLLLite"),
        ("controlnet_blocks.0.weight", "of FLUX or SD 3"),
        ("image_proj.proj.weight", "is an IP-Adapter"),
        ("lora_unet_mid_block.lora_up.weight", "is a LoRA"),
        ("control_model.input_blocks.0.0.absmax", r"no place for: input_blocks\.0\.0\.absmax"),
    ],
)
def test_other_kinds_are_refused_by_name(extra: str, words: str) -> None:
    weights = {PREFIX + name: tensor for name, tensor in sd1_controlnet().items()}
    with pytest.raises(ModelError, match=words) as caught:
        loaded(weights | {extra: torch.zeros(1)})
    assert "tile.safetensors" in str(caught.value)


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ({"adapter.body.0.resnets.0.block1.weight": torch.zeros(1)}, "is a T2I-Adapter"),
        ({"body.0.block1.weight": torch.zeros(1)}, "is a T2I-Adapter"),
        ({}, "is not a ControlNet"),
        ({"conv.weight": torch.zeros(1)}, "first named 'conv.weight', none reads a hint"),
        ({"input_hint_block.0.weight": torch.zeros(16, 3, 3, 3)}, "lacks"),
    ],
)
def test_files_without_one_are_refused(weights: dict[str, Tensor], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        loaded(weights)
    if not weights:
        with pytest.raises(ModelError, match=words):
            loaded(sd1_unet())


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("zero_convs.3.0.bias", None, r"lacks 1 .*: controlnet_down_blocks\.3\.bias"),
        ("input_blocks.4.1.proj_in.weight", None, "lacks"),
        (
            "middle_block_out.0.weight",
            torch.zeros(3, 3),
            r"middle_block_out.0.weight has shape \(3, 3\)",
        ),
        ("input_blocks.0.0.weight", torch.zeros(32, 9, 3, 3), "9 input channels"),
        ("input_hint_block.0.weight", torch.zeros(16, 6, 3, 3), "a hint with 6"),
        (
            "zero_convs.3.0.bias",
            torch.full((32,), math.nan),
            r"zero_convs\.3\.0\.bias of tile\.safetensors has values that are not finite",
        ),
    ],
)
def test_damage_is_named(name: str, value: Tensor | None, words: str) -> None:
    weights = sd1_controlnet()
    del weights[name]
    with pytest.raises(ModelError, match=words):
        loaded(weights | ({} if value is None else {name: value}))


def test_weights_of_8_bits_stay_so() -> None:
    weights = {
        name: tensor.to(torch.float8_e4m3fn) if tensor.ndim > 1 else tensor
        for name, tensor in sd1_controlnet().items()
    }
    plain = {name: tensor.float() for name, tensor in weights.items()}
    eight, single = loaded(weights), loaded(plain)
    assert {precision(each) for each in eight.module.parameters()} == {
        torch.float8_e4m3fn,
        torch.float32,
    }
    x, time, tokens = drawn(1, 4, 8, 8), torch.tensor([300.0]), drawn(1, 7, 768)
    rest = (tokens, None, [Box(0, 0, 8, 8)], scene_of(hint_for(8, 8)), torch.tensor([1.0]))
    shown = UNetInputs(x, time, *rest)
    same(eight(shown)[1], single(shown)[1])


def test_the_hint_is_never_resized() -> None:
    """A hint of constant colour and one of another size would hide it: the sides must agree."""
    control = loaded(sd1_controlnet())
    x, time, tokens = drawn(1, 4, 8, 8), torch.tensor([300.0]), drawn(1, 7, 768)
    small = Scene(torch.zeros(1, 4, 8, 8), hint_for(4, 4), (32, 32))
    with pytest.raises(RuntimeError, match="size of tensor"):
        control(UNetInputs(x, time, tokens, None, [Box(0, 0, 8, 8)], small, torch.tensor([1.0])))


def test_hints_are_of_every_size() -> None:
    hint = hint_for(5, 7)
    assert hint.shape == (1, 3, 40, 56)
    assert 0 <= hint.min() < hint.max() <= 1
    assert np.ptp(hint[0, 0, :8, :8].numpy()) > 0.1
