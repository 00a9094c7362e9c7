"""A canvas that does not fit is told at once: smaller windows make no room for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.doubles import DoubleModel, blurring_denoiser
from tileup.engine.jobs import find_jobs
from tileup.engine.local import run
from tileup.engine.request import Request
from tileup.errors import CanvasMemoryError
from tileup.resources import room_for_canvas
from tileup.settings.values import Settings


@pytest.mark.parametrize("by_rows", [True, False])
def test_a_canvas_without_room_is_planned_and_tried_once(
    by_rows: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The array of the whole picture is refused, whichever way it would be drawn."""
    Image.fromarray(np.full((200, 200, 3), 90, np.uint8)).save(tmp_path / "in.png")
    empty, tries = np.empty, list[object]()

    def full(shape: object, *arguments: object, **more: object) -> object:
        if shape == (400, 400, 3):
            tries.append(shape)
            raise MemoryError("Unable to allocate")
        return empty(shape, *arguments, **more)  # type: ignore[call-overload]

    monkeypatch.setattr(np, "empty", full)
    monkeypatch.setattr("tileup.plan.by_rows.SMALLEST", 1 if by_rows else 10**9)
    settings = Settings(device="cpu", steps=2, scale=2, tile=64, min_tile=8, overlap=8, batch=4)
    job = find_jobs(Request((str(tmp_path / "in.png"),), output=str(tmp_path / "o.png")), settings)
    (outcome,) = run(job, settings, lambda _: DoubleModel(blurring_denoiser))
    assert isinstance(outcome.error, CanvasMemoryError)
    assert "400x400 pixels do not fit" in str(outcome.error)
    assert "window" not in str(outcome.error)
    assert len(tries) == 1


def test_other_errors_are_not_about_the_canvas() -> None:
    with pytest.raises(RuntimeError, match="something else"), room_for_canvas(2, 3):
        raise RuntimeError("something else")
    with pytest.raises(CanvasMemoryError, match="2x3"), room_for_canvas(2, 3):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes")
