"""Prompts from the command line to a picture: weights, LoRAs, embeddings, clip-skip."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tests.checkpoints.layouts.lora import changes, kohya_lora
from tests.checkpoints.whole import Shelf
from tests.cli.conftest import Command, Ran
from tests.cli.test_every_family import pixels

TWO_STEPS = ("--window", "64", "--overlap", "16", "--steps", "2", "-d", "cpu", "--denoise", "0.6")


@pytest.fixture(scope="module")
def folder_of_models(tmp_path_factory: pytest.TempPathFactory, shelf: Shelf) -> Path:
    """A folder of models: SD 1, two embeddings and a LoRA."""
    models = tmp_path_factory.mktemp("models")
    (models / "sd1.safetensors").hardlink_to(shelf.path("sd1", torch.float16))
    vectors = torch.randn(2, 768, generator=torch.Generator().manual_seed(3))
    torch.save({"string_to_param": {"*": vectors}, "name": "x"}, models / "my-cat.pt")
    save_file({"clip_l": vectors, "clip_g": torch.zeros(2, 1280)}, models / "both.safetensors")
    encoder = {f"text_model.encoder.layers.0.self_attn.{k}_proj": (768, 768) for k in "qkv"}
    save_file(kohya_lora(changes(encoder, seed=6), "lora_te_"), models / "style.safetensors")
    return models


@pytest.fixture
def models(folder_of_models: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same, where models are looked up."""
    monkeypatch.setenv("TILEUP_MODELS", str(folder_of_models))
    return folder_of_models


def drawn(tileup: Command, prompt: str, *flags: str) -> tuple[Ran, np.ndarray]:
    ran = tileup(
        "upscale", "in.png", "-o", "out.png", "--overwrite", "-m", "sd1", "-p", prompt,
        *TWO_STEPS, *flags,
    )  # fmt: skip
    assert ran.code == 0, ran.err
    return ran, pixels(Path("out.png"))


def test_embeddings_are_told_what_they_are(tileup: Command, models: Path) -> None:
    for name in ("my-cat.pt", "both.safetensors"):
        told = tileup("info", str(models / name))
        assert told.code == 0, told.err
        assert "textual inversion" in told.out
        assert "--embedding" in told.out


def test_a_prompt_as_people_write_it(tileup: Command, models: Path) -> None:
    written = r"(sharp:1.3) \(film\) BREAK embedding:my-cat, <lora:style:0.8> [dull]"
    ran, found = drawn(tileup, written, "--cfg", "3", "--negative", "(blurry:1.2)")
    assert "left out" not in ran.err
    _, plain = drawn(tileup, "sharp film", "--cfg", "3", "--negative", "blurry")
    assert np.abs(found - plain).max() > 2
    file = str(models / "style.safetensors:0.8")
    given, same = drawn(
        tileup, r"(sharp:1.3) \(film\) BREAK my-cat,  [dull]", "--cfg", "3", "--negative",
        "(blurry:1.2)", "--lora", file, "--embedding", str(models / "my-cat.pt"),
    )  # fmt: skip
    assert np.array_equal(found, same), given.err
    _, other = drawn(tileup, written, "--cfg", "3", "--emphasis", "comfyui")
    assert np.abs(found - other).max() > 0


def test_what_cannot_be_used_is_said(tileup: Command, models: Path) -> None:
    ran, _ = drawn(tileup, "a <lora:gone:1> embedding:lost [cat:dog:0.5]", "--clip-skip", "1")
    words = " ".join(ran.err.split())
    for told in ("<lora:gone:1> in a prompt is left out", "embedding:lost is left out"):
        assert told in words
    assert "[cat:dog:0.5] in a prompt would change on the way" in words
    said = tileup("info", "out.png", "--json")
    assert "Clip skip: 1" in json.loads(said.out)["metadata"]["parameters"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--embedding", "absent"), "'absent' is neither a file nor known by name"),
        (("--embedding", "style"), "style.safetensors is a LoRA, and not an embedding"),
        (("--clip-skip", "9"), "clip-skip 9 cannot be"),
    ],
)
def test_what_does_not_fit_is_refused(
    tileup: Command, models: Path, flags: tuple[str, ...], message: str
) -> None:
    ran = tileup("upscale", "in.png", "-o", "out.png", "-m", "sd1", *TWO_STEPS, *flags)
    assert ran.code != 0
    assert message in " ".join(ran.err.split())
    assert not Path("out.png").exists()
