"""What the tests of the training share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from PIL import Image

from tileup.resources import resource


@pytest.fixture(autouse=True, scope="package")
def _one_thread() -> Iterator[None]:
    """As training computes: a thread for each part of a batch, and none within a layer."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def pictures() -> dict[str, list[Image.Image]]:
    with Image.open(resource("docs") / "demo" / "seeding.jpg") as photograph:
        crops = [photograph.crop((x, 80, x + 168, 248)) for x in (60, 180, 300)]
    return {"plant": crops[:2], "meadow": crops[2:]}
