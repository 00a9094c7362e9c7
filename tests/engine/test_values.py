"""The engine's values: frozen, and the same after a journey to another process."""

from __future__ import annotations

import dataclasses
import importlib
import pickle
import pkgutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import tileup.engine
from tests.doubles import DoubleModel, gaussian_denoiser, photograph
from tileup.contracts import Step
from tileup.engine.actor import Errand
from tileup.engine.desk import Busy, Settled
from tileup.engine.engine import Team
from tileup.engine.file_to_file import Drawable, Made
from tileup.engine.journal import Fingerprint, Record
from tileup.engine.messages import (
    Broken,
    Done,
    Loaded,
    LogLine,
    Lost,
    PictureWritten,
    Recorded,
    Stop,
    WorkerEvent,
    WorkerIdle,
)
from tileup.engine.on_ray import Size
from tileup.engine.outcomes import Begun, ByWorker, Finished, Loading, Outcome
from tileup.engine.preflight import Here
from tileup.engine.processes import LoadAt, WorkerSlot
from tileup.engine.ray_assistants import Helpers
from tileup.engine.request import Input, Job, Policy, Request
from tileup.engine.shards import Shard
from tileup.engine.stamp import Stamp
from tileup.engine.uniform import LoadAlike
from tileup.engine.verify import Finding
from tileup.errors import ModelError, NotFiniteError, TileupError
from tileup.images.picture import Picture
from tileup.plan.cost import Cost
from tileup.ready import make_ready
from tileup.settings.values import Settings
from tileup.upscaling import upscale_picture

POLICY = Policy(overwrite=True, retry_failed=True)
JOB = Job(Path("in/a.png"), Path("out/a_2x.png"), "a.png", 7, home=Path("out"), policy=POLICY)
MARK = Fingerprint(3, 5, "aa")
RECORD = Record("a_2x.png", "in/a.png", "done", "0f", MARK, MARK, ("p",))
OUTCOME = Outcome(JOB, "done", 1.5, (4, 6), Cost(3, 2, 8, 1.5, 2.0), ("a warning",))
HERE = Here({"tileup": "1"}, Path(), {"m": "0f"}, (Path("out"),), None)
ERRAND = Errand(HERE, Settings(), print, True, 30)
BROKEN = Broken(ModelError("no model"))
FAILED = Outcome(JOB, "failed", error=NotFiniteError())


def opened_and_made() -> tuple[Drawable, Made]:
    """A small picture on its way, with its plan and its pixels."""
    settings = Settings(tile=32, min_tile=16, overlap=8, steps=2)
    picture = Picture(photograph(16, 24, seed=0).astype(np.float32))
    model = DoubleModel(gaussian_denoiser)
    ready = make_ready(picture, model.spec, settings)
    opened = Drawable(JOB, settings, picture, "png", MARK, ready)
    drawn = upscale_picture(picture, model, settings, ready=ready)
    return opened, Made(drawn, settings, None)


PLAIN = [
    *(JOB, POLICY, Input(Path("a.png"), Path()), Request(("a.png",), overwrite=True)),
    *(MARK, RECORD, OUTCOME, Loading(), Begun(JOB, 1, 2), Finished(OUTCOME), Step(1, 2, 3, 4)),
    *(
        ByWorker(1, Begun(JOB, 1, 2, alone=False)),
        Team(2),
        WorkerSlot(1, 2),
        WorkerIdle(),
        Loaded(),
        Stop(),
    ),
    *(
        WorkerEvent(Step(1, 2, 3, 4)),
        PictureWritten(Path("a_2x.png"), RECORD),
        Done(OUTCOME),
        LogLine("x", 30, "y"),
    ),
    *(LoadAlike(print, "float32", "ncnn"), ERRAND.here, ERRAND, Size(2, 1, 1, 0.5, False)),
    *(Lost("killed by SIGKILL"), Recorded(Path("a_2x.png")), LoadAt(print, WorkerSlot(0, None))),
    *(
        Helpers(1, 2, 0.5),
        Settled(OUTCOME),
        Busy(),
        Stamp("1f", "aa", "0f"),
        Shard(1, 2),
        Finding("a.png", "sound"),
    ),
]


@pytest.mark.parametrize("value", PLAIN, ids=lambda value: type(value).__name__)
def test_values_survive_pickle(value: object) -> None:
    assert pickle.loads(pickle.dumps(value)) == value


def test_a_worker_that_broke_survives_pickle() -> None:
    back = pickle.loads(pickle.dumps(BROKEN))
    assert (type(back.error), str(back.error)) == (ModelError, str(BROKEN.error))


def test_a_failure_survives_pickle() -> None:
    back = pickle.loads(pickle.dumps(FAILED))
    assert back.job == FAILED.job
    assert (type(back.error), str(back.error)) == (NotFiniteError, str(FAILED.error))


def test_pictures_on_their_way_survive_pickle() -> None:
    opened, made = opened_and_made()
    for value in (opened, made):
        back = pickle.loads(pickle.dumps(value))
        assert back.settings == value.settings
    np.testing.assert_array_equal(back.upscaled.picture.pixels, made.upscaled.picture.pixels)
    assert back.upscaled.cost == made.upscaled.cost


def all_errors(kind: type[TileupError] = TileupError) -> Iterator[type[TileupError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from all_errors(below)


@pytest.mark.parametrize("kind", [*all_errors()], ids=lambda kind: kind.__name__)
def test_every_error_survives_pickle(kind: type[TileupError]) -> None:
    error = kind() if kind is NotFiniteError else kind("what, where, and what to try")
    back = pickle.loads(pickle.dumps(error))
    assert (type(back), str(back), back.exit_code) == (kind, str(error), error.exit_code)
    assert str(back)


AT_HOME = {
    "Finishable": "holds what is left to do, as functions; what they make travels",
    "InFloat32": "stands around a model, which is loaded where it is needed",
    "PendingBatch": "holds the network; what travels is the request that it packs",
}
"""Values that stay in the process that made them."""


def test_every_value_of_the_engine_was_tried() -> None:
    tried = {type(value).__name__ for value in (*PLAIN, BROKEN, *opened_and_made())}
    found: set[str] = set()
    for each in pkgutil.iter_modules(tileup.engine.__path__, "tileup.engine."):
        module = importlib.import_module(each.name)
        for name, value in vars(module).items():
            if dataclasses.is_dataclass(value) and value.__module__ == module.__name__:
                assert value.__dataclass_params__.frozen, name  # type: ignore[union-attr]
                found.add(name)
    found = {name for name in found if name[0] != "_"}
    assert found - AT_HOME.keys() <= tried
    assert found >= AT_HOME.keys()
    assert len(found) > 10
