"""Pages of text: that they can be read, and that a number decides them."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
from PIL import Image

from models.training import lettering, samples
from models.training.samples import Pictures, Recipe, sample

pytestmark = pytest.mark.skipif(
    any(importlib.util.find_spec(each) is None for each in lettering.PACKAGES),
    reason="the extra train is not installed",
)


def luma(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("L"), dtype=int)


@pytest.mark.parametrize("number", range(12))
def test_paper_and_ink_differ_and_both_are_seen(number: int) -> None:
    grey = luma(lettering.page(160, np.random.default_rng(number)))
    assert np.ptp(grey) > 50
    middle = (grey.min() + grey.max()) / 2
    assert 0.02 < (grey < middle).mean() < 0.98


def test_a_page_is_a_function_of_its_number() -> None:
    one, same, other = (lettering.page(96, np.random.default_rng(seed)) for seed in (4, 4, 5))
    assert one.tobytes() == same.tobytes() != other.tobytes()


def test_no_font_is_one_that_letters_are_measured_with() -> None:
    from bench.measures.letters import FONTS

    names = {path.stem for path in lettering.fonts()}
    assert len(names) >= 20
    assert not names & set(FONTS)


def test_the_share_of_pages_is_the_asked_one(
    pictures: Pictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[int] = []

    def counted(side: int, rng: np.random.Generator) -> Image.Image:
        drawn.append(side)
        return lettering.page(side, rng)

    monkeypatch.setattr(samples, "page", counted)
    for number in range(100):
        sample(pictures, 1, number, Recipe(crop=32, soft=0.0, letters=0.3))
    assert 15 <= len(drawn) <= 40  # 0.27: a tenth is flat


def test_without_pages_samples_are_as_before(pictures: Pictures) -> None:
    plain = [sample(pictures, 1, n, Recipe(32, 0.0)) for n in range(5)]
    for number, each in enumerate(plain):
        assert np.array_equal(each, sample(pictures, 1, number, Recipe(32, 0.0, 0.0)))
