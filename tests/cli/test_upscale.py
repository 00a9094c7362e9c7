"""`tileup upscale` as a user runs it, with the checkpoint that ships."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from sd_parsers import ParserManager

from tests.cli.conftest import QUICK, Command, Process, save
from tileup.images.metadata import read_metadata


def size_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def test_one_picture(smoke: Command, folder: Path) -> None:
    ran = smoke("in.png")
    assert ran.code == 0
    assert ran.out == ""
    pattern = r"in_2x.png  80x64  \d+\.\d s(  saved \d+% against uniform)?"
    assert re.fullmatch(pattern, ran.sentence)
    result, before = pixels(folder / "in_2x.png"), pixels(folder / "in.png")
    assert result.shape == (64, 80, 3)
    shrunk = np.asarray(Image.fromarray(result).reduce(2), dtype=float)
    assert abs(shrunk - before).mean() < 40, "the same picture"
    assert {path.name for path in folder.iterdir()} == {"in.png", "in_2x.png"}


def test_two_runs_give_the_same_bytes(smoke: Command, folder: Path) -> None:
    assert smoke("in.png", "-o", "a.png").code == 0
    assert smoke("in.png", "-o", "b.png").code == 0
    assert (folder / "a.png").read_bytes() == (folder / "b.png").read_bytes()


@pytest.mark.parametrize(
    "flags",
    [("--min-denoise", "0.5"), ("--max-denoise", "0.6"), ("--seed", "1"), ("--steps", "3")],
    ids=lambda flags: flags[0],
)
def test_each_of_these_alone_changes_the_picture(
    smoke: Command, folder: Path, flags: tuple[str, str]
) -> None:
    several = ("--detail-threshold", "0.1")  # strengths, not the strongest alone
    smoke("in.png", "-o", "a.png", *several)
    smoke("in.png", "-o", "b.png", *several, *flags)
    assert (pixels(folder / "a.png") != pixels(folder / "b.png")).any()


def test_strength_0_everywhere_is_the_enlarged_picture(smoke: Command, folder: Path) -> None:
    assert smoke("in.png", "--denoise", "0").code == 0
    with Image.open(folder / "in.png") as image:
        planes = [
            Image.fromarray(np.asarray(band, np.float32)).resize((80, 64), Image.Resampling.LANCZOS)
            for band in image.split()
        ]
    expected = np.stack([np.clip(np.asarray(plane), 0, 255) for plane in planes], axis=-1)
    assert abs(pixels(folder / "in_2x.png") - expected).max() <= 0.51


def test_strength_is_another_word_for_denoise(tileup: Command) -> None:
    printed = [
        tileup("upscale", "--print-config", flag, "0.4").out for flag in ("--denoise", "--strength")
    ]
    assert printed[0] == printed[1]
    assert "min_denoise: 0.4\nmax_denoise: 0.4\n" in printed[0]


@pytest.mark.parametrize(
    ("flags", "size"),
    [
        (["-s", "1.37"], (55, 44)),
        (["--size", "61x97"], (61, 97)),
        (["--long-edge", "99"], (99, 79)),
        (["--short-edge", "51"], (64, 51)),
        (["--max-pixels", "3000"], (61, 48)),
        (["-s", "1"], (40, 32)),
    ],
)
def test_sizes_are_exact(
    smoke: Command, folder: Path, flags: list[str], size: tuple[int, int]
) -> None:
    assert smoke("in.png", "-o", "out.png", *flags).code == 0
    assert size_of(folder / "out.png") == size


@pytest.mark.parametrize("extension", ["jpg", "webp", "tif", "png"])
def test_formats(smoke: Command, folder: Path, extension: str) -> None:
    assert smoke("in.png", "-f", extension, "--quality", "80").code == 0
    with Image.open(folder / f"in_2x.{extension}") as image:
        assert image.size == (80, 64)


def test_names(smoke: Command, folder: Path) -> None:
    ran = smoke("in.png", "--name", "{stem}-{seed}-{width}.{ext}", "--seed", "12")
    assert ran.code == 0
    assert (folder / "in-12-80.png").exists()


def test_a_folder_is_mirrored_and_a_rerun_skips(smoke: Command, folder: Path) -> None:
    save(folder / "photos" / "a.png", 20, 20)
    save(folder / "photos" / "sub" / "b.png", 20, 16, seed=1)
    first = smoke("photos", "-r", "-o", "out", "--json", "--heatmap", "maps")
    assert first.code == 0
    assert [line["outcome"] for line in first.lines] == ["done", "done"]
    assert [line["output"] for line in first.lines] == ["out/a_2x.png", "out/sub/b_2x.png"]
    assert (folder / "maps" / "sub" / "b_2x_heatmap.png").exists()
    again = smoke("photos", "-r", "-o", "out", "--json")
    assert again.code == 0
    assert [line["outcome"] for line in again.lines] == ["skipped", "skipped"]
    assert "2 pictures: 2 done already" in again.err


def test_json_lines(smoke: Command, folder: Path) -> None:
    (folder / "bad.png").write_text("no picture")
    done, failed = smoke("in.png", "bad.png", "-o", "out/", "--json").lines
    assert list(done) == ["input", "output", "outcome", "error", "seconds", "cost"]
    assert (done["input"], done["output"]) == ("in.png", "out/in_2x.png")
    assert (done["outcome"], done["error"]) == ("done", None)
    assert done["seconds"] > 0
    assert set(done["cost"]) == {
        "tiles",
        "windows",
        "model_calls",
        "megapixel_steps",
        "uniform_megapixel_steps",
    }
    assert (failed["outcome"], failed["cost"]) == ("failed", None)
    assert "bad.png is not a picture" in failed["error"]


def test_what_is_counted_beforehand_is_what_the_run_tells(smoke: Command, tileup: Command) -> None:
    planned = json.loads(tileup("plan", *QUICK, "in.png", "--json").out)
    assert smoke("in.png", "--json").lines[0]["cost"] == planned["cost"]


def test_companions(smoke: Command, folder: Path) -> None:
    assert smoke("in.png", "--heatmap", "auto", "--plan-json", "plan.json").code == 0
    assert sorted(path.name for path in folder.iterdir()) == [
        "in.png",
        "in_2x.png",
        "in_2x_heatmap.png",
        "plan.json",
    ]
    plan = json.loads((folder / "plan.json").read_text())
    assert (plan["width"], plan["height"], plan["scale"]) == (80, 64, 2)


def test_metadata_is_read_by_others_or_absent(smoke: Command, folder: Path) -> None:
    smoke("in.png", "-o", "with.png", "--seed", "5")
    smoke("in.png", "-o", "without.png", "--no-metadata")
    info = ParserManager().parse(folder / "with.png")
    assert info is not None
    assert info.generator.name == "AUTOMATIC1111"
    (sampler,) = info.samplers
    assert (sampler.name, sampler.parameters["seed"]) == ("Euler", "5")
    assert (sampler.parameters["steps"], sampler.model.name) == ("2", "tileup-small")
    assert json.loads(read_metadata(folder / "with.png")["tileup"])["seed"] == 5
    assert ParserManager().parse(folder / "without.png") is None
    assert read_metadata(folder / "without.png") == {}


def test_quiet_and_verbose(smoke: Command) -> None:
    assert smoke("in.png", "-q").err == ""
    words = smoke("in.png", "--overwrite", "-v").err
    assert "in.png -> in_2x.png" in words
    assert "loading the model" in words


def test_equal_strengths_are_pointed_out_once_and_only_where_nobody_asked_for_them(
    smoke: Command, folder: Path
) -> None:
    save(folder / "two.png", 20, 20)
    chance = ("--min-denoise", "0.8", "--max-denoise", "0.8")
    ran = smoke("in.png", "two.png", "-o", "out", *chance[:2])
    assert ran.err.count("warning: min-denoise equals max-denoise") == 1
    assert smoke("in.png", "-o", "quiet.png", *chance[:2], "-q").err == ""
    for number, asked in enumerate((("--denoise", "0.3"), chance)):
        assert "warning" not in smoke("in.png", "-o", f"{number}.png", *asked).err


def test_a_log_file_gets_everything(smoke: Command, folder: Path) -> None:
    for _ in range(2):
        assert smoke("in.png", "-q", "--overwrite", "--log-file", "log.txt").code == 0
    log = (folder / "log.txt").read_text()
    assert log.count("loading the model") == 2
    assert log.count("in_2x.png  80x64") == 2


def test_standard_input_and_output(process: Callable[..., Process], folder: Path) -> None:
    data = (folder / "in.png").read_bytes()
    done = process("upscale", "-", *QUICK, "-f", "webp", stdin=data)
    assert done.code == 0
    with Image.open(io.BytesIO(done.out)) as image:
        assert (image.format, image.size) == ("WEBP", (80, 64))
    assert done.err.startswith("-  80x64")
    done = process("upscale", "-", *QUICK, "-o", "-", stdin=b"no picture")
    assert (done.code, done.out) == (3, b"")


def test_a_picture_is_not_written_to_a_terminal(
    tileup: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    ran = tileup("upscale", "in.png", "-o", "-")
    assert ran.code == 2
    assert "not written to a terminal" in ran.sentence


# --- settings -------------------------------------------------------------------------------


def test_print_config_needs_no_input_and_is_a_config(tileup: Command, folder: Path) -> None:
    flags = ["--preset", "subtle", "--long-edge", "900", "--seed", "3"]
    first = tileup("upscale", "--print-config", *flags)
    assert first.code == 0
    settings = yaml.safe_load(first.out)
    assert (settings["min_denoise"], settings["long_edge"]) == (0.3, 900)
    (folder / "config.yaml").write_text(first.out)
    assert tileup("upscale", "--print-config", "-c", "config.yaml").out == first.out
    assert tileup("plan", "--print-config", "-c", "config.yaml").out == first.out


def test_layers_as_a_user_meets_them(
    tileup: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def steps(*flags: str) -> object:
        return yaml.safe_load(tileup("upscale", "--print-config", *flags).out)["steps"]

    (folder / "config.yaml").write_text("steps: 21\n")
    preset, config = ("--preset", "smoke"), ("-c", "config.yaml")
    assert steps() == 3
    assert steps(*preset) == 2
    assert steps(*preset, *config) == 21
    monkeypatch.setenv("TILEUP_STEPS", "22")
    assert steps(*preset, *config) == 22
    assert steps(*preset, *config, "--steps", "23") == 23


def test_the_environment_names_the_model(
    tileup: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TILEUP_MODEL", "nonesuch")
    assert tileup("upscale", "--print-config").code == 4
    assert tileup("upscale", "--print-config", "-m", "tileup-small").code == 0


def test_metadata_can_be_switched_on_again(
    tileup: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TILEUP_METADATA", "false")
    assert "metadata: false" in tileup("upscale", "--print-config").out
    assert "metadata: true" in tileup("upscale", "--print-config", "--metadata").out


@pytest.mark.parametrize(("text", "value"), [("auto", "auto"), ("0.02", 0.02), ("1e-3", 0.001)])
def test_the_detail_threshold_is_a_number_or_auto(
    tileup: Command, text: str, value: object
) -> None:
    ran = tileup("upscale", "--print-config", "--detail-threshold", text)
    assert yaml.safe_load(ran.out)["detail_threshold"] == value


def test_every_setting_has_a_flag(tileup: Command) -> None:
    settings = yaml.safe_load(tileup("upscale", "--print-config").out)
    ran = tileup("upscale", "--help")
    assert ran.code == 0
    for name in settings:
        assert f"--{name.replace('_', '-')}" in ran.out, name
    assert "not noise removal" in " ".join(ran.out.replace("│", " ").split())
