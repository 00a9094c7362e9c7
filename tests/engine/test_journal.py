"""The journal: what is skipped and what is made again, and lines that survive anything."""

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
from torch import Tensor

from tests.doubles import DoubleModel, gaussian_denoiser, photograph
from tileup.contracts import Box, Model
from tileup.engine.jobs import find_jobs
from tileup.engine.journal import NAME, Journal, Mark, Record, mark_of, read_record
from tileup.engine.local import run
from tileup.engine.outcomes import Outcome, exit_code
from tileup.engine.resume import counted, run_hash
from tileup.engine.values import Request, Standing
from tileup.errors import ExitCode, RecordedFailureError
from tileup.images.metadata import read_metadata
from tileup.settings.values import Settings

SETTINGS = Settings(tile=32, min_tile=16, overlap=8, steps=2)
RECORD = Record("a_2x.png", "in/a.png", "done", "0f", Mark(3, 5, "aa"), Mark(4, 6, "bb"), ("p",))


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
    mark = mark_of(path)
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
    assert mark_of(path) is None
    os.mkfifo(path)
    assert mark_of(path) is None
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


def test_other_settings_and_a_changed_input(folder: Path) -> None:
    made()
    before = contents(folder / "out")
    draw(folder / "in" / "c.png", 9)
    assert standings() == [Standing.DONE, Standing.DONE, Standing.CHANGED]
    other = replace(SETTINGS, steps=3)
    assert standings(other) == [Standing.OTHER_SETTINGS] * 3
    assert [each.outcome for each in made(other)] == ["done"] * 3
    after = contents(folder / "out")
    assert all(before[name] != after[name] for name in before)
    assert standings(other) == [Standing.DONE] * 3


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"batch": 1}, True),
        ({"device": "cpu"}, True),
        ({"threads": 1}, True),
        ({"seed": 3}, True),  # it is in the picture's own seed
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
    assert standings(wordy) == [Standing.OTHER_SETTINGS, Standing.DONE, Standing.OTHER_SETTINGS]
    assert [each.outcome for each in made(wordy)] == ["done", "skipped", "done"]


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


def test_existing_files_without_a_record(folder: Path) -> None:
    (folder / "out").mkdir()
    draw(folder / "out" / "a_2x.png", 7)
    (folder / "out" / "b_2x.png").write_bytes((folder / "out" / "a_2x.png").read_bytes()[:80])
    before = contents(folder / "out")
    assert standings() == [Standing.PRESENT, Standing.DAMAGED, Standing.NEW]
    assert standings(skip_existing=True) == [Standing.PRESENT, Standing.PRESENT, Standing.NEW]
    assert standings(overwrite=True) == [Standing.NEW] * 3
    assert [each.outcome for each in made(skip_existing=True)] == ["skipped", "skipped", "done"]
    assert {name: contents(folder / "out")[name] for name in before} == before
    assert [each.outcome for each in made(overwrite=True)] == ["done"] * 3


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
