"""Embeddings (textual inversion): every way in which files hold them, and what is none."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from tileup.errors import ModelError
from tileup.text.embeddings import carried_embeddings, embedding_of, is_carried, open_embedding

VECTORS = torch.arange(2 * 768, dtype=torch.float32).view(2, 768) / 768
WIDE = torch.arange(2 * 1280, dtype=torch.float32).view(2, 1280) / 1280


def a1111(vectors: Tensor) -> dict[str, Any]:
    """As A1111 saves what it trained: a pickle of more than tensors."""
    return {
        "string_to_token": {"*": 265},
        "string_to_param": {"*": vectors},
        "name": "what it was once called",
        "step": 500,
        "sd_checkpoint": None,
        "sd_checkpoint_name": None,
    }


FILES: dict[str, tuple[str, Callable[[], dict[str, Any]], dict[str, Tensor]]] = {
    "kohya": ("safetensors", lambda: {"emb_params": VECTORS}, {"": VECTORS}),
    "half": ("safetensors", lambda: {"emb_params": VECTORS.half()}, {"": VECTORS.half().float()}),
    "diffusers": ("safetensors", lambda: {"<cat-toy>": VECTORS}, {"": VECTORS}),
    "one vector": ("bin", lambda: {"<cat-toy>": VECTORS[1]}, {"": VECTORS[1:]}),
    "a1111": ("pt", lambda: a1111(VECTORS), {"": VECTORS}),
    "a1111's parameter": ("pt", lambda: a1111(torch.nn.Parameter(VECTORS)), {"": VECTORS}),
    "the first textual inversions'": (
        "pt",
        lambda: {
            "string_to_token": {"*": torch.tensor(265)},
            "string_to_param": torch.nn.ParameterDict({"*": torch.nn.Parameter(VECTORS)}),
        },
        {"": VECTORS},
    ),
    "sdxl": (
        "safetensors",
        lambda: {"clip_g": WIDE, "clip_l": VECTORS},
        {"clip_g": WIDE, "clip_l": VECTORS},
    ),
    "sdxl of diffusers": (
        "safetensors",
        lambda: {"text_encoders_0": VECTORS, "text_encoders_1": WIDE},
        {"clip_g": WIDE, "clip_l": VECTORS},
    ),
}


@pytest.mark.parametrize(("extension", "content", "wanted"), FILES.values(), ids=list(FILES))
def test_every_kind_of_file_is_read(
    tmp_path: Path,
    extension: str,
    content: Callable[[], dict[str, Any]],
    wanted: dict[str, Tensor],
) -> None:
    path = tmp_path / f"my-cat.v2.{extension}"
    save_file(content(), path) if extension == "safetensors" else torch.save(content(), path)
    found = open_embedding(path)
    assert found.name == "my-cat.v2"
    assert found.vectors.keys() == wanted.keys()
    assert all(torch.equal(found.vectors[part], each) for part, each in wanted.items())
    assert not any(each.requires_grad for each in found.vectors.values())


def test_vectors_go_to_encoders_of_their_width_alone() -> None:
    both = embedding_of("x", {"clip_g": WIDE, "clip_l": VECTORS}, "x")
    assert both.of("clip_l", 768) is both.vectors["clip_l"]
    assert both.of("clip_g", 1280) is both.vectors["clip_g"]
    assert both.of("clip_l", 64) is None
    assert both.of("clip_h", 768) is None
    assert both.widths == "1280 and 768"
    untold = embedding_of("x", {"*": VECTORS}, "x")
    assert untold.of("clip_l", 768) is not None
    assert untold.of("clip_g", 1280) is None
    assert untold.of("clip_h", 1024) is None


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({}, "one tensor, or clip_l and clip_g, and this has 0"),
        ({"a": VECTORS, "b": VECTORS}, "and this has 2"),
        ({"a": VECTORS[None]}, r"its tensor is \(1, 2, 768\)"),
        ({"a": torch.zeros(0, 768)}, r"its tensor is \(0, 768\)"),
        ({"a": torch.tensor(1.0)}, r"its tensor is \(\)"),
        ({"clip_l": VECTORS.long()}, r"its tensor is \(2, 768\)"),
        ({"a": VECTORS.repeat(38, 1)}, "has 76 vectors; a text holds 75 at most"),
        ({"a": VECTORS.repeat(1, 1).fill_(math.nan)}, "values that are not finite"),
    ],
)
def test_what_is_no_embedding_is_refused(tensors: dict[str, Tensor], message: str) -> None:
    with pytest.raises(ModelError, match=f"^some.pt .*{message}"):
        embedding_of("some", tensors, "some.pt")


def test_a_pickle_that_runs_code_is_refused(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"string_to_param": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(ModelError, match=r"evil\.pt looks like a pickle"):
        open_embedding(tmp_path / "evil.pt")
    assert not (tmp_path / "ran").exists()


def test_embeddings_inside_a_lora_are_found() -> None:
    """The names are OneTrainer's, of the forms that A1111 reads."""
    tensors = {
        "lora_te1_text_model_encoder_layers_0_mlp_fc1.lora_down.weight": WIDE,
        "bundle_emb.cat.clip_l": VECTORS,
        "bundle_emb.cat.clip_g": WIDE,
        "bundle_emb.dog.string_to_param.*": VECTORS,
        "bundle_emb.bird.emb_params": VECTORS,
    }
    assert [is_carried(key) for key in tensors] == [False, True, True, True, True]
    found = {each.name: each.vectors for each in carried_embeddings(tensors, "a.safetensors")}
    assert found.keys() == {"cat", "dog", "bird"}
    assert found["cat"].keys() == {"clip_l", "clip_g"}
    assert torch.equal(found["cat"]["clip_g"], WIDE)
    assert torch.equal(found["dog"][""], VECTORS)
    assert torch.equal(found["bird"][""], VECTORS)
    assert carried_embeddings({"x": WIDE}, "a.safetensors") == ()
    with pytest.raises(ModelError, match=r"^a.safetensors: cat is no embedding"):
        carried_embeddings({"bundle_emb.cat.x": WIDE, "bundle_emb.cat.y": WIDE}, "a.safetensors")


def test_names_of_embeddings_inside_a_lora_may_have_dots() -> None:
    """Two that begin alike, one that a cut would leave without its second encoder."""
    tensors = {
        "bundle_emb.cat.v1.5.clip_l": VECTORS,
        "bundle_emb.cat.v1.5.clip_g": WIDE,
        "bundle_emb.cat.v2.string_to_param.*": VECTORS,
        "bundle_emb.cat.v2.1.string_to_param.a.b": VECTORS,
        "bundle_emb.cat.emb_params": VECTORS,
    }
    found = {each.name: each.vectors for each in carried_embeddings(tensors, "a.safetensors")}
    assert {name: set(vectors) for name, vectors in found.items()} == {
        "cat.v1.5": {"clip_l", "clip_g"},
        "cat.v2": {""},
        "cat.v2.1": {""},
        "cat": {""},
    }
    assert torch.equal(found["cat.v1.5"]["clip_l"], VECTORS)
    assert torch.equal(found["cat.v1.5"]["clip_g"], WIDE)
