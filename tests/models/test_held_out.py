"""No picture that is measured on was trained on."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from tileup.resources import resource


@pytest.fixture(scope="module")
def lists() -> Iterator[ModuleType]:
    """models/held_out.py, which is a script and not part of the package."""
    folder = str(resource("models"))
    sys.path.insert(0, folder)
    try:
        import held_out

        yield held_out
    finally:
        sys.path.remove(folder)


def leak() -> Image.Image:
    """A part of a held-out photograph, at a scale of its own, compressed."""
    with Image.open(resource("docs") / "demo" / "seeding.jpg") as photograph:
        part = photograph.crop((90, 50, 390, 350)).resize((512, 512), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    part.save(buffer, "jpeg", quality=70)
    return Image.open(buffer)


def test_nothing_trained_on_looks_like_something_held_out(lists: ModuleType) -> None:
    held, trained = lists.read_held_out(), lists.read_trained_on()
    assert len(set(held.names)) == 29
    assert len(trained) > 700
    assert min(each.nearest for each in trained.values()) > lists.NEAR
    distance, name = held.nearest(np.stack([each.bits for each in trained.values()]))
    assert distance > lists.NEAR, name
    # And it would be seen: the hashes themselves are near.
    assert held.nearest(held.bits[100:101]) == (0, held.names[100])


def test_a_crop_of_a_held_out_picture_is_found_at_another_scale(lists: ModuleType) -> None:
    distance, name = lists.read_held_out().search(leak())
    assert distance <= lists.NEAR
    assert "seeding" in name


def test_training_refuses_a_held_out_picture_and_says_which(
    lists: ModuleType, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 256, (200, 200, 3), dtype=np.uint8))
    leak().save(tmp_path / "leak.png")
    noise.save(tmp_path / "noise.png")
    paths = [tmp_path / "noise.png", tmp_path / "leak.png"]
    held = lists.read_held_out()
    with pytest.raises(SystemExit, match=r"leak\.png looks like a part of .*seeding") as refusal:
        lists.refuse_held_out(paths, held, {})
    assert "noise.png" not in str(refusal.value)
    (found,) = lists.refuse_held_out(paths[:1], held, {})
    assert found.nearest > lists.NEAR
    # What was searched before is not searched again.
    (again,) = lists.refuse_held_out(paths[:1], held, {found.digest: found})
    assert again is found
