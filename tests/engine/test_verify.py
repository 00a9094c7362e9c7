"""Finished pictures held against their journal: each kind of harm is found, and only that."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from PIL import Image, PngImagePlugin

from tests.doubles import DoubleModel, blurring_denoiser, gaussian_denoiser, photograph
from tileup.cli.main import main
from tileup.engine.jobs import find_jobs
from tileup.engine.journal import NAME, Journal, fingerprint_of
from tileup.engine.local import run
from tileup.engine.redraw import Redrawing, chosen, parse_share
from tileup.engine.request import Request
from tileup.engine.verify import verify
from tileup.errors import ExitCode, NoInputError, UsageError
from tileup.images.reading import open_picture
from tileup.settings.values import Settings
from tileup.upscaling import upscale_picture

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


def test_a_hash_that_was_made_to_fit_hides_no_other_settings(out: Path) -> None:
    """Not even of a seed, in which pictures of one run may differ."""
    other = replace(SETTINGS, seed=99)
    jobs = find_jobs(Request(("in/c.png",), output="else/c.png"), other)
    list(run(jobs, other, lambda _: DoubleModel(gaussian_denoiser)))
    path = out / "c_2x.png"
    path.write_bytes(Path("else/c.png").read_bytes())
    journal = Journal(out)
    record = journal.latest(path)
    assert record is not None
    journal.append(replace(record, result=fingerprint_of(path)))
    assert wrong(out) == {"c_2x.png": "made with other settings than those on record"}


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


def forge(path: Path, settings: Settings) -> None:
    """Lay pixels made with other settings under the words and the record of a picture."""
    with Image.open(path) as image:
        before, text = image.convert("RGB"), dict(image.info)
    pixels = upscale_picture(
        open_picture(Path("in") / f"{path.stem[0]}.png"), DoubleModel(blurring_denoiser), settings
    ).image
    assert (np.asarray(pixels) != np.asarray(before)).any()
    info = PngImagePlugin.PngInfo()
    for key, value in text.items():
        if isinstance(value, str):
            info.add_itxt(key, value)
    pixels.save(path, pnginfo=info)
    journal = Journal(path.parent)
    record = journal.latest(path)
    assert record is not None
    journal.append(replace(record, result=fingerprint_of(path)))


DRAWN = replace(SETTINGS, max_denoise=0.8)


@pytest.fixture
def drawn(out: Path) -> Path:
    """A folder with four pictures that a network has drawn."""
    jobs = find_jobs(Request(("in",), output="drawn"), DRAWN)
    assert all(each.outcome == "done" for each in run(jobs, DRAWN, load))
    return out.parent / "drawn"


def load(settings: Settings) -> DoubleModel:
    return DoubleModel(blurring_denoiser)


def wrong_when_redrawn(folder: Path, share: float = 1) -> dict[str, str]:
    findings = [*verify(folder, Redrawing(load), share)]
    assert any(each.redrawn for each in findings)
    return {each.output: each.verdict for each in findings if not each.sound}


def test_pictures_drawn_again_are_the_same(drawn: Path) -> None:
    assert wrong_when_redrawn(drawn) == {}


def test_pixels_of_other_settings_are_found_by_drawing_alone(drawn: Path) -> None:
    """Recorded and told as if they were made with those of the run: only a drawing tells."""
    forge(drawn / "b_2x.png", replace(DRAWN, steps=1, seed=3))
    assert wrong(drawn) == {}
    found = wrong_when_redrawn(drawn)
    assert [*found] == ["b_2x.png"]
    assert "another picture than its input and settings give" in found["b_2x.png"]


def test_harm_is_found_before_anything_is_drawn(drawn: Path) -> None:
    path = drawn / "a_2x.png"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    b, c = ((drawn / f"{name}_2x.png").read_bytes() for name in "bc")
    (drawn / "b_2x.png").write_bytes(c)
    (drawn / "c_2x.png").write_bytes(b)
    findings = [*verify(drawn, Redrawing(load))]
    assert [each.sound for each in findings] == [False, False, False, True]
    assert [each.redrawn for each in findings] == [False, False, False, True]


def test_rounding_of_another_machine_is_no_harm(drawn: Path) -> None:
    path = drawn / "c_2x.png"
    for apart, sound in ((1, True), (3, False)):
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB")).astype(int)
        Image.fromarray((pixels + np.where(pixels < 128, apart, -apart)).astype(np.uint8)).save(
            path
        )
        journal = Journal(drawn)
        record = journal.latest(path)
        assert record is not None
        journal.append(replace(record, result=fingerprint_of(path)))
        assert (wrong_when_redrawn(drawn) == {}) is sound


@pytest.mark.parametrize(
    ("there", "asked"),
    [
        (("float32", "int8"), ("cpu", "auto", "int8")),
        (("float32", "torch"), ("auto", "float32", "auto")),
        (("float32", "ncnn"), ("auto", "float32", "auto")),
        (("bfloat16", "torch"), ("auto", "bfloat16", "auto")),
    ],
    ids=str,
)
def test_a_picture_is_drawn_again_as_it_was_computed(
    out: Path, there: tuple[str, str], asked: tuple[str, str, str]
) -> None:
    """What `auto` means here may differ from there by more than rounding. The bytes, which tell the
    settings, stay the same."""
    dtype, runtime = there
    model = DoubleModel(blurring_denoiser, dtype=getattr(torch, dtype), runtime=runtime)
    jobs = find_jobs(Request(("in",), output="open/"), DRAWN)
    assert all(each.outcome == "done" for each in run(jobs, DRAWN, lambda _: model))
    folder, seen = out.parent / "open", list[Settings]()

    def load(settings: Settings) -> DoubleModel:
        seen.append(settings)
        return model

    redrawing = Redrawing(load)
    assert all(each.sound and each.redrawn for each in verify(folder, redrawing))
    assert {(each.device, each.dtype, each.runtime) for each in seen} == {asked}
    record = Journal(folder).records()[0]
    assert redrawing._drawn(folder, record) == (folder / record.output).read_bytes()


def test_what_cannot_be_drawn_again_is_said(drawn: Path) -> None:
    Path("in/a.png").unlink()
    Image.new("RGB", (24, 16)).save("in/b.png")
    journal = Journal(drawn)
    record = journal.latest(drawn / "c_2x.png")
    assert record is not None
    journal.append(replace(record, drawn={}))
    found = wrong_when_redrawn(drawn)
    assert [*found] == ["a_2x.png", "b_2x.png", "c_2x.png"]
    assert all(each.startswith("cannot be drawn again: its ") for each in found.values())


def test_a_share_of_the_pictures_is_drawn_by_chance(drawn: Path) -> None:
    for share, count in ((0.01, 1), (0.26, 2), (0.5, 2), (1, 4)):
        findings = [*verify(drawn, Redrawing(load), share)]
        assert sum(each.redrawn for each in findings) == count
    records = Journal(drawn).records()
    seen = {chosen(records, 0.25, Random(seed)) for seed in range(40)}
    assert len(seen) == 4


@pytest.mark.parametrize("text", ["0%", "101", "x", "-3%", "nan"])
def test_a_share_that_cannot_be(text: str) -> None:
    with pytest.raises(UsageError, match="such as 5%"):
        parse_share(text)


def test_the_command_draws_again(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--preset", "smoke", "-m", "tileup-small", "--prompt", "grass"]
    assert main(["upscale", "in/a.png", "in/b.png", "-o", "real/", *flags]) == ExitCode.OK
    assert main(["verify", "real", "--redraw", "50%"]) == ExitCode.OK
    assert "2 of 2 pictures as made, 1 of them drawn again" in capsys.readouterr().err
    assert main(["verify", "real", "--redraw", "0"]) == ExitCode.USAGE


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
