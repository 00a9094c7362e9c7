"""How many windows are evaluated at once: by the memory of a device that is written down."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest
import torch

from tests.doubles import DoubleModel, gaussian_denoiser, spec
from tileup.denoise import fitting
from tileup.denoise.fitting import MOST, SHARE, CudaMemory, measured_batch
from tileup.engine.models import Models
from tileup.plan.itinerary import windows_at_once
from tileup.settings.values import Settings

FIXED, EACH = 700, 40
"""Bytes: of any batch, and of each window."""


@dataclass
class Card:
    """A device on which the windows of a model take memory."""

    model: DoubleModel
    room: int
    asked: list[int] = field(default_factory=list)

    def peak(self, work: Callable[[], object]) -> int:
        work()
        count = self.model.counting.batches[-1]
        self.asked.append(count)
        if FIXED + count * EACH > self.room:
            raise torch.OutOfMemoryError("of the card")
        return FIXED + count * EACH

    def free(self) -> int:
        return self.room


def card(room: int) -> Card:
    return Card(DoubleModel(gaussian_denoiser), room)


@pytest.mark.parametrize("wanted", [1, 2, 3, 4, 7, 8, 31, 32, 33, 500])
def test_as_many_windows_as_fit_in_powers_of_two(wanted: int) -> None:
    device = card(max(round((FIXED + EACH * wanted) / SHARE) + 1, FIXED + 2 * EACH))
    batch = measured_batch(device.model, Settings(window=16, overlap=4), device)
    assert batch <= min(wanted, MOST) < max(2 * batch, MOST + 1)
    assert batch & (batch - 1) == 0
    assert device.model.counting.batches == [1, 1, 2], "once for what libraries take"
    assert device.model.counting.cells == 4 * 8 * 8, "windows of the size that the run has"


def test_a_card_without_room_for_two_windows_says_so() -> None:
    device = card(FIXED + EACH)
    with pytest.raises(torch.OutOfMemoryError):
        measured_batch(device.model, Settings(window=16, overlap=4), device)


def test_a_number_is_a_number_and_auto_is_the_familys_own() -> None:
    model = spec()
    assert windows_at_once(model, Settings(batch=3)) == 3
    assert windows_at_once(model, Settings()) == model.batch == 4


def test_a_run_measures_once_for_each_kind_of_window_and_model(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    measured: list[Settings] = []

    def measure(model: DoubleModel, settings: Settings, memory: CudaMemory) -> int:
        assert memory.device == model.device == "cuda:1"
        measured.append(settings)
        if settings.dtype == "float32":
            raise torch.OutOfMemoryError("of the card")
        return 16

    monkeypatch.setattr(fitting, "measured_batch", measure)
    models = Models(lambda settings: DoubleModel(gaussian_denoiser, device="cuda:1"))
    settings = Settings(window=16, overlap=4)
    guided, exact = replace(settings, cfg=3.0), replace(settings, dtype="float32")
    assert [models.with_batch(settings).batch for _ in range(3)] == [16, 16, 16]
    assert [models.with_batch(each).batch for each in (guided, exact, exact, settings)] == [
        16,
        1,
        1,
        16,
    ]
    assert measured == [settings, guided, exact, settings]
    five = replace(settings, batch=5)
    assert models.with_batch(five) == five
    on_a_cpu = Models(lambda settings: DoubleModel(gaussian_denoiser))
    assert on_a_cpu.with_batch(settings) == settings
    assert len(measured) == 4


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_memory_of_a_gpu_is_counted() -> None:
    memory = CudaMemory("cuda:0")
    kept: list[torch.Tensor] = []
    size = 2**28

    def work() -> None:
        kept.append(torch.empty(size, dtype=torch.uint8, device="cuda:0"))
        torch.empty(size, dtype=torch.uint8, device="cuda:0")

    before = memory.free()
    assert memory.peak(work) == 2 * size
    assert before - memory.free() == pytest.approx(size, abs=2**25)
