"""Outcomes: the exit code they add up to, their JSON, and errors that nobody foresaw."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest
import torch

from tileup.engine.failures import as_tileup_error
from tileup.engine.outcomes import Outcome, exit_code
from tileup.engine.request import Job
from tileup.errors import (
    ExitCode,
    InputError,
    OutOfMemoryError,
    OutputError,
    TileupError,
    UsageError,
)
from tileup.plan.cost import Cost

JOB = Job(Path("a.png"), Path("b.png"), None, 0)
DONE = Outcome(JOB, "done", cost=Cost(3, 2, 8, 1.5, 2.0))
SKIPPED = Outcome(JOB, "skipped")


def failed(error: TileupError) -> Outcome:
    return Outcome(JOB, "failed", error=error)


BROKEN, FULL, TIGHT = failed(InputError("x")), failed(OutputError("x")), failed(OutOfMemoryError())


@pytest.mark.parametrize(
    ("outcomes", "code"),
    [
        ([], ExitCode.OK),
        ([DONE, SKIPPED], ExitCode.OK),
        ([DONE, BROKEN], ExitCode.SOME_FAILED),
        ([SKIPPED, FULL], ExitCode.SOME_FAILED),
        ([BROKEN], ExitCode.NO_INPUT),
        ([BROKEN, BROKEN], ExitCode.NO_INPUT),
        ([FULL], ExitCode.CANNOT_WRITE),
        ([TIGHT, TIGHT], ExitCode.OUT_OF_MEMORY),
        ([TIGHT, FULL], ExitCode.SOME_FAILED),
        ([failed(UsageError("x"))], ExitCode.USAGE),
        ([failed(TileupError("x"))], ExitCode.SOME_FAILED),
    ],
)
def test_exit_codes(outcomes: list[Outcome], code: ExitCode) -> None:
    assert exit_code(outcomes) == code


def test_json() -> None:
    assert json.loads(json.dumps(DONE.to_dict())) == {
        "input": "a.png",
        "output": "b.png",
        "outcome": "done",
        "error": None,
        "seconds": 0.0,
        "cost": {
            "tiles": 3,
            "windows": 2,
            "model_calls": 8,
            "megapixel_steps": 1.5,
            "uniform_megapixel_steps": 2.0,
        },
    }
    assert BROKEN.to_dict() == {
        "input": "a.png",
        "output": "b.png",
        "outcome": "failed",
        "error": "x",
        "seconds": 0.0,
        "cost": None,
    }
    streams = Outcome(Job(None, None, None, 0), "skipped").to_dict()
    assert (streams["input"], streams["output"]) == ("-", "-")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("MPS backend out of memory (MPS allocated: 5 GB)"),
        RuntimeError("can't start new thread"),
        RuntimeError("could not create a primitive"),
        ImportError("libx.so: failed to map segment from shared object"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
    ],
)
def test_lack_of_memory_has_its_own_error_and_a_next_step(error: Exception) -> None:
    told = as_tileup_error(error)
    assert isinstance(told, OutOfMemoryError)
    assert "--batch" in str(told)
    assert told.__cause__ is error


def test_other_surprises_are_named_and_known_errors_pass() -> None:
    told = as_tileup_error(ZeroDivisionError("division by zero"))
    assert type(told) is TileupError
    assert str(told).startswith("unexpected ZeroDivisionError: division by zero")
    assert "-vv" in str(told)
    known = InputError("x")
    assert as_tileup_error(known) is known
