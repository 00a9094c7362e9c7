"""What is told of a checkpoint agrees with what it holds."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.checkpoints import headers
from tests.checkpoints.headers import NET, save_head, spread, under
from tileup.checkpoints.describe import PartInfo, describe
from tileup.errors import UnknownCheckpointError


def _count(shapes: headers.Shapes) -> int:
    return sum(math.prod(shape) for shape in shapes.values())


def _parts(path: Path) -> dict[str, PartInfo]:
    return {part.title: part for part in describe(path).parts}


SDXL: dict[str, Any] = {**headers.SDXL}


def _total(part: PartInfo) -> int:
    assert part.amount is not None
    return part.amount.total


def test_parameters_are_counted_by_part(tmp_path: Path) -> None:
    shapes = headers.sdxl_file() | {"model_ema.decay": (5,)}
    path = save_head(tmp_path / "m.safetensors", shapes, metadata={"a": "[1]", "b": "text"})
    info = describe(path)
    parts = {part.title: _total(part) for part in info.parts}
    assert parts == {
        "network": _count(under(NET, headers.unet(**SDXL, context=2048, vector=2816))),
        "VAE": _count(headers.vae()),
        "CLIP-L": _count(headers.clip(768)),
        "CLIP-G": _count(headers.open_clip(1280)),
    }
    assert info.parameters == _count(shapes) == sum(parts.values()) + 5
    assert info.amount.tensors == len(shapes)
    assert (info.family, info.title) == ("sdxl", "Stable Diffusion XL")
    assert (info.prediction.name, info.prediction.told_by) == ("eps", "its family")
    assert info.header == {"a": [1], "b": "text"}
    assert info.shapes["text"] == "2048 features per token"
    assert info.shapes["window"] == "1024 px, sides in multiples of 32"
    assert info.shapes["noise levels"] == "0.0291672 to 14.6146"
    assert info.bytes == path.stat().st_size


def test_missing_parts_are_told_with_their_flags(tmp_path: Path) -> None:
    parts = _parts(save_head(tmp_path / "m.safetensors", headers.flux()))
    assert _total(parts.pop("network")) == _count(headers.flux())
    assert {title: part.advice for title, part in parts.items()} == {
        "VAE": "--vae FILE",
        "CLIP-L": "--clip-l FILE",
        "T5-XXL": "--t5 FILE",
    }
    assert all(part.amount is None for part in parts.values())
    parts = _parts(save_head(tmp_path / "m.safetensors", headers.sd3_file()))
    assert parts["T5-XXL"].advice == "--t5 FILE, or go without"
    assert _total(parts["CLIP-G"]) == _count(headers.clip(1280, projection=True))


def test_a_network_without_a_prefix_beside_other_parts_is_counted_alone(tmp_path: Path) -> None:
    shapes = headers.flux() | under("vae.", headers.vae(channels=16, quant=False))
    parts = _parts(save_head(tmp_path / "m.safetensors", shapes))
    assert _total(parts["network"]) == _count(headers.flux())
    assert _total(parts["VAE"]) == _count(headers.vae(channels=16, quant=False))


def test_an_undecided_sd2_is_described_all_the_same(tmp_path: Path) -> None:
    info = describe(save_head(tmp_path / "m.safetensors", headers.sd2_file()))
    assert (info.family, info.prediction.name) == ("sd2", "")
    assert "--prediction" in info.prediction.told_by
    assert [part.title for part in info.parts] == ["network", "VAE", "of SD 2 (OpenCLIP-H)"]
    told = describe(save_head(tmp_path / "m.safetensors", headers.sd2_file(), values=spread(0.2)))
    assert told.prediction.name == "v"


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        ({f"lora_unet_{n}.lora_up.weight": (4, 4) for n in range(3)}, "a LoRA.*--lora"),
        (headers.vae(), "a VAE alone.*--vae"),
        (headers.clip(), "a CLIP text encoder.*--clip-l"),
        (headers.t5(), "a T5 text encoder.*--t5"),
        ({"control_model.zero_convs.0.0.weight": (4, 4, 1, 1)}, "a ControlNet.*--control"),
    ],
)
def test_what_goes_with_a_model_is_described(
    tmp_path: Path, shapes: headers.Shapes, words: str
) -> None:
    info = describe(save_head(tmp_path / "m.safetensors", shapes))
    assert re.match(words, info.title)
    assert info.family == ""
    assert info.parameters == _count(shapes)
    assert info.parts == ()


def test_what_cannot_be_used_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnknownCheckpointError, match="InstructPix2Pix"):
        describe(save_head(tmp_path / "m.safetensors", headers.sd1_file(inputs=8)))


def test_a_pickle_is_described(tmp_path: Path) -> None:
    shapes = headers.sd1_file(width=8)
    tensors = {name: torch.zeros(shape, dtype=torch.float16) for name, shape in shapes.items()}
    torch.save({"state_dict": tensors}, tmp_path / "m.ckpt")
    info = describe(tmp_path / "m.ckpt")
    assert info.family == "sd1"
    assert info.amount.parameters == {"F16": _count(shapes)}


def test_scaled_weights_are_counted_without_their_scales(tmp_path: Path) -> None:
    shapes = headers.flux()
    scales = {"img_in.scale_weight": (), "scaled_fp8": (2,)}
    path = save_head(
        tmp_path / "m.safetensors", shapes | scales, "F8_E4M3", dtypes=dict.fromkeys(scales, "F32")
    )
    info = describe(path)
    assert info.amount.parameters == {"F8_E4M3": _count(shapes)}
