"""One model at a time, loaded once, and gone when it is dropped."""

from __future__ import annotations

import gc
import importlib.util
import weakref
from pathlib import Path

import pytest
from safetensors.torch import save_file

from tests.checkpoints.layouts.compact import compact_state_dict
from tests.images.pictures import random_picture
from tileup.enlarge.enlargers import Enlargers
from tileup.enlarge.esrgan import Enlarger
from tileup.enlarge.lanczos import enlarge
from tileup.errors import ModelError
from tileup.settings.values import Settings

needs_spandrel = pytest.mark.skipif(
    importlib.util.find_spec("spandrel") is None, reason="spandrel is not installed"
)


def settings_for(path: Path) -> Settings:
    return Settings(upscaler=str(path), device="cpu")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    save_file(compact_state_dict(2), tmp_path / "x.safetensors")
    return tmp_path / "x.safetensors"


def test_lanczos_needs_no_model() -> None:
    assert Enlargers().of(Settings()) is enlarge


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="give lanczos or a model's file"):
        Enlargers().of(settings_for(tmp_path / "none.pth"))


@needs_spandrel
def test_a_model_is_loaded_once_until_its_file_changes(path: Path) -> None:
    enlargers = Enlargers()
    first = enlargers.of(settings_for(path))
    assert enlargers.of(settings_for(path)) is first
    save_file(compact_state_dict(4), path)
    other = enlargers.of(settings_for(path))
    assert isinstance(first, Enlarger)
    assert isinstance(other, Enlarger)
    assert (first.scale, other.scale) == (2, 4)


@needs_spandrel
def test_what_is_dropped_is_gone_and_comes_back_the_same(path: Path) -> None:
    enlargers, picture = Enlargers(), random_picture()
    model = enlargers.of(settings_for(path))
    assert isinstance(model, Enlarger)
    before = model(picture, 66, 42).pixels
    network = weakref.ref(model.network.model)
    del model
    gc.collect()
    assert network() is not None, "it is kept for the next picture"
    enlargers.drop()
    gc.collect()
    assert network() is None
    assert (enlargers.of(settings_for(path))(picture, 66, 42).pixels == before).all()
