"""The journal: what is skipped and what is made again, and lines that survive anything."""

# pyright: basic
from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from tests.doubles import DoubleModel, gaussian_denoiser, photograph
from tileup.contracts import Box, Model
from tileup.engine.companions import save_heatmap
from tileup.engine.heatmaps import TITLE
from tileup.engine.jobs import find_jobs
from tileup.engine.journal import NAME, Fingerprint, Journal, Record, fingerprint_of, read_record
from tileup.engine.local import run
from tileup.engine.outcomes import Outcome, exit_code
from tileup.engine.request import Request, Standing
from tileup.engine.resume import counted, is_cut, named_files, run_hash
from tileup.errors import ExitCode, RecordedFailureError
from tileup.images.formats.known import FORMATS
from tileup.images.metadata import read_metadata
from tileup.images.reading import open_picture
from tileup.plan.planning import plan_picture
from tileup.settings.values import Settings

SETTINGS = Settings(tile=32, min_tile=16, overlap=8, steps=2)
RECORD = Record(
    "a_2x.png", "in/a.png", "done", "0f", Fingerprint(3, 5, "aa"), Fingerprint(4, 6, "bb"), ("p",)
)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with three pictures in `in/`."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    for number, name in enumerate(("a.png", "b.png", "c.png")):
        draw(tmp_path / "in" / name, number)
    return tmp_path


def draw(path: Path, seed: int) -> None:
    Image.fromarray((photograph(16, 24, seed=seed) * 255).astype(np.uint8)).save(path)


def model(settings: Settings = SETTINGS) -> Model:
    return DoubleModel(gaussian_denoiser)


def made(settings: Settings = SETTINGS, load: object = model, **request: object) -> list[Outcome]:
    jobs = find_jobs(Request(("in",), output="out", **request), settings)  # type: ignore[arg-type]
    return list(run(jobs, settings, load))  # type: ignore[arg-type]


def standings(settings: Settings = SETTINGS, **request: object) -> list[Standing]:
    wanted = Request(("in",), output="out", **request)  # type: ignore[arg-type]
    return [job.standing for job in find_jobs(wanted, settings)]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("[!.]*")}


def test_a_record_survives_its_line() -> None:
    assert read_record(RECORD.to_line()) == RECORD
    failed = replace(RECORD, outcome="failed", source=None, result=None, error="x\ny", code=3)
    assert read_record(failed.to_line()) == failed
    assert failed.to_line().count(b"\n") == 1


@pytest.mark.parametrize(
    "line", [b"", b"{", b"[]", b"7", b"null", b"{}", b"\xff\xfe", b'{"output": 3}', b"[" * 100_000]
)
def test_what_is_no_record_is_passed_over(line: bytes, folder: Path) -> None:
    assert read_record(line) is None
    (folder / NAME).write_bytes(RECORD.to_line() + line)
    journal = Journal(folder)
    assert journal.latest(folder / "a_2x.png") == RECORD
    other = replace(RECORD, output="b_2x.png")
    journal.append(other)
    assert journal.latest(folder / "b_2x.png") == other, "the torn line took nothing with it"
    assert Journal(folder).latest(folder / "b_2x.png") == other


def test_the_last_record_counts_and_others_are_seen(folder: Path) -> None:
    ours, theirs = Journal(folder), Journal(folder)
    assert ours.latest(folder / "a_2x.png") is None
    theirs.append(RECORD)
    theirs.append(replace(RECORD, settings="1f"))
    found = ours.latest(folder / "a_2x.png")
    assert found is not None
    assert found.settings == "1f"
    assert len((folder / NAME).read_bytes().splitlines()) == 2


def test_marks(folder: Path) -> None:
    path = folder / "in" / "a.png"
    mark = fingerprint_of(path)
    assert mark is not None
    assert mark.fits(path)
    os.utime(path, ns=(1, 1))
    assert mark.fits(path), "another time, the same content"
    data = path.read_bytes()
    path.write_bytes(data[:-1] + b"x")
    assert not mark.fits(path), "the same size, another content"
    path.write_bytes(data[:-1])
    assert not mark.fits(path)
    path.unlink()
    assert not mark.fits(path)
    assert fingerprint_of(path) is None
    os.mkfifo(path)
    assert fingerprint_of(path) is None
    assert not mark.fits(path)


def test_what_is_done_is_skipped_before_anything_is_computed(folder: Path) -> None:
    assert [each.outcome for each in made()] == ["done"] * 3

    def never(settings: Settings) -> Model:
        raise AssertionError("no model is needed")

    assert [each.outcome for each in made(load=never)] == ["skipped"] * 3
    assert standings() == [Standing.DONE] * 3


def test_only_what_is_amiss_is_made_again_and_becomes_what_it_was(folder: Path) -> None:
    made()
    before = contents(folder / "out")
    (folder / "out" / "a_2x.png").unlink()
    (folder / "out" / "b_2x.png").write_bytes(before["b_2x.png"][:-20])
    assert standings() == [Standing.MISSING, Standing.DAMAGED, Standing.DONE]
    assert [each.outcome for each in made()] == ["done", "done", "skipped"]
    assert contents(folder / "out") == before


@pytest.mark.parametrize("format", ["png", "jpg", "webp", "bmp"])
def test_a_cut_of_any_length_is_no_edit(folder: Path, format: str) -> None:
    settings = replace(SETTINGS, format=format)
    made(settings)
    path = folder / "out" / f"b_2x.{format}"
    whole = path.read_bytes()
    assert not is_cut(path)
    for length in (1, 2, 11, 13, 21, len(whole) // 2):
        path.write_bytes(whole[:-length])
        assert standings(settings) == [Standing.DONE, Standing.DAMAGED, Standing.DONE], length


@pytest.mark.parametrize("format", ["png", "jpg", "webp"])
def test_what_another_program_has_added_behind_the_end_is_an_edit(
    folder: Path, format: str
) -> None:
    """Editors of phones do so, with a JPEG of their own in it or none."""
    settings = replace(SETTINGS, format=format)
    made(settings)
    path = folder / "out" / f"b_2x.{format}"
    whole = path.read_bytes()
    for added in (b"x", bytes(100), b"\xff\xd8\xff\xda..\xff\xd9SEFT"):
        path.write_bytes(whole + added)
        assert standings(settings) == [Standing.DONE, Standing.EDITED, Standing.DONE]
        assert path.read_bytes() == whole + added


def test_other_settings_and_a_changed_input(folder: Path) -> None:
    made()
    before = contents(folder / "out")
    draw(folder / "in" / "c.png", 9)
    assert standings() == [Standing.DONE, Standing.DONE, Standing.CHANGED]
    other = replace(SETTINGS, steps=3)
    assert standings(other) == [Standing.OTHER_SETTINGS] * 3
    kept = made(other)
    assert [each.outcome for each in kept] == ["failed"] * 3, "nothing is replaced unasked"
    assert "is there already, made with other settings; use --overwrite" in str(kept[0].error)
    assert exit_code(kept) == ExitCode.CANNOT_WRITE
    assert contents(folder / "out") == before
    assert [each.outcome for each in made(other, overwrite=True)] == ["done"] * 3
    after = contents(folder / "out")
    assert all(before[name] != after[name] for name in before)
    assert standings(other) == [Standing.DONE] * 3


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"batch": 1}, True),
        ({"device": "cpu"}, True),
        ({"threads": 1}, True),
        ({"seed": 3}, False),
        ({"quality": 50}, False),
        ({"metadata": False}, False),
        ({"min_denoise": 0.3}, False),
    ],
)
def test_what_counts_as_other_settings(change: dict[str, object], same: bool) -> None:
    changed = replace(SETTINGS, **change)  # type: ignore[arg-type]
    assert (run_hash(changed, None) == run_hash(SETTINGS, None)) == same


def test_the_model_and_drawn_pictures_count_by_their_content(folder: Path) -> None:
    (folder / "m.safetensors").write_bytes(b"one")
    (folder / "n.safetensors").write_bytes(b"one")
    assert run_hash(SETTINGS, folder / "m.safetensors") == run_hash(
        SETTINGS, folder / "n.safetensors"
    )
    first = run_hash(replace(SETTINGS, mask="in/a.png"), folder / "m.safetensors")
    (folder / "m.safetensors").write_bytes(b"two")
    assert run_hash(replace(SETTINGS, mask="in/a.png"), folder / "m.safetensors") != first
    assert run_hash(replace(SETTINGS, mask="in/b.png"), folder / "n.safetensors") != first


def test_a_prompt_beside_a_picture_counts_for_it_alone(folder: Path) -> None:
    wordy = replace(SETTINGS, prompt_file=True, prompt="a street")
    (folder / "in" / "a.txt").write_text("a church at night\n")
    (folder / "in" / "c.txt").write_bytes(b"\xff\xfe\x00")
    assert [each.outcome for each in made(wordy)] == ["done", "done", "failed"]
    prompts = [read_metadata(folder / "out" / f"{name}_2x.png") for name in "ab"]
    assert prompts[0]["parameters"].startswith("a church at night\n")
    assert prompts[1]["parameters"].startswith("a street\n")
    assert standings(wordy) == [Standing.DONE, Standing.DONE, Standing.FAILED]
    (folder / "in" / "a.txt").write_text("a church at noon")
    (folder / "in" / "c.txt").write_text("a lake")
    assert standings(wordy) == [Standing.CHANGED, Standing.DONE, Standing.NEW]
    assert [each.outcome for each in made(wordy)] == ["done", "skipped", "done"]
    (folder / "in" / "b.txt").write_text("a road")
    assert standings(wordy) == [Standing.DONE, Standing.CHANGED, Standing.DONE]
    assert standings(replace(wordy, steps=3)) == [Standing.OTHER_SETTINGS] * 3


def test_files_of_a_model_count_by_their_content(folder: Path) -> None:
    for name in ("one", "two"):
        (folder / name).write_bytes(b"weights")
    first = run_hash(replace(SETTINGS, vae="one", lora=("one:0.5",)), None)
    assert run_hash(replace(SETTINGS, vae="two", lora=("two:0.5",)), None) == first
    assert run_hash(replace(SETTINGS, vae="two", lora=("two:0.6",)), None) != first
    (folder / "two").write_bytes(b"heights")
    assert run_hash(replace(SETTINGS, vae="two", lora=("one:0.5",)), None) != first
    assert run_hash(replace(SETTINGS, vae="one", lora=("two:0.5",)), None) != first
    assert run_hash(replace(SETTINGS, vae="one"), None) != first


def test_files_that_a_prompt_names_count_by_their_content(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TILEUP_MODELS", str(folder / "models"))
    (folder / "models").mkdir()
    named = {
        "prompt": "(embedding:cat:1.2), <lora:style:0.8>",
        "negative": "embedding:bad",
        "vae": "own",
        "lora": ("more:0.5",),
        "embedding": ("dog.pt",),
    }
    settings = replace(SETTINGS, **named)
    seen = {run_hash(settings, None), run_hash(SETTINGS, None)}
    for name in ("cat", "style", "bad", "own", "more", "dog"):
        for content in (b"one", b"two"):
            suffix = ".pt" if name == "dog" else ".safetensors"
            (folder / "models" / f"{name}{suffix}").write_bytes(content)
            seen.add(run_hash(settings, None))
    assert len(seen) == 14, "each file counts when it comes, and when it changes"
    (folder / "models" / "other.safetensors").write_bytes(b"one")
    assert run_hash(settings, None) in seen
    found = {path.stem for path in named_files(settings).values() if path.exists()}
    assert found == {"cat", "style", "bad", "own", "more", "dog"}
    # Encoded prompts take the prompt's place, so that nothing of it is read.
    encoded = [replace(SETTINGS, prompt_embeds="e", prompt=text) for text in ("", named["prompt"])]
    assert named_files(encoded[0]) == named_files(encoded[1])


def test_a_file_that_the_prompt_beside_a_picture_names_counts_for_it_alone(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TILEUP_MODELS", str(folder))
    (folder / "cat.safetensors").write_bytes(b"one")
    (folder / "in" / "a.txt").write_text("embedding:cat on a wall")
    wordy = replace(SETTINGS, prompt_file=True)
    made(wordy)
    assert standings(wordy) == [Standing.DONE] * 3
    (folder / "cat.safetensors").write_bytes(b"two")
    assert standings(wordy) == [Standing.CHANGED, Standing.DONE, Standing.DONE]


def test_all_files_of_a_model_in_several_count(folder: Path) -> None:
    """Shards of an index, a folder of diffusers, and what PEFT writes beside a LoRA."""
    (folder / "m" / "unet").mkdir(parents=True)
    index = folder / "m.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "m-1.safetensors", "b": "m-2.safetensors"}}))
    paths = {
        "m-2.safetensors": index,
        "m/unet/model.safetensors": folder / "m",
        "adapter_config.json": folder / "adapter_model.safetensors",
    }
    (folder / "adapter_model.safetensors").write_bytes(b"lora")
    for part, path in paths.items():
        seen = {run_hash(SETTINGS, path)}
        for content in (b"one", b"two"):
            (folder / part).write_bytes(content)
            seen.add(run_hash(SETTINGS, path))
        assert len(seen) == 3, part
    (folder / "m" / "unet" / "model.safetensors").rename(folder / "m" / "unet" / "moved.bin")
    assert run_hash(SETTINGS, folder / "m") not in seen


def test_a_pipe_among_the_settings_is_not_waited_for(folder: Path) -> None:
    os.mkfifo(folder / "pipe.png")
    for name in ("mask", "denoise_map", "upscaler", "vae"):
        assert run_hash(replace(SETTINGS, **{name: "pipe.png"}), folder / "pipe.png")


def test_settings_at_their_defaults_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a version with more settings does not redo what one with fewer has done."""
    before = run_hash(SETTINGS, None)
    older = [each for each in dataclasses.fields(Settings) if each.name != "low_memory"]
    values = {each.name: getattr(SETTINGS, each.name) for each in older}
    fewer = dataclasses.make_dataclass(
        "Fewer", [(each.name, object, each.default) for each in older], frozen=True
    )
    monkeypatch.setattr("tileup.engine.resume.Settings", fewer)
    assert run_hash(fewer(**values), None) == before


def test_recorded_failures_are_left_alone_and_named_again(folder: Path) -> None:
    good = (folder / "in" / "b.png").read_bytes()
    (folder / "in" / "b.png").write_bytes(good[:60])
    assert [each.outcome for each in made()] == ["done", "failed", "done"]
    again = made()
    assert [each.outcome for each in again] == ["skipped", "failed", "skipped"]
    assert isinstance(again[1].error, RecordedFailureError)
    assert "b.png is broken" in str(again[1].error)
    assert "--retry-failed" in str(again[1].error)
    assert exit_code(again) == ExitCode.SOME_FAILED
    assert standings(retry_failed=True)[1] == Standing.RETRIED
    retried = made(retry_failed=True)
    assert not isinstance(retried[1].error, RecordedFailureError)
    (folder / "in" / "b.png").write_bytes(good)
    assert standings()[1] == Standing.CHANGED, "another input needs no asking"
    assert [each.outcome for each in made()] == ["skipped", "done", "skipped"]


def test_failures_that_say_nothing_about_the_picture_are_tried_again(folder: Path) -> None:
    def full(x: Tensor, sigma: Tensor, windows: Sequence[Box]) -> Tensor:
        raise MemoryError

    assert [each.outcome for each in made(load=lambda _: DoubleModel(full))] == ["failed"] * 3
    assert standings() == [Standing.RETRIED] * 3
    assert [each.outcome for each in made()] == ["done"] * 3


def test_files_that_nobody_knows_are_kept(folder: Path) -> None:
    (folder / "out").mkdir()
    draw(folder / "out" / "a_2x.png", 7)
    (folder / "out" / "b_2x.png").write_bytes((folder / "out" / "a_2x.png").read_bytes()[:80])
    before = contents(folder / "out")
    assert standings() == [Standing.PRESENT, Standing.IN_THE_WAY, Standing.NEW]
    assert [each.outcome for each in made()] == ["skipped", "failed", "done"]
    assert standings(skip_existing=True) == [Standing.PRESENT] * 3
    assert standings(overwrite=True) == [Standing.NEW] * 3
    assert {name: contents(folder / "out")[name] for name in before} == before
    assert [each.outcome for each in made(overwrite=True)] == ["done"] * 3


def test_what_was_edited_is_kept_and_named(folder: Path) -> None:
    made()
    edited = folder / "out" / "a_2x.png"
    with Image.open(edited) as image:
        text = PngInfo()
        for name, value in image.text.items():  # type: ignore[attr-defined]
            text.add_text(name, value)
        image.rotate(180).save(edited, pnginfo=text)  # an editor that keeps what a picture says
    draw(folder / "out" / "b_2x.png", 9)  # and one that does not
    before = contents(folder / "out")
    for settings in (SETTINGS, replace(SETTINGS, steps=3)):
        assert standings(settings)[:2] == [Standing.EDITED] * 2
    jobs = find_jobs(Request(("in",), output="out"), SETTINGS)
    assert counted(jobs) == "2 changed since it was made, kept, 1 done already"
    assert [each.outcome for each in made()] == ["skipped"] * 3
    assert contents(folder / "out") == before
    assert [each.outcome for each in made(overwrite=True)] == ["done"] * 3


def test_without_its_journal_an_output_speaks_for_itself(folder: Path) -> None:
    made()
    (folder / "out" / NAME).unlink()
    assert standings() == [Standing.DONE] * 3
    assert standings(replace(SETTINGS, steps=3)) == [Standing.OTHER_SETTINGS] * 3
    draw(folder / "in" / "c.png", 9)
    cut = folder / "out" / "b_2x.png"
    cut.write_bytes(cut.read_bytes()[:-20])
    assert standings() == [Standing.DONE, Standing.DAMAGED, Standing.OTHER_INPUT]
    assert [each.outcome for each in made()] == ["skipped", "done", "failed"]


def test_one_picture_follows_the_rule_of_many(folder: Path) -> None:
    def one(settings: Settings = SETTINGS, **request: object) -> list[Outcome]:
        jobs = find_jobs(Request(("in/a.png",), **request), settings)  # type: ignore[arg-type]
        return list(run(jobs, settings, model))

    assert one()[0].outcome == "done"
    assert not (folder / "in" / NAME).exists(), "a picture alone keeps no journal"
    before = (folder / "in" / "a_2x.png").read_bytes()
    assert one()[0].outcome == "skipped"
    (refused,) = one(replace(SETTINGS, steps=3))
    assert "made with other settings" in str(refused.error)
    assert (folder / "in" / "a_2x.png").read_bytes() == before
    draw(folder / "in" / "a.png", 9)
    assert "made from another input" in str(one()[0].error)
    assert one(overwrite=True)[0].outcome == "done"
    draw(folder / "in" / "a_2x.png", 3)
    assert "is there already; use --overwrite" in str(one()[0].error)


def test_a_picture_alone_keeps_a_journal_true_that_is_there(folder: Path) -> None:
    made()
    jobs = find_jobs(Request(("in/a.png",), output="out/", overwrite=True), SETTINGS)
    list(run(jobs, SETTINGS, model))
    record = Journal(folder / "out").latest(folder / "out" / "a_2x.png")
    assert record is not None
    assert record.result is not None
    assert record.result.fits(folder / "out" / "a_2x.png")
    assert standings() == [Standing.DONE] * 3
    assert standings(replace(SETTINGS, seed=3)) == [Standing.OTHER_SETTINGS] * 3


IN_PLACE = [("in",), ("in/*.png",)]


@pytest.mark.parametrize("form", [*IN_PLACE, "shell"])
@pytest.mark.parametrize("journal", [True, False])
def test_any_form_goes_on_where_it_stopped(
    folder: Path, form: tuple[str, ...] | str, journal: bool
) -> None:
    """A folder, a quoted pattern, and names that the shell found, with outputs beside inputs."""

    def inputs() -> tuple[str, ...]:
        found = sorted(f"in/{path.name}" for path in (folder / "in").glob("[!.]*.png"))
        return tuple(found) if form == "shell" else form  # type: ignore[return-value]

    def go() -> dict[str, str]:
        jobs = find_jobs(Request(inputs(), heatmap="auto"), SETTINGS)
        return {str(each.job.input): each.outcome for each in run(jobs, SETTINGS, model)}

    names = [f"in/{name}.png" for name in "abc"]
    assert go() == dict.fromkeys(names, "done")
    (folder / "in" / "b_2x.png").unlink()
    (folder / "in" / "b_2x_heatmap.png").unlink()
    if not journal:
        (folder / "in" / NAME).unlink()
    again = go()
    assert {name: again[name] for name in names} == {
        "in/a.png": "skipped",
        "in/b.png": "done",
        "in/c.png": "skipped",
    }
    assert set(again.values()) == {"skipped", "done"}
    assert set(go().values()) == {"skipped"}
    made = {path.name for path in (folder / "in").glob("[!.]*")}
    assert made == {f"{each}{end}.png" for each in "abc" for end in ("", "_2x", "_2x_heatmap")}


FORMS = ("folder", "pattern", "list", "loop")


@pytest.mark.parametrize("output", [None, "out"])
@pytest.mark.parametrize("first", FORMS)
@pytest.mark.parametrize("then", FORMS)
def test_a_rerun_in_another_form_goes_on_too(
    folder: Path, first: str, then: str, output: str | None
) -> None:
    """A picture of a folder has a seed by its path, and one that was named the seed itself: what
    was asked for is the same, so neither form calls the other's pictures made otherwise."""
    # Any two of forms and outputs meet both seeds.
    seed = 7 * ((FORMS.index(first) + FORMS.index(then) + (output is None)) % 2)
    settings = replace(SETTINGS, seed=seed)
    names = [f"in/{name}.png" for name in "abc"]

    def go(form: str, settings: Settings = settings) -> dict[str, str]:
        runs = {"folder": [("in",)], "pattern": [("in/?.png",)], "list": [tuple(names)]}
        outcomes: dict[str, str] = {}
        for inputs in runs.get(form, [(name,) for name in names]):
            jobs = find_jobs(Request(inputs, output=output and f"{output}/"), settings)
            outcomes |= {str(each.job.input): each.outcome for each in run(jobs, settings, model)}
        return outcomes

    place = folder / (output or "in")
    assert go(first) == dict.fromkeys(names, "done")
    (place / "b_2x.png").unlink()
    before = {name: (place / name).read_bytes() for name in ("a_2x.png", "c_2x.png")}
    assert go(then) == {names[0]: "skipped", names[1]: "done", names[2]: "skipped"}
    assert go(first) == go(then) == dict.fromkeys(names, "skipped")
    assert {name: (place / name).read_bytes() for name in before} == before
    other = go(then, replace(settings, seed=seed + 1))
    assert other == dict.fromkeys(names, "failed"), "another seed was asked for"


def test_an_output_named_alone_is_enlarged_only_elsewhere(folder: Path) -> None:
    list(run(find_jobs(Request(("in/a.png",)), SETTINGS), SETTINGS, model))
    (job,) = find_jobs(Request(("in/a_2x.png",)), SETTINGS)
    assert job.standing is Standing.OWN
    (outcome,) = run([job], SETTINGS, model)
    assert (outcome.outcome, outcome.to_dict()["output"]) == ("skipped", None)
    for output in ("in/more.png", "out/"):
        (job,) = find_jobs(Request(("in/a_2x.png",), output=output), SETTINGS)
        assert job.standing is Standing.NEW
    (folder / "in" / "a.png").unlink()
    assert find_jobs(Request(("in/a_2x.png",)), SETTINGS)[0].standing is Standing.NEW, (
        "without its input it is a picture like others"
    )


def test_a_name_alone_makes_nothing_an_output(folder: Path) -> None:
    """A pair of assets, neither made here: both are enlarged, and neither is replaced."""
    draw(folder / "in" / "a_2x.png", 5)
    before = (folder / "in" / "a_2x.png").read_bytes()
    jobs = find_jobs(Request(("in",)), SETTINGS)
    outcomes = {str(each.job.input): each.outcome for each in run(jobs, SETTINGS, model)}
    assert outcomes == {
        "in/a.png": "skipped",
        "in/a_2x.png": "done",
        "in/b.png": "done",
        "in/c.png": "done",
    }
    assert (folder / "in" / "a_2x.png").read_bytes() == before
    assert (folder / "in" / "a_2x_2x.png").exists()


def picked(*inputs: str, **request: object) -> list[str]:
    """The pictures that a search takes, by their names."""
    jobs = find_jobs(Request(inputs, **request), SETTINGS)  # type: ignore[arg-type]
    return [job.input.name for job in jobs if job.input and not job.decided]


def test_an_output_is_told_by_its_words_whatever_its_name(folder: Path) -> None:
    """As `-o NAME` and `--name` give any: nothing of it need be its input's."""
    wanted = Request(("in/a.png",), output="in/xyz.png")
    (outcome,) = run(find_jobs(wanted, SETTINGS), SETTINGS, model)
    assert outcome.outcome == "done"
    everything = sorted(f"in/{path.name}" for path in (folder / "in").glob("*.png"))
    assert "in/xyz.png" in everything
    for inputs in (("in",), ("in/*.png",), everything, ("in/xyz.png", "in/a.png")):
        assert "xyz.png" not in picked(*inputs)
        assert "a.png" in picked(*inputs)
        assert "xyz.png" in picked(*inputs, output="out")
    (folder / "in" / "a.png").rename(folder / "a.png")
    assert "xyz.png" in picked("in"), "its input is elsewhere"


@pytest.mark.parametrize("format", [each.name for each in FORMATS if "exif" in each.holds])
def test_a_heatmap_is_no_picture_to_enlarge(
    folder: Path, format: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Told by what it says, in every format that says anything, and by nothing else."""
    picture = open_picture(folder / "in" / "a.png")
    plan = plan_picture(picture, DoubleModel(gaussian_denoiser).spec, SETTINGS).plan
    drawn = folder / "in" / f"x.{format}"
    save_heatmap(drawn, picture, plan, SETTINGS, False)
    draw(folder / "in" / "a_heatmap.png", 4)
    photographs = ["a.png", "a_heatmap.png", "b.png", "c.png"]
    everything = sorted(f"in/{path.name}" for path in (folder / "in").iterdir())
    for inputs in (("in",), ("in/*",), tuple(everything)):
        for output in (None, "out"):
            caplog.clear()
            assert picked(*inputs, output=output) == photographs
            assert "passed over: 1 drawn by --heatmap (-v names them)" in caplog.text
    (alone,) = find_jobs(Request((str(drawn),)), SETTINGS)
    assert alone.standing is Standing.OWN
    assert picked(str(drawn), output="out/") == [drawn.name], "somebody wants just this"
    save_heatmap(drawn, picture, plan, replace(SETTINGS, metadata=False), True)
    assert drawn.name in picked("in", output="out"), "--no-metadata says nothing"
    drawn.write_bytes(drawn.read_bytes()[:200] + TITLE.encode() + b"\0" * 50)
    assert drawn.name in picked("in", output="out"), "damaged: it fails when it has its turn"


def test_a_missing_companion_is_made(folder: Path) -> None:
    made()
    assert standings(heatmap="maps") == [Standing.MISSING] * 3
    made(heatmap="maps")
    assert standings(heatmap="maps") == [Standing.DONE] * 3


def test_the_journal_can_be_read_by_others(folder: Path) -> None:
    made(plan_json="auto")
    lines = (folder / "out" / NAME).read_text().splitlines()
    records = [json.loads(line) for line in lines]
    assert [record["output"] for record in records] == ["a_2x.png", "b_2x.png", "c_2x.png"]
    assert [record["outcome"] for record in records] == ["done"] * 3
    assert records[0]["input"] == "in/a.png"
    assert records[0]["also"] == ["a_2x_plan.json"]
    assert records[0]["seconds"] > 0


def test_the_words_for_the_counts(folder: Path) -> None:
    jobs = find_jobs(Request(("in",), output="out"), SETTINGS)
    assert counted(jobs) == ""
    made()
    (folder / "out" / "a_2x.png").unlink()
    jobs = find_jobs(Request(("in",), output="out"), SETTINGS)
    assert counted(jobs) == "1 missing, made again, 2 done already"


def test_outputs_of_other_runs_are_no_inputs(folder: Path) -> None:
    wanted = Request(("in",), output="in/out1", recursive=True)
    list(run(find_jobs(wanted, SETTINGS), SETTINGS, model))
    again = find_jobs(Request(("in",), output="in/out2", recursive=True), SETTINGS)
    assert [job.relative for job in again] == ["a.png", "b.png", "c.png"]
    renamed = replace(SETTINGS, suffix="-big")
    beside = find_jobs(Request(("in",), recursive=True), renamed)
    assert [str(job.output) for job in beside] == [f"in/{name}-big.png" for name in "abc"]
    list(run(beside, renamed, model))
    assert len(find_jobs(Request(("in",), recursive=True), SETTINGS)) == 3
    twice = find_jobs(Request(("in/out1",), output="twice"), SETTINGS)
    assert len(twice) == 3, "named by the user, results are inputs like others"
