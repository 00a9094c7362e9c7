"""The command line with checkpoints that people own, of which small random ones stand in."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from tests.checkpoints.layouts.compact import compact_state_dict
from tests.checkpoints.small import save_both, save_deblocking
from tests.checkpoints.whole import Shelf
from tests.cli.conftest import Command, save
from tileup.images.metadata import read_metadata

SD1 = ("--window", "64", "--overlap", "16", "--steps", "2", "-d", "cpu")


@pytest.fixture(scope="module")
def sd1(tmp_path_factory: pytest.TempPathFactory, shelf: Shelf) -> Path:
    path = tmp_path_factory.mktemp("models") / "mine.safetensors"
    path.hardlink_to(shelf.path("sd1", torch.float16))
    return path


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"), dtype=np.float64)


def test_a_checkpoint_enlarges_a_folder_and_says_how(
    tileup: Command, folder: Path, sd1: Path
) -> None:
    for name in ("a", "b"):
        save(folder / "photos" / f"{name}.png")
    (folder / "photos" / "b.txt").write_text("a red boat\n")
    flags = ("-m", str(sd1), *SD1, "--prompt-file", "--cfg", "3", "--json")
    ran = tileup("upscale", "photos", "-o", "out", *flags)
    assert ran.code == 0, ran.err
    assert [line["outcome"] for line in ran.lines] == ["done", "done"]
    texts = []
    for name in ("a", "b"):
        with Image.open(folder / "out" / f"{name}_2x.png") as image:
            assert image.size == (80, 64)
            texts.append(image.text["parameters"])  # type: ignore[attr-defined]
    assert texts[0].startswith("a sharp, detailed photograph\nNegative prompt: blurry")
    assert texts[1].startswith("a red boat\nNegative prompt: blurry")
    assert all("CFG scale: 3" in text and "Model: mine" in text for text in texts)
    assert np.abs(pixels(folder / "out/a_2x.png") - pixels(folder / "out/b_2x.png")).max() > 5
    again = tileup("upscale", "photos", "-o", "out", *flags)
    assert [line["outcome"] for line in again.lines] == ["skipped", "skipped"]
    (folder / "photos" / "b.txt").write_text("a blue boat\n")
    changed = tileup("upscale", "photos", "-o", "out", *flags)
    assert [line["outcome"] for line in changed.lines] == ["skipped", "done"]


def test_a_lora_can_be_named_in_a_file_or_a_variable(
    tileup: Command, folder: Path, sd1: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = ("-m", str(sd1), *SD1)
    printed = tileup("upscale", "--print-config", *flags, "--lora", "a:0.5", "--lora", "b")
    assert printed.code == 0, printed.err
    (folder / "all.yaml").write_text(printed.out)
    again = tileup("upscale", "--print-config", *flags, "-c", "all.yaml")
    assert again.out == printed.out
    assert "a:0.5" in again.out
    over = tileup("upscale", "--print-config", *flags, "-c", "all.yaml", "--lora", "c")
    assert "a:0.5" not in over.out
    (folder / "lora.yaml").write_text("lora: nowhere.safetensors\n")
    assert tileup("upscale", "in.png", *flags, "-c", "lora.yaml").code == 4
    monkeypatch.setenv("TILEUP_LORA", "nowhere.safetensors:0.5")
    ran = tileup("upscale", "in.png", *flags)
    assert ran.code == 4
    assert "nowhere.safetensors" in ran.err


def test_planning_and_info_need_no_weights(tileup: Command, folder: Path, sd1: Path) -> None:
    planned = tileup("plan", "in.png", "-m", str(sd1), *SD1)
    assert planned.code == 0, planned.err
    assert "model mine" in planned.out
    told = tileup("info", str(sd1))
    assert told.code == 0
    for words in ("Stable Diffusion 1", "eps", "512"):
        assert words in told.out


def test_an_upscaler_enlarges_before_diffusion(tileup: Command, folder: Path) -> None:
    pytest.importorskip("spandrel")
    save_file(compact_state_dict(gain=1.0), folder / "compact.safetensors")
    flags = ("--preset", "smoke", "--window", "80", "--overlap", "16", "--denoise", "0")
    for name, more in (("plain", ()), ("compact", ("--upscaler", "compact.safetensors"))):
        ran = tileup("upscale", "in.png", "-o", f"{name}.png", *flags, *more)
        assert ran.code == 0, ran.err
    assert np.abs(pixels(folder / "plain.png") - pixels(folder / "compact.png")).max() > 5
    for wrong in ("nowhere.safetensors", "in.png"):
        ran = tileup("upscale", "in.png", "-o", "w.png", *flags, "--upscaler", wrong)
        assert ran.code == 4
        assert wrong in ran.sentence
    assert not (folder / "w.png").exists()


@pytest.mark.parametrize("flag", ["--control", "--lora", "--vae", "--clip-l", "--prompt-embeds"])
def test_parts_need_a_diffusion_checkpoint(tileup: Command, folder: Path, flag: str) -> None:
    ran = tileup("upscale", "in.png", "--preset", "smoke", flag, "x.safetensors")
    assert ran.code == 4
    assert f"{flag} goes with diffusion checkpoints" in ran.sentence


def test_words_for_a_model_that_takes_none_are_pointed_out(tileup: Command, folder: Path) -> None:
    ran = tileup("plan", "in.png", "-p", "a boat", "--cfg", "3")
    assert ran.code == 0
    assert "tileup-small takes no text: prompt has no effect" in ran.err
    assert "cfg has no effect" in ran.err


def test_texture_is_in_the_metadata_and_in_info(tileup: Command, folder: Path) -> None:
    model = save_both(folder / "both.safetensors")
    flags = ("--window", "32", "--overlap", "8", "--steps", "2", "-m", model)
    ran = tileup("upscale", "in.png", *flags, "--texture", "0.3")
    assert (ran.code, "no effect" in ran.err) == (0, False)
    told = read_metadata(folder / "in_2x.png")
    assert json.loads(told["tileup"])["texture"] == 0.3
    assert "tileup texture: 0.3" in told["parameters"]
    lines = tileup("info", model).out.splitlines()
    assert any(line.startswith("network for texture  ") for line in lines)
    assert '"texture": {"from": 0.2, "full": 0.8}' in " ".join(lines)


def test_deblocking_is_in_the_metadata_where_it_was_done(tileup: Command, folder: Path) -> None:
    model = save_deblocking(folder / "d.safetensors")
    flags = ("--window", "32", "--overlap", "8", "--steps", "2", "-m", model, "--overwrite")
    for given, said in (("on", True), ("auto", False)):
        ran = tileup("upscale", "in.png", *flags, "--deblock", given)
        assert (ran.code, "no effect" in ran.err) == (0, False)
        told = read_metadata(folder / "in_2x.png")
        assert json.loads(told["tileup"])["deblock"] == given
        assert ("tileup deblock: True" in told["parameters"]) == said
    assert "network for JPEG's damage  " in tileup("info", model).out


def test_texture_without_a_network_for_it_is_pointed_out(
    tileup: Command, folder: Path, sd1: Path
) -> None:
    ran = tileup("upscale", "in.png", "-m", sd1, *SD1, "--texture", "0.3")
    assert ran.code == 0
    assert "texture has no effect: mine has no network for texture." in ran.err
    assert "tileup texture" not in read_metadata(folder / "in_2x.png")["parameters"]
