"""A run with one runtime and with another: what it says, and what a rerun does."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tileup.cli.main import main
from tileup.families.in_int8 import exact
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


@pytest.mark.skipif(not exact(), reason="this CPU adds products of 8 bits wrongly")
@pytest.mark.parametrize("more", [[], ["--texture", "0.5"], ["--deblock", "on"]])
def test_a_picture_is_drawn_in_8_bits_where_that_is_asked_for(
    tmp_path: Path, more: list[str]
) -> None:
    """It says so, differs from the one in float32, and is near to it."""
    chance = np.random.default_rng(0)
    soft = chance.integers(0, 256, (6, 6, 3), np.uint8)
    Image.fromarray(soft).resize((32, 32)).save(tmp_path / "in.png")
    line = ["upscale", str(tmp_path / "in.png"), "-d", "cpu", "--steps", "2", "--min-denoise"]
    line += ["0.3", "--max-denoise", "0.6", "--format", "png", *more]
    for runtime in ("int8", "torch"):
        out = str(tmp_path / f"{runtime}.png")
        assert main([*line, "--runtime", runtime, "--dtype", "auto", "-o", out]) == 0
    rounded, exactly = (tmp_path / "int8.png", tmp_path / "torch.png")
    assert "tileup runtime: int8" in read_metadata(rounded)["parameters"]
    one, other = (np.asarray(Image.open(each), np.float32) for each in (rounded, exactly))
    assert 0 < np.abs(one - other).mean() < 1.5
