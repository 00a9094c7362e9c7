"""What users see when something is wrong: one sentence, the exit code, and nothing half-written."""

from __future__ import annotations

import signal
import struct
import subprocess
import sys
import time
from io import BytesIO
from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.cli.conftest import Command, save
from tests.cli.forked import Forked
from tileup.checkpoints import load
from tileup.cli import upscale_command
from tileup.errors import ExitCode
from tileup.settings.typed import checked

UPSCALE_ONLY = [
    (["in.png", "-o", "out.gif"], "out.gif: format 'gif' cannot be written"),
    (["in.png", "--name", "{stm}.png"], "unknown field {stm}; did you mean 'stem'?"),
    (["in.png", "--quality", "0"], "quality must be between 1 and 100, got 0"),
    (["in.png", "--format", "gif"], "format 'gif' is not known"),
    (["in.png", "-o", "in.png", "--overwrite"], "in.png would replace the input in.png"),
    (["in.png", "--json", "-o", "-"], "--json and a picture cannot both go to standard output"),
    (["in.png", "in2.png", "-o", "-"], "standard output takes one picture"),
    (["in.png", "--device", "gpu"], "device 'gpu' is not known"),
    (["in.png", "--mask", "absent.png"], "mask: absent.png does not exist"),
    (["in.png", "--mask", "m.png", "-o", "m.png"], "m.png would replace the input m.png"),
    (["in.png", "--weights", "fether"], "did you mean 'feather'?"),
]
BOTH = [
    ([], "no input given; name a picture"),
    (["in.png", "--scal", "2"], "No such option: --scal"),
    (["in.png", "--scale", "two"], "Invalid value for '--scale'"),
    (["in.png", "--scale", "17"], "scale must be between 1 and 16, got 17"),
    (["in.png", "--min-denoise", "0.9"], "min-denoise (0.9) is above max-denoise (0.8)"),
    (["in.png", "--sampler", "eulr"], "sampler 'eulr' is not known; did you mean 'euler'?"),
    (["in.png", "--scheduler", "karas"], "scheduler 'karas' is not known; did you mean 'karras'?"),
    (["in.png", "--preset", "phot"], "preset 'phot' is not known; did you mean 'photo'?"),
    (["in.png", "--config", "absent.yaml"], "config absent.yaml: cannot be read"),
    (["in.png", "--overlap", "5000"], "overlap must be at most"),
    (["in.png", "--size", "9x9", "--long-edge", "9"], "only one of size and long-edge"),
]


@pytest.mark.parametrize(
    ("command", "arguments", "told"),
    [("upscale", *case) for case in UPSCALE_ONLY]
    + [(command, *case) for command in ("upscale", "plan") for case in BOTH],
)
def test_wrong_usage_is_2(
    tileup: Command, folder: Path, command: str, arguments: list[str], told: str
) -> None:
    ran = tileup(command, *arguments)
    assert ran.code == ExitCode.USAGE
    assert told in ran.sentence
    assert ran.sentence.startswith("tileup: ")
    assert ran.out == ""
    assert [path.name for path in folder.iterdir()] == ["in.png"]


def test_a_wrong_command_is_2(tileup: Command) -> None:
    ran = tileup("upscal", "in.png")
    assert ran.code == ExitCode.USAGE
    assert "No such command 'upscal'. Did you mean 'upscale'?" in ran.sentence


@pytest.mark.parametrize("command", ["upscale", "plan", "info"])
def test_no_usable_input_is_3(tileup: Command, folder: Path, command: str) -> None:
    (folder / "notes.txt").write_text("no picture")
    (folder / "cut.png").write_bytes((folder / "in.png").read_bytes()[:-500])
    (folder / "empty.png").write_bytes(b"")
    Image.new("LAB", (4, 4)).save(folder / "lab.tif")
    cases = {"absent.png": "absent.png does not exist", "notes.txt": "notes.txt is not a picture"}
    cases["empty.png"] = "empty.png is empty"
    if command != "info":
        cases |= {"cut.png": "cut.png is broken or cut short", "lab.tif": "convert it to RGB"}
    before = sorted(folder.iterdir())
    for name, told in cases.items():
        ran = tileup(command, name)
        assert ran.code == ExitCode.NO_INPUT, name
        assert told in ran.sentence
    assert sorted(folder.iterdir()) == before


def test_a_folder_without_pictures_is_3(tileup: Command, folder: Path) -> None:
    (folder / "none").mkdir()
    ran = tileup("upscale", "none")
    assert ran.code == ExitCode.NO_INPUT
    assert "no picture (PNG, JPEG, " in ran.sentence


def test_a_picture_larger_than_allowed_is_3_and_says_how_to_allow_it(tileup: Command) -> None:
    for command in ("upscale", "plan"):
        ran = tileup(command, "in.png", "--max-input-pixels", 1000)
        assert ran.code == ExitCode.NO_INPUT
        assert "40x32" in ran.sentence
        assert "--max-input-pixels" in ran.sentence


def test_some_failed_is_1_and_the_others_are_there(smoke: Command, folder: Path) -> None:
    (folder / "bad.png").write_text("no picture")
    ran = smoke("in.png", "bad.png", "absent.png", "-o", "out", "--json")
    assert ran.code == ExitCode.SOME_FAILED
    assert [line["outcome"] for line in ran.lines] == ["done", "failed", "failed"]
    assert "bad.png is not a picture" in ran.err
    assert "absent.png does not exist" in ran.err
    assert [path.name for path in (folder / "out").glob("[!.]*")] == ["in_2x.png"]


def test_one_picture_of_a_folder_is_named_where_it_fails(tileup: Command, folder: Path) -> None:
    save(folder / "more" / "b.png", 30, 20)
    ran = tileup("upscale", "more", "-o", "out", "--long-edge", "999")
    assert ran.sentence.startswith("tileup: more/b.png: 30x20 to 999x666 is 33.3 times one side")


def test_a_dry_run_ends_as_the_run_would(smoke: Command, folder: Path) -> None:
    save(folder / "more" / "b.png", 30, 20)
    assert smoke("more", "-o", "out").code == 0
    for flags, code in (((), 0), (("--seed", "3"), 6), (("--long-edge", "999"), 2)):
        dry, run = (smoke("more", "-o", "out", *flags, *more) for more in (["--dry-run"], []))
        assert (dry.code, run.code) == (code, code)


def test_a_config_of_ones_own_that_cannot_be_read_is_said(
    tileup: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folder))
    place = folder / "tileup" / "config.yaml"
    place.mkdir(parents=True)
    assert "config.yaml: cannot be read: Is a directory" in tileup("plan", "in.png").sentence
    place.rmdir()
    place.symlink_to("gone.yaml")
    assert "config.yaml: cannot be read: No such file" in tileup("plan", "in.png").sentence


@pytest.mark.parametrize("command", ["upscale", "plan"])
def test_a_model_that_cannot_be_used_is_4(tileup: Command, folder: Path, command: str) -> None:
    (folder / "text.safetensors").write_text("no model, but long enough to have a header")
    (folder / "lora.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{}      ")
    cases = {
        "nonesuch": "model 'nonesuch' is neither a file nor known by name",
        "in.png": "is not a safetensors file",
        "text.safetensors": "is not a safetensors file",
        "lora.safetensors": "is not a checkpoint that tileup can load",
    }
    for name, told in cases.items():
        ran = tileup(command, "in.png", "-m", name)
        assert ran.code == ExitCode.BAD_MODEL, name
        assert told in ran.sentence
    assert not (folder / "in_2x.png").exists()


def test_out_of_memory_is_5(smoke: Command, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def load_model(path: Path, device: str) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(load, "load_model", load_model)
    ran = smoke("in.png")
    assert ran.code == ExitCode.OUT_OF_MEMORY
    assert "out of memory; try a smaller --batch" in ran.sentence
    assert not (folder / "in_2x.png").exists()


def test_an_output_that_cannot_be_written_is_6_before_any_work(
    tileup: Command, folder: Path
) -> None:
    (folder / "file").write_text("in the way")
    ran = tileup("upscale", "in.png", "-o", "file/out.png")
    assert ran.code == ExitCode.CANNOT_WRITE
    assert "cannot write to file: Not a directory" in ran.sentence
    ran = tileup("plan", "in.png", "--heatmap", "file/map.png")
    assert ran.code == ExitCode.CANNOT_WRITE
    ran = tileup("upscale", "in.png", "--log-file", "file/log")
    assert ran.code == ExitCode.CANNOT_WRITE
    assert "log file file/log cannot be written" in ran.sentence


def test_a_log_on_a_full_disk_is_given_up_and_ends_no_run(smoke: Command, folder: Path) -> None:
    ran = smoke("in.png", "-o", "out.png", "--log-file", "/dev/full", "-q")
    assert (ran.code, (folder / "out.png").exists()) == (0, True)
    assert ran.sentence == "tileup: log file /dev/full is given up: No space left on device"


@pytest.mark.parametrize("name", ["in.png", "in.jpg", "model.safetensors"])
def test_a_log_is_not_added_to_what_is_no_log(tileup: Command, folder: Path, name: str) -> None:
    image = Image.open(BytesIO((folder / "in.png").read_bytes()))
    if name == "in.jpg":
        image.save(folder / name)
    if name == "model.safetensors":
        (folder / name).write_bytes(struct.pack("<Q", 2) + b"{}")
    before = (folder / name).read_bytes()
    ran = tileup("upscale", "in.png", "--log-file", name)
    assert ran.code == ExitCode.CANNOT_WRITE
    assert ran.sentence == f"tileup: log file {name} is there and is no text; name another file"
    assert (folder / name).read_bytes() == before


def test_a_home_that_no_shell_has_put_in_place(
    tileup: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = folder / "home"
    save(home / "in.png")
    (home / "c.yaml").write_text("mask: ~/in.png\n")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    asked = ("--config=~/c.yaml", "--denoise-map=~/in.png", "--heatmap=~/map.png")
    assert tileup("plan", "~/in.png", "-q", *asked).code == 0
    assert (home / "map.png").exists()
    assert checked({"lora": ["~/a.st:0.5"]}, "x") == {"lora": (f"{home / 'a.st'}:0.5",)}
    (folder / "~").mkdir()
    save(folder / "~" / "in.png")
    told = tileup("upscale", "~/in.png", "--output=~/out.png", "--dry-run", "--json").lines
    assert (told[0]["input"], told[0]["output"]) == ("~/in.png", str(home / "out.png"))


def test_an_output_that_is_there_already_is_6_and_stays(smoke: Command, folder: Path) -> None:
    (folder / "in_2x.png").write_text("precious")
    ran = smoke("in.png")
    assert ran.code == ExitCode.CANNOT_WRITE
    assert "in_2x.png is there already; use --overwrite" in ran.sentence
    assert (folder / "in_2x.png").read_text() == "precious"
    assert smoke("in.png", "--overwrite").code == ExitCode.OK
    assert (folder / "in_2x.png").read_bytes()[:4] == b"\x89PNG"


def test_a_heatmap_of_a_plan_does_not_replace_files(tileup: Command, folder: Path) -> None:
    save(folder / "other.png")
    before = (folder / "other.png").read_bytes()
    ran = tileup("plan", "in.png", "--heatmap", "other.png")
    assert ran.code == ExitCode.CANNOT_WRITE
    assert tileup("plan", "in.png", "--heatmap", "in.png", "--overwrite").code == ExitCode.USAGE
    assert (folder / "other.png").read_bytes() == before
    assert tileup("plan", "in.png", "--heatmap", "other.png", "--overwrite").code == ExitCode.OK
    assert (folder / "other.png").read_bytes() != before


def test_a_missing_extra_is_7(smoke: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    ran = smoke("in.png", "--engine", "ray")
    assert ran.code == ExitCode.MISSING_EXTRA
    assert ran.sentence == (
        "tileup: --engine ray needs Ray, which is not installed: pip install 'tileup[ray]'"
    )


def test_a_surprise_is_1_and_a_sentence_with_vv_a_traceback(
    tileup: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def find_jobs(*arguments: object) -> None:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(upscale_command, "find_jobs", find_jobs)
    ran = tileup("upscale", "in.png")
    assert ran.code == ExitCode.SOME_FAILED
    assert "unexpected ZeroDivisionError: division by zero" in ran.sentence
    ran = tileup("upscale", "in.png", "-vv")
    assert ran.code == ExitCode.SOME_FAILED
    assert "Traceback" in ran.err
    assert "find_jobs" in ran.err
    assert "Traceback" not in tileup("upscale", "in.png").err, "-vv holds for one command"


def test_a_failed_picture_has_its_traceback_with_vv(tileup: Command, folder: Path) -> None:
    (folder / "bad.png").write_text("no picture")
    assert "Traceback" in tileup("upscale", "bad.png", "-vv").err
    ran = tileup("upscale", "bad.png", "--log-file", "log.txt")
    assert "bad.png is not a picture" in ran.sentence
    assert "Traceback" in (folder / "log.txt").read_text()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_is_130_and_leaves_nothing_behind(folder: Path, number: int) -> None:
    save(folder / "large.png", 320, 240)
    command = ["upscale", "large.png", "-v", "--steps", "200"]
    command += ["--dtype", "float32", "--runtime", "torch"]
    with Forked(folder, *command) as running:
        for line in running.stderr:
            if b"loading" in line:
                break
        time.sleep(1)
        running.send_signal(number)
        rest = running.stderr.read().decode()
    assert running.returncode == ExitCode.INTERRUPTED
    way = "the network computes in float32 by torch\n"  # where it was loaded within that second
    assert rest.removeprefix(way) == "tileup: interrupted\n"
    assert sorted(path.name for path in folder.iterdir()) == ["in.png", "large.png"]


def test_file_names_cannot_steer_the_terminal(tileup: Command) -> None:
    ran = tileup("upscale", "\x1b]0;red\x07.png")
    assert ran.code == ExitCode.NO_INPUT
    assert "\\x1b]0;red\\x07.png does not exist" in ran.sentence


def test_a_reader_that_leaves_early_gets_no_traceback(folder: Path) -> None:
    command = f"{sys.executable} -m tileup plan in.png --json | head -c 1"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"], capture_output=True, cwd=folder, check=False
    )
    assert b"Traceback" not in done.stderr
    assert b"Exception" not in done.stderr
