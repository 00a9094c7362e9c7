"""A run with one runtime and with another: what it says, and what a rerun does."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tileup.cli.main import main
from tileup.images.metadata import read_metadata


def test_a_picture_says_what_computed_it_and_a_rerun_in_another_way_makes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The two differ by rounding, as runs with other numbers of threads do."""
    chance = np.random.default_rng(0)
    Image.fromarray(chance.integers(0, 256, (24, 24, 3), np.uint8)).save(tmp_path / "in.png")
    line = ["upscale", str(tmp_path / "in.png"), "-o", str(tmp_path / "out") + "/", "-d", "cpu"]
    line += ["--preset", "smoke", "--dtype", "float32", "--json"]
    told: list[str] = []
    for more in (
        ["--runtime", "ncnn"],
        ["--runtime", "torch"],
        ["--runtime", "torch", "--overwrite"],
    ):
        assert main([*line, *more]) == 0
        told.append(json.loads(capsys.readouterr().out)["outcome"])
        (made,) = (tmp_path / "out").glob("*.png")
        said = read_metadata(made)["parameters"]
        assert ("tileup runtime: ncnn" in said) == ("--overwrite" not in more)
    assert told == ["done", "skipped", "done"]
