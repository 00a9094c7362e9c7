"""`tileup plan`, `info`, `presets`, `devices`: what they print."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image, ImageCms

import tileup as package
from tests.cli.conftest import Command, Process
from tileup.plan.tiles import TilePlan


def test_the_table(tileup: Command) -> None:
    ran = tileup("plan", "in.png", "-t", "64", "--min-tile", "16")
    assert ran.code == 0
    assert ran.err == ""
    assert "in.png  40x32 -> 80x64, model tileup-small, euler, 3 steps" in ran.out
    plan = package.make_plan("in.png", tile=64, min_tile=16)
    words = [line.split() for line in ran.out.splitlines()]
    rows = [row for row in words if len(row) == 5 and row[2].endswith("%")]
    assert [float(row[0]) for row in rows] == list(plan.strengths)
    assert sum(int(row[1]) for row in rows) == len(plan.tiles)
    assert sum(float(row[2].rstrip("%")) for row in rows) == pytest.approx(100, abs=0.2)
    assert rows[0][3:] == ["1", "3"], "the strongest tiles take all steps"
    assert "threshold" in ran.out
    assert "megapixel-steps" in ran.out
    assert "with 0.8 everywhere: saves" in ran.out


def test_kept_tiles_have_a_row_of_their_own(tileup: Command) -> None:
    ran = tileup("plan", "in.png", "-t", "64", "--min-denoise", "0")
    assert any(line.split()[:1] == ["0"] and "kept" in line for line in ran.out.splitlines())


def test_json_is_the_plan_and_its_cost(tileup: Command) -> None:
    ran = tileup("plan", "in.png", "--json", "-t", "64", "-s", "1.5")
    content = json.loads(ran.out)
    assert list(content) == [
        "width", "height", "stride", "scale", "threshold", "tiles", "cost"
    ]  # fmt: skip
    assert TilePlan.from_dict(content) == package.make_plan("in.png", tile=64, scale=1.5)
    assert content["cost"]["tiles"] == len(content["tiles"])
    assert set(content["tiles"][0]) == {
        "x", "y", "width", "height", "depth", "detail", "denoise"
    }  # fmt: skip


def test_the_heatmap(tileup: Command, folder: Path) -> None:
    assert tileup("plan", "in.png", "--heatmap", "map.webp", "-q").out == ""
    with Image.open(folder / "map.webp") as image:
        assert image.format == "WEBP"
    assert tileup("plan", "in.png", "--heatmap", "auto").code == 0
    assert (folder / "in_heatmap.png").exists()


def test_standard_input(process: Callable[..., Process], folder: Path) -> None:
    done = process("plan", "-", "--json", stdin=(folder / "in.png").read_bytes())
    assert json.loads(done.out)["width"] == 80
    assert process("plan", "-", "--heatmap", "auto", stdin=b"").code == 2


def test_fewer_steps_than_strengths_are_pointed_out(tileup: Command) -> None:
    ran = tileup("plan", "in.png", "-t", "64", "--min-tile", "8", "--steps", "1")
    assert ran.code == 0
    assert "warning: This plan has more strengths than 1 step can keep apart" in ran.err


def test_info_of_a_picture(tileup: Command, folder: Path) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.new("LA", (5, 3)).save(folder / "grey.png", icc_profile=profile)
    ran = tileup("info", "grey.png")
    assert ran.code == 0
    assert "5x3 pixels" in ran.out
    assert "LA" in ran.out
    assert "sRGB built-in" in ran.out


def test_info_shows_what_an_output_says_about_itself(tileup: Command) -> None:
    tileup("upscale", "in.png", "--denoise", "0", "--steps", "2")
    out = tileup("info", "in_2x.png").out
    assert "Steps: 2, Sampler: Euler" in out
    assert '"max_denoise": 0.0' in out


def test_info_of_a_checkpoint(tileup: Command) -> None:
    out = tileup("info", "tileup-small").out
    for word in ("tileup-small.safetensors", "bundled", "x0", "parameters", "F16", "window"):
        assert word in out


def test_presets(tileup: Command) -> None:
    ran = tileup("presets")
    assert ran.code == 0
    for name in ("photo", "smoke", "subtle", "uniform"):
        assert name in ran.out


def test_devices(tileup: Command) -> None:
    ran = tileup("devices")
    assert ran.code == 0
    assert "cpu" in ran.out
    assert "GiB" in ran.out


def test_version_and_help(tileup: Command) -> None:
    assert tileup("--version").out == f"tileup {package.__version__}\n"
    out = tileup("--help").out
    for command in ("upscale", "plan", "info", "presets", "devices"):
        assert command in out
    assert tileup().code in (0, 2)
