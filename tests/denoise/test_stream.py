"""A canvas sampled row by row against the same one sampled as a whole."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.denoise.drafts import draft_of
from tests.doubles import Counting, blurring_denoiser
from tests.plan.test_itinerary import itinerary
from tileup.contracts import Box
from tileup.denoise.schedule import run_schedule
from tileup.denoise.stream import Stream
from tileup.plan.itinerary import Itinerary
from tileup.plan.samplers import SAMPLERS
from tileup.plan.tiles import Tile, TilePlan
from tileup.sampling.noise import NoiseRows, canvas_noise
from tileup.sampling.steps import SamplerOptions
from tileup.tiling.profiles import NormalisedShares, WindowWeights

WINDOW = 16
SHAPES = ((20, 12), (12, 20), (25, 10), (10, 25))
"""As large as a square window, or a little less."""


def patchwork(rows: int, columns: int, seed: int) -> TilePlan:
    """Squares of 8 cells, each of a random strength. Stride 1."""
    rng = np.random.default_rng(seed)
    tiles = tuple(
        Tile(
            Box(top, left, min(top + 8, rows), min(left + 8, columns)),
            0,
            0.0,
            float(rng.choice([0.0, 0.2, 0.4, 0.8])),
        )
        for top in range(0, rows, 8)
        for left in range(0, columns, 8)
    )
    return TilePlan(columns, rows, 1, 2.0, tiles, 0.0)


class Sighted:
    """Blurs x, and adds what it sees of the source in its window."""

    def __init__(self, source: Tensor) -> None:
        self.source = source

    def __call__(self, x: Tensor, sigma: Tensor, windows: Sequence[Box]) -> Tensor:
        seen = torch.cat([self.source[..., *box.index] for box in windows])
        # A convolution may round by how its input lies in memory, as may any network of a window.
        return blurring_denoiser(x.contiguous(), sigma).contiguous() + 0.3 * seen


def streamed(
    made: Itinerary, source: Tensor, seed: int, batch: int, first: int = 0
) -> tuple[Tensor, list[int]]:
    """The canvas row by row from one on, and how many windows each batch had."""
    batches: list[int] = []
    weights = WindowWeights("feather", 2 * made.layout.margin, source)

    strength = torch.from_numpy(made.strengths.cells()).float()
    numbers = {row.numpy().tobytes(): number for number, row in enumerate(source[0].movedim(1, 0))}

    def denoiser(part: Tensor, told: Tensor) -> Sighted:
        first = numbers[part[0, :, 0].numpy().tobytes()]
        rows = slice(first, first + part.shape[2])
        assert torch.equal(part[0], source[0, :, rows])
        assert torch.equal(told[0, 0], strength[rows])
        return Sighted(part)

    stream = Stream(
        made,
        source.shape[1],
        SAMPLERS["euler"],
        SamplerOptions(),
        seed,
        weights,
        batch * WINDOW**2,
        source=lambda top, bottom, out: out.copy_(source[0, :, top:bottom].movedim(0, -1)),
        denoiser=denoiser,
        on_windows=lambda phase, count, known: batches.append(count),
    )
    result, at = torch.full_like(source, torch.nan), first
    for top, latents in stream.latents(first):
        assert top == at
        at += latents.shape[2]
        result[:, :, top:at] = latents
    assert at == source.shape[2]
    return result, batches


@given(
    rows=st.integers(WINDOW, 70),
    columns=st.integers(WINDOW, 40),
    seed=st.integers(0, 10**6),
    margin=st.integers(0, 4),
    windows=st.sampled_from(["cover", "spot"]),
    multiple=st.sampled_from([0, 1, 2]),
    shapes=st.sampled_from([(), SHAPES]),
    steps=st.integers(1, 5),
    batch=st.integers(1, 5),
    band=st.integers(1, 80),
    piece=st.integers(1, 3000),
)
@settings(max_examples=60, deadline=None)
def test_row_by_row_is_the_same_to_the_byte(
    rows: int,
    columns: int,
    seed: int,
    margin: int,
    windows: str,
    multiple: int,
    shapes: tuple[tuple[int, int], ...],
    steps: int,
    batch: int,
    band: int,
    piece: int,
) -> None:
    plan = patchwork(rows, columns, seed)
    laid = {"windows": windows, "window": WINDOW, "multiple": multiple, "shapes": shapes}
    made = itinerary(plan, steps=steps, margin=margin, **laid)
    if not made.runs:
        return
    source = torch.rand(1, 2, rows, columns, generator=torch.Generator().manual_seed(seed))
    counting = Counting(Sighted(source))
    whole = run_schedule(draft_of(made, SAMPLERS["euler"], counting, seed, source, batch))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tileup.denoise.stream.BAND", band)
        patch.setattr("tileup.denoise.stream._PIECE", piece)
        result, batches = streamed(made, source, seed, batch)
    assert torch.equal(result, whole)
    assert sorted(batches) == sorted(counting.batches)


@given(
    rows=st.integers(WINDOW, 90),
    seed=st.integers(0, 10**6),
    laying=st.sampled_from(
        [("cover", 0, ()), ("cover", 1, ()), ("cover", 0, SHAPES), ("spot", 0, ())]
    ),
    steps=st.integers(1, 4),
    batch=st.integers(1, 5),
    band=st.integers(1, 40),
    share=st.floats(0, 1),
)
@settings(max_examples=30, deadline=None)
def test_begun_at_any_row_the_rest_is_the_same_to_the_byte(
    rows: int,
    seed: int,
    laying: tuple[str, int, tuple[tuple[int, int], ...]],
    steps: int,
    batch: int,
    band: int,
    share: float,
) -> None:
    """And of what lies far above nothing is computed again, though all windows are told of."""
    windows, multiple, shapes = laying
    laid = {"windows": windows, "multiple": multiple, "shapes": shapes, "window": WINDOW}
    made = itinerary(patchwork(rows, 24, seed), steps=steps, **laid)
    if not made.runs:
        return
    first = round(share * rows)
    source = torch.rand(1, 2, rows, 24, generator=torch.Generator().manual_seed(seed))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tileup.denoise.stream.BAND", band)
        whole, batches = streamed(made, source, seed, batch)
        result, told = streamed(made, source, seed, batch, first)
    assert torch.equal(result[:, :, first:], whole[:, :, first:])
    assert sum(told) == sum(batches)


@pytest.mark.parametrize(("windows", "laid"), [("cover", 1), ("spot", 6)])
def test_what_windows_count_is_worked_out_once_for_steps_that_have_the_same(
    windows: str, laid: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of irregular plans it takes megabytes in each step. Windows that move differ in each."""
    held: list[int] = []

    class Counted(NormalisedShares):
        def __init__(self, windows: Sequence[Box], raw: WindowWeights) -> None:
            held.append(len(windows))
            super().__init__(windows, raw)

    monkeypatch.setattr("tileup.denoise.stream.NormalisedShares", Counted)
    plan = TilePlan(24, 60, 1, 2.0, (Tile(Box(0, 0, 60, 24), 0, 0.0, 0.8),), 0.0)
    made = itinerary(plan, steps=6, windows=windows, window=WINDOW)
    (phase,) = made.phases
    steps = phase.stop - phase.start
    streamed(made, torch.rand(1, 2, 60, 24), 1, 1)
    assert steps > 3
    assert len(held) == min(laid, steps)


def test_windows_of_several_shapes_are_among_them() -> None:
    made = itinerary(patchwork(90, 60, 1), steps=3, margin=2, window=WINDOW, shapes=SHAPES)
    found = {(box.height, box.width) for phase in made.phases for box in phase.windows}
    assert len(found) > 2


def test_begun_near_the_end_little_is_computed_again() -> None:
    """Of 400 rows the last forty, and a window above them for each of two steps."""
    made = itinerary(patchwork(400, 24, 1), steps=2, window=WINDOW)
    source = torch.rand(1, 2, 400, 24)
    _, batches = streamed(made, source, 1, 1)
    _, told = streamed(made, source, 1, 1, 360)
    assert set(batches) == {1}
    assert sum(each == 1 for each in told) < 0.3 * len(batches)


@given(
    channels=st.integers(1, 13),
    rows=st.integers(1, 30),
    columns=st.integers(16, 40),
    seed=st.integers(0, 2**40),
    data=st.data(),
)
@settings(max_examples=60, deadline=None)
def test_noise_row_by_row_is_that_of_the_canvas(
    channels: int, rows: int, columns: int, seed: int, data: st.DataObject
) -> None:
    whole = canvas_noise(torch.empty(1, channels, rows, columns), rows, columns, seed)[0]
    drawn, top = NoiseRows(channels, rows, columns, seed), 0
    while top < rows:
        count = data.draw(st.integers(1, rows - top))
        part = torch.empty(count, columns, channels)
        drawn.take(part)
        assert torch.equal(part, whole[:, top : top + count].movedim(0, -1))
        top += count


def test_samplers_that_look_at_one_cell_alone_are_told_from_others() -> None:
    assert SAMPLERS["euler"].is_local(s_churn=0.0)
    assert not SAMPLERS["euler"].is_local(s_churn=1.0)
    others = set(SAMPLERS) - {"euler"}
    assert not any(SAMPLERS[name].is_local(s_churn=0.0) for name in others)
