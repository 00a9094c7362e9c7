"""`tileup plan`, `info`, `presets`, `devices`: what they print."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import platformdirs
import pytest
from PIL import Image, ImageCms

import tileup as package
from tests.cli.conftest import Command, Process, save
from tileup.cli import pace
from tileup.engine.outcomes import Outcome
from tileup.engine.request import Job
from tileup.model_settings import resolve_with_model
from tileup.plan.cost import Cost
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
    ran = tileup("plan", "in.png", "-t", "64", "--min-denoise", "0", "--detail-threshold", "0.2")
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


def test_several_pictures_have_a_line_each_and_a_sum(tileup: Command, folder: Path) -> None:
    save(folder / "more" / "b.png", 60, 40)
    save(folder / "more" / "deep" / "c.png", 20, 30)
    ran = tileup("plan", "in.png", "more", "-r", "-t", "64", "--min-tile", "16")
    assert ran.code == 0
    rows = [line.split() for line in ran.out.splitlines() if ".png" in line]
    assert [row[:3] for row in rows] == [
        ["in.png", "40x32", "80x64"],
        ["more/b.png", "60x40", "120x80"],
        ["more/deep/c.png", "20x30", "40x60"],
    ]
    (total,) = (line.split() for line in ran.out.splitlines() if "3 pictures" in line)
    costs = [package.make_plan(row[0], tile=64, min_tile=16) for row in rows]
    assert int(total[2]) == sum(len(plan.tiles) for plan in costs)
    assert float(total[4]) == pytest.approx(sum(float(row[5]) for row in rows), abs=0.02)
    lines = tileup("plan", "in.png", "more", "--json", "-t", "64", "--min-tile", "16").lines
    assert [line.pop("input") for line in lines] == ["in.png", "more/b.png"]
    assert TilePlan.from_dict(lines[1]) == costs[1]


def test_one_of_several_that_cannot_be_planned_is_named(tileup: Command, folder: Path) -> None:
    (folder / "bad.png").write_text("no picture")
    ran = tileup("plan", "in.png", "bad.png")
    assert ran.code == 1
    assert "bad.png is not a picture" in ran.err
    assert "1 picture " in ran.out
    ran = tileup("plan", "bad.png", "absent.png")
    assert (ran.code, ran.out) == (3, "")


def test_what_upscale_passes_over_plan_passes_over(tileup: Command, folder: Path) -> None:
    """A picture of the wanted size is no failure, alone or among others."""
    save(folder / "small.png", 20, 16)
    told = "in.png  large enough already, skipped"
    ran = tileup("plan", "in.png", "small.png", "--long-edge", "40")
    assert (ran.code, ran.sentence) == (0, told)
    assert "1 picture " in ran.out
    ran = tileup("plan", "in.png", "--long-edge", "40")
    assert (ran.code, ran.sentence, ran.out) == (0, told, "")
    assert tileup("upscale", "in.png", "--long-edge", "40").sentence == told


def test_a_word_that_stands_for_nothing_is_told_once(tileup: Command, folder: Path) -> None:
    (folder / "empty").mkdir()
    for command in (["plan"], ["upscale", "--dry-run"]):
        ran = tileup(*command, "in.png", "no*.png", "empty")
        assert ran.code == 1
        told = ran.err + ran.out
        assert told.count("no file matches 'no*.png'") == 1
        assert told.count("no picture (") == told.count(" in empty (") == 1
        assert "does not exist" not in told
        assert "name a file in it" not in told
        ran = tileup(*command, "no*.png", "empty")
        assert ran.code == 3
        assert ran.sentence.startswith("tileup: no file matches 'no*.png'; no picture (")


def test_heatmaps_of_several_pictures(tileup: Command, folder: Path) -> None:
    save(folder / "more" / "b.png")
    assert tileup("plan", "in.png", "more", "--heatmap", "maps", "-q").code == 0
    made = sorted(path.name for path in (folder / "maps").iterdir())
    assert made == ["b_heatmap.png", "in_heatmap.png"]
    assert tileup("plan", "in.png", "more", "--heatmap", "one.png").code == 2
    assert tileup("plan", "more", "--heatmap", "auto", "-q").code == 0
    assert (folder / "more" / "b_heatmap.png").exists()
    assert tileup("plan", "more", "--heatmap", "auto", "-q").code == 6, "it is there already"
    save(folder / "more" / "c.png")
    ran = tileup("plan", "more", "--heatmap", "auto", "-q")
    assert (ran.code, "b_heatmap.png exists already" in ran.sentence) == (1, True)
    assert (folder / "more" / "c_heatmap.png").exists()
    ran = tileup("upscale", "more", "--dry-run")
    assert "b_heatmap" not in ran.out
    assert "passed over: 2 drawn by --heatmap" in ran.err


def test_the_time_is_known_from_earlier_runs(
    tileup: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pace of a run whose pictures took a known time, for the work of the plan."""
    monkeypatch.setattr(pace, "ENOUGH", 0.0)
    (folder / "more").mkdir()
    save(folder / "more" / "b.png")
    assert "The time is known once tileup upscale has run" in tileup("plan", "more").out
    assert "pace" not in tileup("plan", "in.png").out
    done = tileup("upscale", "in.png", "--steps", "2", "--json").lines[0]
    cost = json.loads(tileup("plan", "in.png", "--json").out)["cost"]
    noted = json.loads((platformdirs.user_cache_path("tileup") / "pace.json").read_text())
    ((work, seconds),) = noted.values()
    assert work == done["cost"]["megapixel_steps"]  # type: ignore[index]
    assert seconds == pytest.approx(done["seconds"], abs=0.001)
    assert "at the pace of earlier runs here" in tileup("plan", "in.png").out
    found = resolve_with_model()
    assert pace.known_pace(found) == pytest.approx(seconds / work)
    assert cost["megapixel_steps"] > 0
    assert pace.known_pace(resolve_with_model(flags={"dtype": "float32"})) is None


def test_a_picture_that_went_on_tells_no_pace(folder: Path) -> None:
    """An earlier run had made a part of it, in seconds that nobody knows."""
    found, cost = resolve_with_model(), Cost(1, 1, 1, 2.0, 2.0)
    told = Outcome(Job(Path("a.png"), Path("b.png"), None, 0), "done", seconds=6.0, cost=cost)
    pace.note_pace(found, [replace(told, seconds=0.1, resumed=True)])
    assert pace.known_pace(found) is None
    pace.note_pace(found, [replace(told, seconds=0.1, resumed=True), told])
    assert pace.known_pace(found) == pytest.approx(3)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"x": 1}', '{"x": [1]}', "\x00", '{"a": null}'])
def test_a_note_of_the_pace_that_is_damaged_is_as_none(folder: Path, text: str) -> None:
    file = platformdirs.user_cache_path("tileup") / "pace.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    assert pace.known_pace(resolve_with_model()) is None


@pytest.mark.parametrize(
    ("flags", "code", "told"),
    [
        (["--lora", "absent.safetensors"], 4, "--lora goes with diffusion checkpoints"),
        (["--vae", "in.png"], 4, "--vae goes with diffusion checkpoints"),
        (["--upscaler", "absent.pth"], 4, "upscaler absent.pth cannot be read"),
        (["--device", "gpu"], 2, "device 'gpu' is not known; use auto, cpu, cuda, cuda:N or mps"),
        (["--device", "cuda:x"], 2, "device 'cuda:x' is not known"),
        (["--mask", "absent.png"], 2, "absent.png does not exist"),
    ],
)
def test_what_upscale_refuses_plan_refuses_with_the_same_words(
    tileup: Command, flags: list[str], code: int, told: str
) -> None:
    refused = [tileup(command, "in.png", *flags) for command in ("plan", "upscale")]
    assert [ran.code for ran in refused] == [code, code]
    assert told in refused[0].sentence
    assert refused[0].sentence == refused[1].sentence
    with pytest.raises(package.TileupError, match=refused[0].sentence[8:40]):
        package.make_plan("in.png", **{flags[0][2:]: flags[1]})


def test_info_as_json(tileup: Command, folder: Path) -> None:
    told = json.loads(tileup("info", "in.png", "--json").out)
    assert (told["kind"], told["width"], told["height"]) == ("picture", 40, 32)
    assert (told["bytes"], told["profile"]) == ((folder / "in.png").stat().st_size, None)
    tileup("upscale", "in.png", "--denoise", "0", "-q")
    made = json.loads(tileup("info", "in_2x.png", "--json").out)
    assert "Steps: 3" in made["metadata"]["parameters"]
    told = json.loads(tileup("info", "tileup-small", "--json").out)
    assert (told["kind"], told["family"], told["prediction"]) == ("checkpoint", "bundled", "x0")
    assert told["parameters"] == sum(told["precision"].values()) == sum(told["parts"].values())
