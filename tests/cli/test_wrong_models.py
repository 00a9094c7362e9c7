"""Each wrong file given as a model: one sentence, exit code 4, no picture and no code run."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.checkpoints import headers
from tests.checkpoints.headers import NET, save_head
from tests.checkpoints.layouts.qwen_image import qwen_image_shapes
from tests.checkpoints.layouts.z_image import z_image_shapes
from tests.checkpoints.small import save_small
from tests.cli.conftest import Command
from tileup.errors import ExitCode


class Code:
    """A pickle of it makes the folder `mark`, when plain pickle reads it."""

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, ("mark",)


def _cut(path: Path) -> None:
    save_small(path)
    path.write_bytes(path.read_bytes()[:-100])


def _not_finite(path: Path) -> None:
    save_small(path, leave__weight=torch.full((12, 8, 3, 3), float("nan")))


def _bent(path: Path) -> None:
    save_small(path, leave__weight=torch.zeros(5, 5))


def _shardless(path: Path) -> None:
    path.write_text(json.dumps({"weight_map": {"a": "model-00001-of-00002.safetensors"}}))


WRONG: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "lora": (
        "m.safetensors",
        lambda path: save_head(path, {"lora_unet_a.lora_up.weight": (4, 4)}),
        "is a LoRA",
    ),
    "vae": ("m.safetensors", lambda path: save_head(path, headers.vae()), "is a VAE alone"),
    "esrgan": (
        "m.pth",
        lambda path: torch.save({"params": {"body.0.rdb1.conv1.weight": torch.zeros(2)}}, path),
        "such as an ESRGAN",
    ),
    "pix2pix": (
        "m.safetensors",
        lambda path: save_head(path, headers.sd1_file(inputs=8)),
        "InstructPix2Pix",
    ),
    "truncated": ("m.safetensors", _cut, "cut short"),
    "wrong shape": ("m.safetensors", _bent, "leave.weight"),
    "wrong shape in the head": (
        "m.safetensors",
        lambda path: save_head(path, headers.sd1_file() | {f"{NET}input_blocks.0.0.weight": (3,)}),
        "has the shape",
    ),
    "not finite": ("m.safetensors", _not_finite, "not finite"),
    "code": ("m.ckpt", lambda path: torch.save({"a": Code()}, path), "foreign code: refused"),
    "web page": (
        "m.safetensors",
        lambda path: path.write_text("<!DOCTYPE html><html><body>Sign in</body></html>" * 9),
        "web page",
    ),
    "empty": ("m.safetensors", lambda path: path.write_bytes(b""), "it is empty"),
    "pointer": (
        "m.safetensors",
        lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0"),
        "Git LFS",
    ),
    "gguf": ("m.gguf", lambda path: path.write_bytes(b"GGUF" + b"\3" * 60), "GGUF"),
    "shard missing": (
        "m.safetensors.index.json",
        _shardless,
        "lacks 1 of its 1 shard,",
    ),
    "undecided": (
        "m.safetensors",
        lambda path: save_head(path, headers.sd2_file()),
        "give --prediction eps or --prediction v",
    ),
    "parts missing": (
        "m.safetensors",
        lambda path: save_head(path, headers.flux()),
        "--vae.*--clip-l.*--t5",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_model_is_4(tileup: Command, folder: Path, name: str) -> None:
    file, write, words = WRONG[name]
    write(folder / file)
    ran = tileup("upscale", "in.png", "-m", file, "--steps", 2, "--overlap", 8)
    assert ran.code == ExitCode.BAD_MODEL
    assert file in ran.err
    assert "Traceback" not in ran.err
    assert re.search(words, " ".join(ran.err.split()))
    assert not (folder / "mark").exists()
    assert not (folder / "in_2x.png").exists()


def test_the_code_was_there_to_be_run(folder: Path) -> None:
    torch.save({"a": Code()}, folder / "m.ckpt")
    torch.load(folder / "m.ckpt", weights_only=False)
    assert (folder / "mark").exists()


def test_a_prediction_that_cannot_be_is_2(tileup: Command, folder: Path) -> None:
    save_head(folder / "m.safetensors", headers.flux())
    ran = tileup("plan", "in.png", "-m", "m.safetensors", "--prediction", "eps")
    assert ran.code == ExitCode.USAGE
    assert "rectified flow" in ran.sentence
    assert tileup("plan", "in.png", "-m", "m.safetensors").code == ExitCode.OK


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        ({"control_layers.0.after_proj.weight": (4, 4)}, "is a ControlNet of Z-Image"),
        (
            dict(qwen_image_shapes(1, 256, 3584)) | {"controlnet_blocks.0.weight": (256, 256)},
            "is a ControlNet of Qwen-Image",
        ),
    ],
)
def test_controlnets_of_families_that_take_none_are_refused_with_what_serves(
    tileup: Command, folder: Path, shapes: headers.Shapes, words: str
) -> None:
    save_head(folder / "c.safetensors", shapes)
    save_head(folder / "m.safetensors", headers.sd1_file())
    save_head(folder / "z_image.safetensors", dict(z_image_shapes(1, 1, 256, 2560)))
    ran = tileup("upscale", "in.png", "-m", "m.safetensors", "--control", "c.safetensors")
    assert ran.code == ExitCode.BAD_MODEL
    assert words in ran.sentence
    assert "a lower --denoise holds their model to the picture" in ran.sentence
    ran = tileup("upscale", "in.png", "-m", "z_image.safetensors", "--control", "c.safetensors")
    assert ran.code == ExitCode.BAD_MODEL
    assert "SDXL, SD 3 and FLUX" in ran.sentence
    assert "a lower --denoise holds it to the picture" in ran.sentence


ADDED: dict[str, tuple[headers.Shapes, str]] = {
    "lora": ({"lora_unet_a.lora_up.weight": (4, 4)}, "a LoRA"),
    "embedding": ({"emb_params": (2, 768)}, "a textual inversion"),
    "control": ({"control_model.zero_convs.0.0.weight": (4, 4, 1, 1)}, "a ControlNet"),
    "vae": (headers.vae(), "a VAE alone"),
    "model": (headers.sd1_file(), "a whole model (Stable Diffusion 1.x)"),
}
"""What goes with a model, by its flag, and the model itself."""


@pytest.mark.parametrize("flag", ["lora", "embedding", "control"])
def test_what_was_given_with_the_wrong_flag_is_named_with_the_right_one(
    tileup: Command, folder: Path, flag: str
) -> None:
    save_head(folder / "m.safetensors", headers.sd1_file())
    for own, (shapes, title) in ADDED.items():
        save_head(folder / "added.safetensors", shapes)
        ran = tileup("plan", "in.png", "-m", "m.safetensors", f"--{flag}", "added.safetensors")
        named = re.search(
            rf"added\.safetensors is {re.escape(title)}.*, and not an? ", " ".join(ran.err.split())
        )
        assert (ran.code, bool(named)) == ((0, False) if own == flag else (4, True))
        right = "-m" if own == "model" else f"--{own}"
        assert own == flag or right in ran.err


def test_info_names_each_family(tileup: Command, folder: Path) -> None:
    files = {
        "sd1": headers.sd1_file(),
        "sd2": headers.sd2_file(),
        "sdxl": headers.sdxl_file(),
        "sdxl-refiner": headers.refiner_file(),
        "sd3": headers.sd3_file(),
        "flux-dev": headers.flux(),
        "flux-schnell": headers.flux(guidance=False),
    }
    facts: dict[str, str] = {}
    for family, shapes in files.items():
        save_head(folder / "m.safetensors", shapes)
        ran = tileup("info", "m.safetensors")
        assert ran.code == ExitCode.OK
        facts = dict(line.split(None, 1) for line in ran.out.splitlines())
        assert facts["family"] == family
        assert "parameters" in facts["network"]
    assert facts["T5-XXL"] == "not in the file: --t5 FILE"
    save_head(folder / "lora.safetensors", {"lora_unet_a.lora_up.weight": (4, 4)})
    ran = tileup("info", "lora.safetensors")
    assert ran.code == ExitCode.OK
    assert "a LoRA: give the model it was made for with -m and this file with --lora" in ran.out


def test_models_are_found_by_name_in_every_form(
    tileup: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = folder / "models"
    save_head(models / "plain.v2.safetensors", headers.sd1_file())
    save_head(models / "both.safetensors", headers.sd1_file())
    torch.save({"x": torch.zeros(2)}, models / "both.ckpt")
    save_head(models / "parts" / "unet" / "model.safetensors", headers.unet())
    (models / "parts" / "model_index.json").write_text("{}")
    monkeypatch.setenv("TILEUP_MODELS", str(models))
    for name in ("plain.v2", "plain.v2.safetensors", "both", "parts"):
        assert tileup("plan", "in.png", "-m", name).code == ExitCode.OK
        assert "sd1" in tileup("info", name).out
    ran = tileup("plan", "in.png", "-m", "plain.v3")
    assert ran.code == ExitCode.BAD_MODEL
    assert "did you mean 'plain.v2'?" in ran.sentence
    assert tileup("plan", "in.png", "-m", "both.ckpt").code == ExitCode.BAD_MODEL
