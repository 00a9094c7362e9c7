"""Finished pictures held against their journal: each kind of harm is found, and only that."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.doubles import DoubleModel, gaussian_denoiser, photograph
from tileup.cli.main import main
from tileup.engine.jobs import find_jobs
from tileup.engine.journal import NAME
from tileup.engine.local import run
from tileup.engine.values import Request
from tileup.engine.verify import verify
from tileup.errors import ExitCode, NoInputError
from tileup.settings.values import Settings

SETTINGS = Settings(tile=32, min_tile=16, overlap=8, steps=2, min_denoise=0, max_denoise=0)


def make(settings: Settings = SETTINGS, **request: object) -> None:
    jobs = find_jobs(Request(("in",), output="out", **request), settings)  # type: ignore[arg-type]
    for outcome in run(jobs, settings, lambda _: DoubleModel(gaussian_denoiser)):
        assert outcome.outcome in ("done", "skipped")


@pytest.fixture(autouse=True)
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with four pictures that were made, and their plans."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    for number, name in enumerate("abcd"):
        pixels = (photograph(16, 24, seed=number) * 255).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / "in" / f"{name}.png")
    make(plan_json="auto")
    return tmp_path / "out"


def wrong(out: Path) -> dict[str, str]:
    return {each.output: each.verdict for each in verify(out) if not each.sound}


def test_what_was_made_is_sound(out: Path) -> None:
    assert [each.output for each in verify(out)] == [f"{name}_2x.png" for name in "abcd"]
    assert wrong(out) == {}


@pytest.mark.parametrize("place", [0.1, 0.5, 0.9])
def test_a_flipped_bit(out: Path, place: float) -> None:
    path = out / "b_2x.png"
    before, data = path.stat(), bytearray(path.read_bytes())
    data[int(place * len(data))] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))  # as a disk would flip it
    assert list(wrong(out)) == ["b_2x.png"]


def test_a_swapped_file(out: Path) -> None:
    a, b, aside = out / "a_2x.png", out / "b_2x.png", out / "aside"
    a.rename(aside)
    b.rename(a)
    aside.rename(b)
    assert wrong(out) == {
        "a_2x.png": "swapped: it is what is on record as b_2x.png",
        "b_2x.png": "swapped: it is what is on record as a_2x.png",
    }


def test_a_picture_made_with_other_settings(out: Path) -> None:
    """Laid over the one that was made, or made and recorded among the others."""
    other = replace(SETTINGS, steps=3)
    jobs = find_jobs(Request(("in/c.png",), output="else/c.png"), other)
    list(run(jobs, other, lambda _: DoubleModel(gaussian_denoiser)))
    (out / "c_2x.png").write_bytes(Path("else/c.png").read_bytes())
    assert wrong(out) == {"c_2x.png": "made with other settings than those on record"}
    jobs = find_jobs(Request(("in/c.png",), output="out/c_2x.png", overwrite=True), other)
    list(run(jobs, other, lambda _: DoubleModel(gaussian_denoiser)))
    assert wrong(out) == {
        "c_2x.png": "made with other settings than most here: steps 3 instead of 2"
    }


def test_what_is_lost_cut_or_painted_over(out: Path) -> None:
    (out / "a_2x.png").unlink()
    cut = out / "b_2x.png"
    cut.write_bytes(cut.read_bytes()[:-13])
    Image.new("RGB", (48, 32)).save(out / "c_2x.png")
    (out / "d_2x_plan.json").unlink()
    assert wrong(out) == {
        "a_2x.png": "missing",
        "b_2x.png": "broken or cut short",
        "c_2x.png": "changed since it was made",
        "d_2x.png": "without d_2x_plan.json",
    }


def test_the_command(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "out"]) == ExitCode.OK
    assert "4 of 4 pictures as made" in capsys.readouterr().err
    (out / "a_2x.png").unlink()
    assert main(["verify", "out"]) == ExitCode.SOME_FAILED
    shown = capsys.readouterr()
    assert shown.out == "a_2x.png  missing\n"
    assert "3 of 4" in shown.err
    assert main(["verify", "out", "--json"]) == ExitCode.SOME_FAILED
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["sound"] for line in lines] == [False, True, True, True]


def test_a_folder_without_a_journal(out: Path) -> None:
    (out / NAME).unlink()
    with pytest.raises(NoInputError, match="holds no"):
        list(verify(out))
    assert main(["verify", "out"]) == ExitCode.NO_INPUT
