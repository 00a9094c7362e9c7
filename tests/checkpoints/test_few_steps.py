"""Models made for few steps are told by their names and metadata, where guidance burns them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.checkpoints import headers
from tests.checkpoints.headers import save_head
from tileup.model_settings import resolve_with_model


def notes(path: Path, **flags: object) -> tuple[str, ...]:
    return resolve_with_model(flags={"model": str(path), **flags}).notes


@pytest.mark.parametrize(
    ("name", "metadata", "word"),
    [
        ("sd_xl_turbo_1.0_fp16", {}, "turbo"),
        ("juggernautXL_v9Rdphoto2Lightning", {}, "lightning"),
        ("dreamshaperXL_lightningDPMSDE", {}, "lightning"),
        ("sdxl_lightning_8step", {}, "lightning"),
        ("mine", {"modelspec.title": "My merge, DMD2"}, "dmd2"),
        ("hypertrophy", {}, None),
        ("plain", {"modelspec.title": "SDXL base"}, None),
    ],
)
def test_a_model_made_for_few_steps_is_pointed_out(
    tmp_path: Path, name: str, metadata: dict[str, str], word: str | None
) -> None:
    path = save_head(tmp_path / f"{name}.safetensors", headers.sdxl_file(), metadata=metadata)
    found = notes(path)
    assert len(found) == (word is not None)
    for note in found:
        assert f"({word})" in note
        assert "--preset fast" in note
    assert notes(path, cfg=1.5) == ()
    fast = resolve_with_model(preset="fast", flags={"model": str(path)})
    assert fast.notes == ()
    assert (fast.settings.steps, fast.settings.cfg, fast.settings.sampler) == (6, 1.0, "euler")


def test_a_lora_makes_a_model_so(tmp_path: Path) -> None:
    model = save_head(tmp_path / "m.safetensors", headers.sdxl_file())
    lora = save_head(tmp_path / "lcm-lora-sdxl.safetensors", {"a.lora_up.weight": (4, 4)})
    (note,) = notes(model, lora=(f"{lora}:0.8",))
    assert "lcm-lora-sdxl.safetensors is made for few steps" in note
    assert notes(model, lora=("absent.safetensors",)) == ()


def test_a_lora_that_the_prompt_asks_for_does_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = save_head(tmp_path / "m.safetensors", headers.sdxl_file())
    save_head(tmp_path / "lcm-lora-sdxl.safetensors", {"a.lora_up.weight": (4, 4)})
    monkeypatch.setenv("TILEUP_MODELS", str(tmp_path))
    (note,) = notes(model, prompt="a cat <lora:lcm-lora-sdxl:1>")
    assert "lcm-lora-sdxl.safetensors is made for few steps" in note


def test_families_made_for_few_steps_have_their_own_defaults(tmp_path: Path) -> None:
    from tests.checkpoints.layouts.z_image import z_image_shapes

    shapes = dict(z_image_shapes(1, 1, 256, 2560))
    assert notes(save_head(tmp_path / "z_image_turbo.safetensors", shapes)) == ()
