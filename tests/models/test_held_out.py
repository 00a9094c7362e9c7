"""No picture that is measured on was trained on."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models import held_out
from tileup.resources import resource


def leak() -> Image.Image:
    """A part of a held-out photograph, at a scale of its own, compressed."""
    with Image.open(resource("docs") / "demo" / "seeding.jpg") as photograph:
        part = photograph.crop((90, 50, 390, 350)).resize((512, 512), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    part.save(buffer, "jpeg", quality=70)
    return Image.open(buffer)


def test_nothing_trained_on_looks_like_something_held_out() -> None:
    held, trained = held_out.read_held_out(), held_out.read_trained_on()
    assert len(set(held.names)) == 29
    assert len(trained) > 700
    assert min(each.nearest for each in trained.values()) > held_out.NEAR
    distance, name = held.nearest(np.stack([each.bits for each in trained.values()]))
    assert distance > held_out.NEAR, name
    # And it would be seen: the hashes themselves are near.
    assert held.nearest(held.bits[100:101]) == (0, held.names[100])


def test_a_crop_of_a_held_out_picture_is_found_at_another_scale() -> None:
    distance, name = held_out.read_held_out().search(leak())
    assert distance <= held_out.NEAR
    assert "seeding" in name


def test_training_refuses_a_held_out_picture_and_says_which(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 256, (200, 200, 3), dtype=np.uint8))
    leak().save(tmp_path / "leak.png")
    noise.save(tmp_path / "noise.png")
    paths = [tmp_path / "noise.png", tmp_path / "leak.png"]
    held = held_out.read_held_out()
    with pytest.raises(SystemExit, match=r"leak\.png looks like a part of .*seeding") as refusal:
        held_out.refuse_held_out(paths, held, {})
    assert "noise.png" not in str(refusal.value)
    (found,) = held_out.refuse_held_out(paths[:1], held, {})
    assert found.nearest > held_out.NEAR
    # What was searched before is not searched again.
    (again,) = held_out.refuse_held_out(paths[:1], held, {found.digest: found})
    assert again is found
