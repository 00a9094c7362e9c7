"""Checkpoints with a VAE in bands: the same bytes, and what is killed goes on from latents."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from tests.checkpoints import test_model, whole
from tests.doubles import photograph
from tileup.checkpoints.load import load_model
from tileup.contracts import AroundModel, Codec, Denoiser, Model, Scene, Step
from tileup.engine.jobs import find_jobs
from tileup.engine.local import run
from tileup.engine.request import Request
from tileup.images.kept import Kept, Shape, beside, place_of
from tileup.images.reading import open_picture
from tileup.model_settings import resolve_with_model
from tileup.settings.values import Settings
from tileup.upscaling import upscale_picture

SMALL = {key: each for key, each in test_model.SMALL.items() if key != "color_fix"}
SMALL |= {"vae_tile": 64}


@pytest.fixture(scope="module")
def sd1(tmp_path_factory: pytest.TempPathFactory) -> tuple[Model, Settings]:
    path = whole.save(tmp_path_factory.mktemp("models") / "sd1.safetensors", whole.sd1())
    settings = resolve_with_model(flags={**SMALL, "model": str(path)}).settings
    return load_model(path, settings), settings


@pytest.mark.parametrize(
    "change",
    [
        {"min_denoise": 0.0},
        {"color_fix": "none", "sampler": "dpmpp_2m", "scale": 1.7},
        {"denoise_mode": "passes", "sampler": "euler_ancestral"},
    ],
    ids=str,
)
def test_in_bands_it_is_the_same_picture_to_the_bit(
    change: dict[str, object], sd1: tuple[Model, Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With kept tiles, tones of the source, and sides that no stride divides."""
    model, settings = sd1[0], replace(sd1[1], **change)
    picture = open_picture(photograph(95, 53))
    monkeypatch.setattr("tileup.plan.by_rows.SMALLEST", 10**9)
    in_memory = upscale_picture(picture, model, settings).picture.pixels
    monkeypatch.setattr("tileup.plan.by_rows.SMALLEST", 1)
    monkeypatch.setattr("tileup.upscaling.pasted", None)
    in_bands = upscale_picture(picture, model, settings).picture.pixels
    np.testing.assert_array_equal(in_bands, in_memory)
    assert in_memory.std() > 0.05


@pytest.mark.parametrize("change", [{"color_fix": "adain"}, {"control": "tile.safetensors"}])
def test_what_asks_for_the_whole_picture_has_it(
    change: dict[str, object], sd1: tuple[Model, Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tileup.plan.by_rows.SMALLEST", 1)
    monkeypatch.setattr("tileup.upscaling.draw_in_bands", None)
    picture = open_picture(photograph(32, 40))
    upscale_picture(picture, sd1[0], replace(sd1[1], **change))
    with pytest.raises(TypeError):
        upscale_picture(picture, *sd1)


class Watched(AroundModel):
    """Counts its denoisers, and kills the process after some bands of the decoded picture."""

    denoisers = 0
    bands = 10**9

    @property
    def codec(self) -> Codec:
        return self  # pyright: ignore[reportReturnType]

    def denoiser(self, scene: Scene) -> Denoiser:
        type(self).denoisers += 1
        return self.model.denoiser(scene)

    def encode(self, pixels: Tensor) -> Tensor:
        return self.model.codec.encode(pixels)

    def decode(self, latents: Tensor) -> Tensor:
        return self.model.codec.decode(latents)

    def encode_rows(self, rows: Callable[[int, int], Tensor], height: int, width: int) -> Tensor:
        return self.model.codec.encode_rows(rows, height, width)

    def decode_rows(self, latents: Tensor) -> Iterator[Tensor]:
        for number, band in enumerate(self.model.codec.decode_rows(latents)):
            if number == self.bands:
                os.kill(os.getpid(), signal.SIGKILL)
            yield band


def made(output: str, model: Model, settings: Settings) -> list[Step]:
    """A run, and its steps."""
    told: list[Step] = []

    def watch(event: object) -> None:
        if isinstance(event, Step):
            told.append(event)

    jobs = find_jobs(Request(("in.png",), output=output), settings)
    (outcome,) = run(jobs, settings, lambda _: model, watch)
    assert outcome.outcome == "done"
    return told


@pytest.mark.skipif(sys.platform != "linux", reason="needs fork")
def test_killed_while_it_decodes_it_goes_on_from_the_latents(
    sd1: tuple[Model, Settings],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "tileup")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tileup.images.writing.BANDED", 1)
    monkeypatch.setattr("tileup.plan.by_rows.SMALLEST", 1)
    monkeypatch.setattr("tileup.images.kept._EVERY", 0)
    Image.fromarray((photograph(150, 40) * 255).astype(np.uint8)).save("in.png")
    model, settings = sd1
    made("whole.png", model, settings)
    child = os.fork()
    if not child:
        try:
            torch.set_num_threads(1)
            monkeypatch.setattr(Watched, "bands", 3)
            made("out.png", Watched(model), settings)
        finally:
            os._exit(1)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    rows, latents = place_of(Path("out.png")), beside(place_of(Path("out.png")))
    assert rows.stat().st_size > 4096
    assert latents.exists()
    caplog.clear()
    told = made("out.png", Watched(model), settings)
    assert "going on below row" in caplog.text
    assert Watched.denoisers == 0, "nothing is sampled again"
    assert told[-1].calls == told[-1].total_calls
    assert Path("out.png").read_bytes() == Path("whole.png").read_bytes()
    assert not rows.exists()
    assert not latents.exists()


def test_half_written_latents_do_not_count(tmp_path: Path) -> None:
    kept = Kept(tmp_path / "a.rows.part", "key", Shape(8, 8, 3, 8))
    assert kept.latents is None
    given = np.arange(8, dtype=np.float32).reshape(1, 2, 2, 2)
    kept.keep_latents(given)
    found = kept.latents
    assert found is not None
    np.testing.assert_array_equal(found, given)
    place = beside(kept.path)
    for size in (place.stat().st_size - 1, 40, 0):
        os.truncate(place, size)
        assert kept.latents is None
    kept.close()
