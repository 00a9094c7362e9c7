"""CLIP from a file's tensors: names, sizes and heads, held against transformers and diffusers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.checkpoints.layouts.text import clip_l, open_clip
from tests.text import references
from tests.text.references import convert_open_clip_checkpoint
from tileup.errors import ModelError
from tileup.families.unet import SD1
from tileup.text.clip import Clip, load_clip, renamed
from tileup.text.encoder import load_text
from tileup.text.tokens import CHUNK, CLIP_END, clip_ids, clip_row

LAYERS = 2
ROWS = [
    clip_row(clip_ids(text)[:CHUNK], CLIP_END) for text in ("a photo of a cat", "", "dog " * 75)
]


def loaded(tensors: Mapping[str, Tensor], act: str = "quick_gelu", **options: Any) -> Clip:  # noqa: ANN401
    given = {"what": "CLIP-L", "dtype": torch.float32, "device": "cpu"} | options
    return load_clip(tensors, act=act, **given)


def without_prefix(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix("text_model."): each for name, each in tensors.items()}


def in_half(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rounded to half precision and stored so."""
    return {name: each.half() for name, each in tensors.items()}


@pytest.mark.parametrize("change", [dict, without_prefix, in_half])
@pytest.mark.parametrize("width", [64, 192])
def test_features_are_those_of_transformers(
    change: Callable[[Mapping[str, Tensor]], dict[str, Tensor]], width: int
) -> None:
    original = clip_l(width, LAYERS)
    changed = change(original)
    values = {name: each.float() for name, each in in_half(original).items()}
    reference = references.clip_l_model(values if change is in_half else original, LAYERS)
    with torch.no_grad():
        theirs = reference(torch.tensor(ROWS), output_hidden_states=True)
    clip = loaded(changed)
    ours = clip(ROWS)
    assert len(ours.hidden) == LAYERS + 1
    for mine, their in zip(ours.hidden, theirs.hidden_states, strict=True):
        assert mine.shape == (3, 77, width)
        assert (mine - their).abs().max() < 1e-5
    assert (clip.normed(ours.hidden[-1]) - theirs.last_hidden_state).abs().max() < 1e-5
    assert (ours.pooled - theirs.pooler_output).abs().max() < 1e-5
    assert torch.equal(clip.projected(ours.pooled), ours.pooled)


@pytest.mark.parametrize("projection", [None, 192, 32])
def test_open_clip_is_renamed_as_diffusers_does(projection: int | None) -> None:
    original = open_clip(128, LAYERS, projection=projection)
    model = references.open_clip_model(original, LAYERS)
    theirs = convert_open_clip_checkpoint(model, dict(original), prefix="")
    ours = renamed(original)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert len(ours) == 5 + LAYERS * 16
    with torch.no_grad():
        wanted = model(torch.tensor(ROWS)).text_embeds
    clip = loaded(original, "gelu")
    assert (clip.projected(clip(ROWS).pooled) - wanted).abs().max() < 1e-5


def test_the_activation_matters() -> None:
    original = clip_l(64, LAYERS)
    first, second = loaded(original)(ROWS).pooled, loaded(original, "gelu")(ROWS).pooled
    assert (first - second).abs().max() > 1e-3


def test_a_tensor_of_the_right_precision_is_not_copied() -> None:
    original = clip_l(64, LAYERS)
    parameters = dict(loaded(original).tensors())
    held = {each.data_ptr() for each in parameters.values()}
    assert held == {each.data_ptr() for name, each in original.items() if "ids" not in name}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"text_model.final_layer_norm.bias": None},
            r"lacks 1 of .*: text_model.final_layer_norm.bias",
        ),
        ({"text_model.encoder.layers.0.mlp.fc1.weight": None}, "lacks the tensor .*fc1.weight"),
        (
            {"text_model.embeddings.token_embedding.weight": None},
            "lacks the tensor .*token_embedding",
        ),
        (
            {"text_model.final_layer_norm.bias": torch.ones(3)},
            r"has shape \(3,\) where \(64,\) is needed",
        ),
        ({"text_model.embeddings.token_embedding.weight": torch.ones(49408, 96)}, "multiple of 64"),
        (
            {"text_model.encoder.layers.3.mlp.fc1.bias": torch.ones(256)},
            r"lacks 16 of .* and 13 more; and it has 1 ",
        ),
        (
            {"text_model.encoder.layers.9999999999.x": torch.ones(1)},
            "lacks 16 of .*; and it has 1 ",
        ),
        ({"text_model.embeddings.token_embedding.weight": torch.ones(9, 64)}, "9 tokens and 77"),
        ({"text_model.embeddings.position_embedding.weight": torch.ones(9, 64)}, "9 positions"),
        (
            {"text_projection.weight": torch.ones(8)},
            r"text_projection.weight has shape \(8,\), not 2 axes",
        ),
        ({"text_projection.weight": torch.ones(())}, r"has shape \(\), not 2 axes"),
    ],
)
def test_tensors_that_do_not_fit_are_named(change: dict[str, Tensor | None], message: str) -> None:
    original = clip_l(64, LAYERS)
    loaded(original)
    changed = {name: each for name, each in (original | change).items() if each is not None}
    with pytest.raises(ModelError, match=f"^CLIP-L.*{message}"):
        loaded(changed)


@pytest.mark.parametrize(
    "name",
    [
        "text_model.encoder.layers.1.extra",
        "text_model.encoder.layers.x.extra",
        "model.diffusion_model.x",
    ],
)
def test_tensors_that_belong_nowhere_are_named_and_left_out(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    original = clip_l(64, LAYERS)
    wanted = loaded(original)(ROWS).pooled
    assert caplog.messages == []
    assert torch.equal(loaded({**original, name: torch.ones(3)})(ROWS).pooled, wanted)
    assert len(caplog.messages) == 1
    assert name in caplog.text


@pytest.mark.parametrize("shape", [(), (0,), (1,), (64, 128), (385, 128)])
def test_a_matrix_that_is_not_three_is_named(shape: tuple[int, ...]) -> None:
    name = "transformer.resblocks.1.attn.in_proj_weight"
    with pytest.raises(ModelError, match=rf"CLIP-L.*({name}|layers\.1\.)"):
        loaded(open_clip(128, LAYERS) | {name: torch.ones(shape)})


@pytest.mark.parametrize("shape", [(), (3,), (2, 3, 4), (0, 0)])
def test_a_projection_that_is_no_matrix_is_named(shape: tuple[int, ...]) -> None:
    with pytest.raises(ModelError, match="text_projection"):
        loaded(open_clip(128, LAYERS) | {"text_projection": torch.ones(shape)})


def test_an_empty_file_is_no_clip() -> None:
    with pytest.raises(ModelError, match=r"^CLIP-L lacks the tensor .*of another kind"):
        loaded({})


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_values_that_are_not_finite_are_named(value: float) -> None:
    broken = clip_l(64, LAYERS)
    name = "text_model.encoder.layers.1.mlp.fc2.weight"
    broken[name][3, 5] = value
    with pytest.raises(ModelError, match=f"^{name} of CLIP-L has values that are not finite"):
        load_text(SD1.text, {"clip_l": lambda: broken}).encode("a cat")


@pytest.mark.parametrize(
    ("factor", "message"),
    [
        (3e4, "CLIP-L: numbers overflow in float16"),
        (1e6, "fc2.weight of CLIP-L has values that are too large"),
    ],
)
def test_overflow_says_what_to_try(factor: float, message: str) -> None:
    large = clip_l(64, LAYERS)
    large["text_model.encoder.layers.0.mlp.fc2.weight"] *= factor
    parts = {"clip_l": lambda: large}
    assert load_text(SD1.text, parts).encode("a cat")[0].tokens.isfinite().all()
    with pytest.raises(ModelError, match=f"{message}.*(try|use) --dtype .*float32"):
        load_text(SD1.text, parts, dtype=torch.float16).encode("a cat")
