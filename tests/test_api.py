"""The public face: what `import tileup` gives, and what it costs."""

from __future__ import annotations

import subprocess
import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import tileup
from tests.doubles import DoubleModel, gaussian_denoiser, photograph
from tileup.api import LoadedModel
from tileup.errors import InputError, ModelError, UsageError
from tileup.settings.values import Settings

SMALL = {"tile": 64, "steps": 2, "device": "cpu", "window": 80, "overlap": 16}


@pytest.fixture(scope="module")
def bundled() -> object:
    return tileup.load_model(device="cpu")


@pytest.fixture
def pixels() -> np.ndarray:
    return photograph(32, 40)


def test_the_public_names() -> None:
    assert tileup.__all__ == [
        "Settings",
        "Tile",
        "TilePlan",
        "TileupError",
        "Upscaled",
        "__version__",
        "load_model",
        "make_plan",
        "upscale",
    ]
    assert set(tileup.__all__) <= set(dir(tileup))
    for name in tileup.__all__:
        assert getattr(tileup, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'upscal'"):
        _ = tileup.upscal


def test_importing_tileup_imports_next_to_nothing() -> None:
    code = (
        "import sys; before = set(sys.modules); import tileup; tileup.__version__; dir(tileup);"
        "print(*{name.split('.')[0] for name in set(sys.modules) - before})"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert "tileup" in loaded
    assert not {"numpy", "torch", "PIL", "yaml", "rich", "typer"} & set(loaded)


def test_planning_in_python_needs_no_torch(tmp_path: Path, pixels: np.ndarray) -> None:
    Image.fromarray((pixels * 255).astype(np.uint8)).save(tmp_path / "in.png")
    code = (
        "import sys, tileup; plan = tileup.make_plan(sys.argv[1]);"
        "print(len(plan.tiles), 'torch' in sys.modules)"
    )
    told = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "in.png")],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert int(told[0]) > 1
    assert told[1] == "False"


def test_a_picture_can_be_given_in_many_ways(
    tmp_path: Path, pixels: np.ndarray, bundled: object
) -> None:
    data = (pixels * 255).round().astype(np.uint8)
    image = Image.fromarray(data)
    image.save(tmp_path / "in.png")
    encoded = (tmp_path / "in.png").read_bytes()
    ways = [tmp_path / "in.png", str(tmp_path / "in.png"), image, data, encoded, BytesIO(encoded)]
    results = [np.asarray(tileup.upscale(way, bundled, **SMALL).image) for way in ways]
    assert results[0].shape == (64, 80, 3)
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])


def test_settings_are_keywords_and_change_the_result(pixels: np.ndarray, bundled: object) -> None:
    base, other = (
        tileup.upscale(pixels, bundled, **SMALL, max_denoise=high) for high in (0.8, 0.5)
    )
    assert (np.asarray(base.image) != np.asarray(other.image)).any()
    assert max(tile.denoise for tile in other.plan.tiles) == 0.5
    assert base.timings["sample"] > 0


def test_a_preset_is_a_keyword_too(pixels: np.ndarray) -> None:
    plan = tileup.make_plan(pixels, preset="uniform")
    assert {tile.denoise for tile in plan.tiles} == {0.5}


def test_the_plan_made_beforehand_is_the_one_that_is_run(
    pixels: np.ndarray, bundled: object
) -> None:
    assert tileup.make_plan(pixels, **SMALL) == tileup.upscale(pixels, bundled, **SMALL).plan


def test_a_loaded_model_brings_its_own_spec(pixels: np.ndarray) -> None:
    model = DoubleModel(gaussian_denoiser)
    result = tileup.upscale(pixels, model, **SMALL)
    assert result.plan == tileup.make_plan(pixels, model, **SMALL)
    assert model.counting.windows == result.cost.model_calls > 0


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"dtype": "float16"}, "dtype is 'float16', and the model was loaded with 'float32'"),
        ({"lora": "absent.safetensors"}, r"load_model\(..., lora=\('absent.safetensors',\)\)"),
        ({"vae": "other.safetensors"}, "vae is 'other.safetensors'"),
        ({"control_scale": 0.5}, "control_scale is 0.5"),
        ({"threads": 3}, "threads is 3"),
        ({"device": "cuda:9"}, "device 'cuda:9' is not"),
        ({"device": "gpu"}, "device 'gpu' is not known"),
        ({"nonsense": 1}, "unknown setting 'nonsense'"),
    ],
)
def test_what_contradicts_a_loaded_model_is_an_error(
    pixels: np.ndarray, asked: dict[str, object], message: str
) -> None:
    ours = tileup.load_model(device="cpu", dtype="float32")
    for model in (ours, DoubleModel(gaussian_denoiser)):
        for call in (tileup.upscale, tileup.make_plan):
            with pytest.raises(UsageError, match=message):
                call(pixels, model, **asked)
    with pytest.raises(UsageError, match=message):
        tileup.load_model(ours, **asked)


def test_what_agrees_with_a_loaded_model_is_none(pixels: np.ndarray) -> None:
    model = tileup.load_model(device="cpu", dtype="float32")
    for asked in ({"device": "cpu", "dtype": "float32"}, {"dtype": "auto", "lora": ()}):
        assert tileup.make_plan(pixels, model, **{**SMALL, **asked})
    assert tileup.load_model(model, device="cpu") is model
    # What a preset says of the device is no wish of the caller's.
    assert tileup.make_plan(pixels, DoubleModel(gaussian_denoiser, device="cuda:0"), preset="smoke")


def test_a_model_in_8_bits_computes_in_no_precision_that_is_asked_for(pixels: np.ndarray) -> None:
    other = DoubleModel(gaussian_denoiser, runtime="int8")
    for model in (other, LoadedModel(other, Settings(device="cpu"))):
        assert tileup.make_plan(pixels, model, dtype="auto", **SMALL)
        with pytest.raises(UsageError, match="dtype is 'float32'"):
            tileup.make_plan(pixels, model, dtype="float32", **SMALL)


def test_a_loaded_model_is_a_model_like_any_other() -> None:
    model = tileup.load_model(device="cpu", dtype="bfloat16")
    for name in ("spec", "digest", "device", "dtype"):
        assert getattr(model, name) == getattr(model.model, name)
    assert model.dtype == torch.bfloat16
    assert model.settings.dtype == "bfloat16"
    assert model.take_notes() == ()


def test_on_step_hears_every_window_and_may_stop_the_work(
    pixels: np.ndarray, bundled: object
) -> None:
    heard = []
    result = tileup.upscale(pixels, bundled, on_step=heard.append, **SMALL)
    assert heard[-1].calls == heard[-1].total_calls == result.cost.model_calls

    def stop(step: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tileup.upscale(pixels, bundled, on_step=stop, **SMALL)


def test_the_environment_is_not_read(pixels: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TILEUP_SCALE", "3")
    monkeypatch.setenv("TILEUP_NONSENSE", "3")
    assert tileup.make_plan(pixels).scale == 2


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"min_denois": 0.1}, UsageError, "did you mean 'min_denoise'"),
        ({"sampler": "eulr"}, UsageError, "did you mean 'euler'"),
        ({"scheduler": "karas"}, UsageError, "did you mean 'karras'"),
        ({"preset": "phot"}, UsageError, "did you mean 'photo'"),
        ({"preset": 3}, UsageError, "preset must be a name"),
        ({"overlap": 500}, UsageError, "overlap"),
        ({"model": "no-such-model"}, ModelError, "no-such-model"),
        ({"model": 4}, UsageError, "a model is a file, a name or one from load_model, and no int"),
        ({"max_input_pixels": 10}, InputError, "max-input-pixels"),
    ],
)
def test_what_is_wrong_is_said(
    pixels: np.ndarray, settings: dict[str, object], error: type[Exception], message: str
) -> None:
    for call in (tileup.make_plan, tileup.upscale):
        with pytest.raises(error, match=message):
            call(pixels, **settings)
