"""The bench of the modes: what it takes for the truth is a plain run of one strength."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from bench.denoise_modes import Scene
from tests.checkpoints.small import save_small
from tests.doubles import photograph
from tileup.checkpoints.load import load_model
from tileup.settings.values import Settings


def test_the_true_run_of_the_only_strength_is_the_run(tmp_path: Path) -> None:
    """Also in windows of several shapes, as models take them whose network takes any."""
    pixels = (photograph(400, 560) * 255).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "in.png")
    model = load_model(
        save_small(tmp_path / "m.safetensors"), Settings(device="cpu", dtype="float32")
    )
    scene = Scene.of(tmp_path / "in.png", 104, model)
    flags = {"min_denoise": 0.6, "max_denoise": 0.6, "tile": 32, "min_tile": 8, "overlap": 8}
    uniform = scene.with_settings(**flags)
    (strength,) = uniform.planned.plan.strengths
    truth = uniform.true_runs()[strength]
    drawn = uniform.pixels(uniform.run()[0])
    assert np.abs(drawn - np.clip(uniform.enlarged, 0, 1)).max() > 0.01, "it draws"
    np.testing.assert_allclose(truth, drawn, atol=2e-6)
