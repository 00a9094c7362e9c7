"""Commands and processes with places in a store: the same pictures, also after a kill."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from torch import Tensor

from tests.cli.conftest import QUICK, Command, tileup
from tests.cli.forked import SERVER
from tests.doubles import DoubleModel, blurring_denoiser
from tests.storage.conftest import Gate, Web, contents, upload
from tileup.checkpoints.find import find_model
from tileup.contracts import Box, Model
from tileup.engine import claims, local
from tileup.engine.engine import Team, engine_named
from tileup.engine.jobs import find_jobs
from tileup.engine.journals import journal_at
from tileup.engine.request import Job, Request
from tileup.errors import ExitCode
from tileup.settings.values import Settings
from tileup.storage import stores
from tileup.storage.remote import Remote, files_below, put_whole

__all__ = ["tileup"]


def test_pictures_and_the_checkpoint_by_url(
    folder: Path, bucket: Remote, tileup: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_whole(bucket / "in" / "a.png", (folder / "in" / "a.png").read_bytes())
    model = bucket / "models" / "tileup-small.safetensors"
    put_whole(model, find_model(None).read_bytes())
    (folder / "in" / "b.png").unlink()
    assert tileup("upscale", "in", "-o", "out", *QUICK).code == 0
    ran = tileup(
        "upscale", f"{bucket}/in", "-o", f"{bucket}/out/", "--model", model, "--json", *QUICK
    )
    assert ran.code == 0
    assert [each["output"] for each in ran.lines] == [f"{bucket}/out/a_2x.png"]
    ours, theirs = (contents(place)["a_2x.png"] for place in (bucket / "out", folder / "out"))
    assert _pixels(ours) == _pixels(theirs), "what is said of the settings names the model"
    (line,) = tileup("plan", f"{bucket}/in", "--json").lines
    assert line["input"] == f"{bucket}/in/a.png"
    for place in (model, bucket / "out" / "a_2x.png"):
        ran = tileup("info", place)
        assert (ran.code, ran.err) == (0, "")
        assert "tileup-small" in ran.out
    ran = tileup("verify", f"{bucket}/out", "--redraw", "100%")
    assert ran.err.endswith("1 of 1 picture as made, 1 of them drawn again\n")
    assert ran.code == 0


def _pixels(data: bytes) -> bytes:
    from tileup.images.reading import open_picture

    return open_picture(data).pixels.tobytes()


def test_what_is_not_installed_is_named(
    folder: Path, web: Web, tileup: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stores, "_known", {})
    for module in ("s3fs", "gcsfs", "aiohttp"):
        monkeypatch.setitem(sys.modules, module, None)
    for scheme, module in (("s3", "s3fs"), ("gs", "gcsfs"), ("https", "aiohttp")):
        ran = tileup("upscale", f"{scheme}://b/a.png", "-o", "out/")
        assert ran.code == ExitCode.MISSING_EXTRA
        assert ran.sentence == (
            f"tileup: {scheme}:// needs {module}, which is not installed: "
            f"pip install 'tileup[cloud]'"
        )


def test_without_rights_it_says_so(
    folder: Path, bucket: Remote, gate: Gate, tileup: Command
) -> None:
    gate.fail(1, "HEAD", "/in", status=403)
    ran = tileup("upscale", f"{bucket}/in", "-o", "out")
    assert ran.code == ExitCode.NO_INPUT
    assert ran.sentence == f"tileup: {bucket}/in cannot be read: 403 Forbidden"


SETTINGS = Settings(tile=32, min_tile=16, overlap=8, steps=2, batch=1)


def plain(settings: Settings) -> Model:
    return DoubleModel(blurring_denoiser)


def slowly(settings: Settings) -> Model:
    def denoise(x: Tensor, sigma: Tensor, windows: Sequence[Box]) -> Tensor:
        time.sleep(0.3)
        return blurring_denoiser(x, sigma, windows)

    return DoubleModel(denoise)


def all_of(source: object, output: object) -> Sequence[Job]:
    asked = Request((str(source),), f"{output}/", recursive=True, plan_json="auto")
    return find_jobs(asked, SETTINGS)


def another_process(source: str, output: str, environment: dict[str, str]) -> None:
    os.environ.update(environment)
    for _ in local.run(all_of(source, output), SETTINGS, slowly):
        pass


def test_a_run_that_is_killed_goes_on(
    folder: Path, bucket: Remote, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("EXPIRES", 0.5), ("AGAIN", 0.0)):
        monkeypatch.setattr(claims, name, value)
    source, output = bucket / "in", bucket / "out"
    upload(folder / "in", source)
    assert len(list(local.run(all_of(folder / "in", folder / "out"), SETTINGS, plain))) == 3
    wanted = contents(folder / "out")
    running = SERVER.Process(
        target=another_process, args=(str(source), str(output), dict(os.environ))
    )
    running.start()
    while not gate.count("PUT", "_2x.png"):
        assert running.exitcode is None
        time.sleep(0.01)
    running.kill()
    running.join()
    there = contents(output)
    assert len(there) < len(wanted) == 6
    assert all(wanted[name] == data for name, data in there.items())
    left = [each for each in files_below(output, deep=True) if claims.FOLDER in each.parts]
    assert left, "what was at work is claimed"
    outcomes = list(local.run(all_of(source, output), SETTINGS, plain))
    assert "failed" not in {each.outcome for each in outcomes}
    assert contents(output) == wanted
    names = {name for name in wanted if name.endswith(".png")}
    records = journal_at(output).records()
    assert {(each.output, each.outcome) for each in records} == {(name, "done") for name in names}


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["local", pytest.param("ray", marks=pytest.mark.long)])
def test_workers_fetch_and_write_by_themselves(folder: Path, bucket: Remote, engine: str) -> None:
    upload(folder / "in", bucket / "in")
    assert len(list(local.run(all_of(folder / "in", folder / "out"), SETTINGS, plain))) == 3
    jobs = all_of(bucket / "in", bucket / "out")
    outcomes = engine_named(engine)(jobs, SETTINGS, plain, lambda _: None, team=Team(2))
    assert [each.outcome for each in outcomes] == 3 * ["done"]
    assert contents(bucket / "out") == contents(folder / "out")
    assert {each.outcome for each in journal_at(bucket / "out").records()} == {"done"}
