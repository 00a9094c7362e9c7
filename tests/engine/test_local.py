"""The run: one outcome per picture, files whole or absent, nothing loaded in vain."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from tests.doubles import DoubleModel, gaussian_denoiser, photograph
from tileup.contracts import Box, Model, Step
from tileup.engine.jobs import find_jobs
from tileup.engine.local import run
from tileup.engine.outcomes import Begun, Event, Loading, Outcome
from tileup.engine.request import Request
from tileup.errors import InputError, ModelError, OutOfMemoryError, OutputError, TileupError
from tileup.images.metadata import read_metadata
from tileup.settings.values import Settings

SETTINGS = Settings(tile=32, min_tile=16, overlap=8, steps=3)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with two pictures in `in/`."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    for number, name in enumerate(("a.png", "b.png")):
        pixels = (photograph(24, 32, seed=number) * 255).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / "in" / name)
    return tmp_path


def model(settings: Settings = SETTINGS) -> Model:
    return DoubleModel(gaussian_denoiser)


def made(
    *inputs: str, settings: Settings = SETTINGS, load: object = model, **request: object
) -> list[Outcome]:
    jobs = find_jobs(Request(inputs, **request), settings)  # type: ignore[arg-type]
    return list(run(jobs, settings, load))  # type: ignore[arg-type]


def test_a_folder_is_made_and_a_second_run_skips_it(folder: Path) -> None:
    first = made("in", output="out")
    assert [outcome.outcome for outcome in first] == ["done", "done"]
    assert all(outcome.size == (64, 48) and outcome.seconds > 0 for outcome in first)
    assert sorted(path.name for path in (folder / "out").glob("[!.]*")) == ["a_2x.png", "b_2x.png"]
    before = (folder / "out" / "a_2x.png").stat().st_mtime_ns

    def never(settings: Settings) -> Model:
        raise AssertionError("nothing is left to do, so no model is needed")

    assert [outcome.outcome for outcome in made("in", output="out", load=never)] == ["skipped"] * 2
    assert (folder / "out" / "a_2x.png").stat().st_mtime_ns == before


def test_a_batch_interrupted_goes_on_where_it_stopped(folder: Path) -> None:
    jobs = find_jobs(Request(("in",), output="out"), SETTINGS)
    next(run(jobs, SETTINGS, model))
    assert [outcome.outcome for outcome in made("in", output="out")] == ["skipped", "done"]


def test_one_bad_picture_stops_nothing(folder: Path) -> None:
    (folder / "in" / "a.png").write_bytes((folder / "in" / "a.png").read_bytes()[:200])
    (folder / "in" / "c.png").write_text("no picture")
    outcomes = made("in", output="out", heatmap="maps")
    assert [outcome.outcome for outcome in outcomes] == ["failed", "done", "failed"]
    assert isinstance(outcomes[0].error, InputError)
    assert [path.name for path in (folder / "out").glob("[!.]*")] == ["b_2x.png"]
    assert [path.name for path in (folder / "maps").iterdir()] == ["b_2x_heatmap.png"]


def test_the_model_is_loaded_once_and_only_for_a_picture(folder: Path) -> None:
    loads: list[int] = []

    def load(settings: Settings) -> Model:
        loads.append(1)
        return model()

    (folder / "bad.png").write_text("no picture")
    made("bad.png", load=load)
    assert loads == []
    made("in", output="out", load=load)
    assert loads == [1]


def test_a_model_that_does_not_load_ends_the_run() -> None:
    def load(settings: Settings) -> Model:
        raise ModelError("no")

    with pytest.raises(ModelError):
        made("in", output="out", load=load)


def test_events_tell_the_whole_story() -> None:
    events: list[Event] = []
    jobs = find_jobs(Request(("in",), output="out"), SETTINGS)
    outcomes = list(run(jobs, SETTINGS, model, events.append))
    begun = [event for event in events if isinstance(event, Begun)]
    assert [(event.number, event.total) for event in begun] == [(1, 2), (2, 2)]
    assert [type(event) for event in events[:3]] == [Begun, Loading, Step]
    steps = [event for event in events if isinstance(event, Step)]
    ends = [step.calls for step in steps if step.calls == step.total_calls]
    assert ends == [outcome.cost.model_calls for outcome in outcomes if outcome.cost]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), OutOfMemoryError),
        (MemoryError(), OutOfMemoryError),
        (ValueError("odd"), TileupError),
    ],
)
def test_a_network_that_fails_is_one_outcome(error: Exception, expected: type) -> None:
    def broken(x: Tensor, sigma: Tensor, windows: Sequence[Box]) -> Tensor:
        raise error

    outcomes = made("in", output="out", load=lambda _: DoubleModel(broken))
    assert [type(outcome.error) for outcome in outcomes] == [expected, expected]
    assert not list(Path("out").glob("[!.]*"))


def test_values_that_are_no_numbers_are_not_written(folder: Path) -> None:
    def broken(x: Tensor, sigma: Tensor, windows: Sequence[Box]) -> Tensor:
        return x * torch.nan

    outcome = made("in/a.png", output="o.png", load=lambda _: DoubleModel(broken))[0]
    assert "not finite" in str(outcome.error)
    assert not (folder / "o.png").exists()


def test_an_interruption_is_not_an_outcome(folder: Path) -> None:
    def interrupted(x: Tensor, sigma: Tensor, windows: Sequence[Box]) -> Tensor:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        made("in", output="out", load=lambda _: DoubleModel(interrupted))
    assert sorted(path.name for path in folder.rglob("*")) == ["a.png", "b.png", "in"]


def test_a_file_that_appears_meanwhile_is_not_replaced(folder: Path) -> None:
    jobs = find_jobs(Request(("in/a.png",), output="o.png"), SETTINGS)
    (folder / "o.png").write_text("precious")
    outcome = next(run(jobs, SETTINGS, model))
    assert isinstance(outcome.error, OutputError)
    assert (folder / "o.png").read_text() == "precious"


def test_companions_and_their_content(folder: Path) -> None:
    outcome = made("in/a.png", output="o.png", heatmap="auto", plan_json="p.json")[0]
    assert outcome.cost is not None
    plan = json.loads((folder / "p.json").read_text())
    assert plan["cost"] == outcome.cost.to_dict()
    assert len(plan["tiles"]) == outcome.cost.tiles > 1
    with Image.open(folder / "o_heatmap.png") as image:
        assert min(image.size) > 100


def test_a_companion_that_cannot_be_written_leaves_no_picture_behind(folder: Path) -> None:
    jobs = find_jobs(Request(("in/a.png",), output="o.png", heatmap="maps/m.png"), SETTINGS)
    (folder / "maps").write_text("a file in the way")
    outcome = next(run(jobs, SETTINGS, model))
    assert isinstance(outcome.error, OutputError)
    assert not (folder / "o.png").exists()


def test_metadata_says_how_it_was_made_or_nothing(folder: Path) -> None:
    made("in/a.png", output="o.png", settings=replace(SETTINGS, seed=7))
    told = read_metadata(folder / "o.png")
    assert "Steps: 3, Sampler: Euler, " in told["parameters"]
    assert "Seed: 7, Size: 64x48, Model hash: 0000000000, Model: double" in told["parameters"]
    assert "tileup min denoise: 0.2, tileup max denoise: 0.8" in told["parameters"]
    settings = json.loads(told["tileup"])
    assert {name: settings[name] for name in SETTINGS.to_dict()} == SETTINGS.to_dict() | {"seed": 7}
    made("in/a.png", output="n.png", settings=replace(SETTINGS, metadata=False))
    assert read_metadata(folder / "n.png") == {}


def test_pictures_of_a_folder_have_seeds_of_their_own(folder: Path) -> None:
    (folder / "in" / "b.png").write_bytes((folder / "in" / "a.png").read_bytes())
    made("in", output="out")
    a, b = (np.asarray(Image.open(folder / "out" / f"{name}_2x.png")) for name in "ab")
    assert (a != b).any(), "the same picture, another path"
    made("in/a.png", "in/b.png", output="named")
    a, b = (np.asarray(Image.open(folder / "named" / f"{name}_2x.png")) for name in "ab")
    np.testing.assert_array_equal(a, b)


def test_a_model_is_hashed_where_a_picture_says_so_and_else_not() -> None:
    """A large checkpoint's hash takes as long as a picture."""
    asked: list[str] = []

    class Hashed(DoubleModel):
        @property
        def digest(self) -> str:  # type: ignore[override]
            asked.append("digest")
            return "0" * 64

        @digest.setter
        def digest(self, value: str) -> None: ...

    for metadata, times in ((False, 0), (True, 1)):
        settings = replace(SETTINGS, metadata=metadata)
        made("in/a.png", settings=settings, load=lambda _: Hashed(gaussian_denoiser), output="o/")
        assert len(asked) == times
        Path("o/a_2x.png").unlink()
