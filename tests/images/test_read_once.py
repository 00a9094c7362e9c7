"""No format reads a file twice, whatever it looks for in it."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest

from tests.images.pictures import random_picture
from tileup.images.formats.known import FORMATS
from tileup.images.writing import save_picture

WRITTEN = {each.name: each for each in FORMATS if each.write}


class Counting(BytesIO):
    """A file that counts the bytes that are read from it."""

    count = 0

    def read(self, size: int | None = -1, /) -> bytes:
        found = super().read(size)
        self.count += len(found)
        return found


@pytest.mark.parametrize("deep", [False, True], ids=["8 bits", "deep"])
@pytest.mark.parametrize("name", WRITTEN)
def test_a_file_is_read_once(name: str, deep: bool) -> None:
    picture = replace(random_picture(240, 160), deep=deep)
    file = BytesIO()
    save_picture(picture, file, name, quality=100)
    stream = Counting(file.getvalue())
    opened = WRITTEN[name].open(stream)
    raster = opened.decode()
    assert raster.values.shape[:2] == (160, 240)
    assert raster.deep == (deep and WRITTEN[name].bits > 8)
    size = len(file.getvalue())
    assert size > 40_000
    # Headers are looked at twice, pixels never.
    assert 0.9 * size < stream.count < 1.1 * size
    assert np.isfinite(raster.values).all()
