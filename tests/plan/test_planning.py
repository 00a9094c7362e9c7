"""The whole plan: cost, warnings and refusals."""

import io
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.doubles import photograph, spec
from tileup.errors import UsageError
from tileup.plan.edits import HandDrawn
from tileup.plan.grid import Grid
from tileup.plan.itinerary import Layout, Windows, window_size
from tileup.plan.layings import covering
from tileup.plan.modes import sampler_of
from tileup.plan.noise_levels import FlowLevels, WindowFlowLevels
from tileup.plan.planning import Planned, plan_pixels
from tileup.plan.samplers import SAMPLERS
from tileup.settings.values import DENOISE_MODES, Settings

SMALL = Settings(tile=64, min_tile=8, overlap=8, steps=8)


def test_uniform_strength_costs_what_uniform_is_said_to_cost() -> None:
    pixels = photograph(60, 90)
    uniform = plan_pixels(pixels, 180, 120, spec(), replace(SMALL, min_denoise=0.8)).cost
    varied = plan_pixels(pixels, 180, 120, spec(), SMALL).cost
    assert uniform.megapixel_steps == uniform.uniform_megapixel_steps
    assert uniform.saving == 0
    assert varied.uniform_megapixel_steps == uniform.megapixel_steps
    assert 0.05 < varied.saving < 0.9
    assert varied.megapixel_steps == pytest.approx(varied.model_calls * 32 * 32 / 1e6)


@settings(max_examples=60, deadline=None)
@given(
    width=st.integers(1, 300),
    height=st.integers(1, 200),
    low=st.floats(0, 1),
    high=st.floats(0, 1),
    steps=st.integers(1, 12),
    sampler=st.sampled_from(sorted(SAMPLERS.keys() - {"dpm_adaptive"})),
    window=st.sampled_from([16, 32, 64]),
    overlap=st.sampled_from([0, 4, 8]),
)
def test_the_cost_never_exceeds_uniform_by_more_than_the_cover_allows(
    width: int,
    height: int,
    low: float,
    high: float,
    steps: int,
    sampler: str,
    window: int,
    overlap: int,
) -> None:
    low, high = sorted((low, high))
    chosen = replace(
        SMALL,
        min_denoise=low,
        max_denoise=high,
        steps=steps,
        sampler=sampler,
        window=window,
        overlap=overlap,
    )
    pixels = photograph(max(height // 2, 1), max(width // 2, 1))
    planned = plan_pixels(pixels, width, height, spec(), chosen)
    cost = planned.cost
    assert (cost.model_calls == 0) == (planned.plan.strengths == ())
    # A cover of part of the canvas may take a window more in places than the regular one.
    assert cost.megapixel_steps <= cost.uniform_megapixel_steps * 1.5


def test_too_few_steps_are_said() -> None:
    pixels = photograph(60, 90)
    few = plan_pixels(pixels, 180, 120, spec(), replace(SMALL, steps=2))
    assert "more strengths than 2 steps" in few.warnings[0]
    assert plan_pixels(pixels, 180, 120, spec(), SMALL).warnings == ()


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("sampler", "eular", "did you mean 'euler'"),
        ("scheduler", "karas", "did you mean 'karras'"),
        ("overlap", 32, "at most 28 with windows of 32 pixels, got 32"),
    ],
)
def test_what_cannot_be_is_refused(name: str, value: object, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        plan_pixels(photograph(20, 20), 40, 40, spec(), replace(SMALL, **{name: value}))


@pytest.mark.parametrize("window", [8, 9, 12, 13, 64, 72, 73, None])
def test_the_largest_overlap_that_is_named_is_one_that_fits(window: int | None) -> None:
    side = window_size(spec(), replace(SMALL, window=window, overlap=0)).side * 2
    with pytest.raises(UsageError, match=f"windows of {side} pixels") as refused:
        window_size(spec(), replace(SMALL, window=window, overlap=side))
    most = int(str(refused.value).split()[5])
    window_size(spec(), replace(SMALL, window=window, overlap=most))
    with pytest.raises(UsageError, match=f"at most {most} "):
        window_size(spec(), replace(SMALL, window=window, overlap=most + 1))


@pytest.mark.parametrize(
    ("window", "multiple", "side"), [(None, 2, 16), (33, 2, 17), (33, 16, 24), (8, 16, 8)]
)
def test_a_window_is_rounded_up_to_what_the_network_takes(
    window: int | None, multiple: int, side: int
) -> None:
    model = replace(spec(), multiple=multiple)
    assert window_size(model, replace(SMALL, window=window, overlap=4)).side == side


@pytest.mark.parametrize("budget", [0.35, 0.5, 0.7, 0.9])
def test_a_budget_is_kept_and_used(budget: float) -> None:
    pixels = photograph(90, 160, seed=3)
    planned = plan_pixels(pixels, 320, 180, spec(), replace(SMALL, budget=budget))
    share = 1 - planned.cost.saving
    assert share <= budget
    assert planned.warnings == ()
    dearer = [
        plan_pixels(pixels, 320, 180, spec(), replace(SMALL, detail_threshold=threshold)).cost
        for threshold in planned.plan.threshold * np.array([0.9, 0.8, 0.6, 0.4])
    ]
    assert any(1 - each.saving > budget for each in dearer) or share > 0.9 * budget


@pytest.mark.parametrize("mode", DENOISE_MODES)
def test_a_search_lays_the_windows_of_each_map_once(
    mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    laid: list[bytes] = []

    def counted(working: Grid, layout: Layout, steps: range, seed: int) -> tuple[Windows, ...]:
        laid.append(working.cells().tobytes() + bytes([steps.start, steps.stop]))
        return covering(working, layout, steps, seed)

    chosen = replace(SMALL, budget=0.6, denoise_mode=mode)
    plain = plan_pixels(photograph(90, 160, seed=3), 320, 180, spec(), chosen)
    monkeypatch.setattr("tileup.plan.cost.LAYINGS", {"cover": counted})
    again = plan_pixels(photograph(90, 160, seed=3), 320, 180, spec(), chosen)
    assert (again.plan, again.cost) == (plain.plan, plain.cost)
    assert again.itinerary.runs == plain.itinerary.runs
    assert len(set(laid)) == len(laid) > 0


def test_a_budget_that_cannot_be_reached_says_what_can() -> None:
    pixels = photograph(90, 160)
    planned = plan_pixels(pixels, 320, 180, spec(), replace(SMALL, budget=0.05))
    cheapest = 1 - planned.cost.saving
    assert f"costs {cheapest:.0%}" in planned.warnings[-1]
    assert set(planned.plan.strengths) == {0.2}


def test_advice_on_a_budget_fits_the_mode() -> None:
    pixels = photograph(90, 160)
    blend = replace(SMALL, budget=0.5, denoise_mode="blend")
    assert "Only kept tiles" in plan_pixels(pixels, 320, 180, spec(), blend).warnings[-1]
    weaker = replace(SMALL, budget=0.05)
    assert "A lower --min-denoise" in plan_pixels(pixels, 320, 180, spec(), weaker).warnings[-1]


@pytest.mark.parametrize("window", [200, 10_000, 1_000_000])
def test_a_window_larger_than_the_picture_is_cut_down(window: int) -> None:
    chosen = replace(SMALL, window=window)
    layout = plan_pixels(photograph(30, 50), 100, 60, spec(), chosen).itinerary.layout
    assert (layout.rows, layout.columns, layout.window) == (50, 50, 50)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_samplers_that_begin_anew_are_named_where_they_do(sampler: str) -> None:
    """lms and dpm_fast, and only where tiles start at different steps."""

    def said(**change: object) -> bool:
        settings = replace(SMALL, sampler=sampler, **change)
        planned = plan_pixels(photograph(30, 50), 100, 60, spec(), settings)
        return any("begins anew wherever a strength starts" in each for each in planned.warnings)

    if sampler == "dpm_adaptive":  # refused with more than one strength
        assert not said(min_denoise=0.5, max_denoise=0.5)
        return
    assert said() == (sampler in ("lms", "dpm_fast"))
    assert not said(min_denoise=0.5, max_denoise=0.5)
    assert not said(denoise_mode="passes")
    assert not said(denoise_mode="sigma")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"eta": 0.5}, "euler takes no eta"),
        ({"s_churn": 5.0, "sampler": "dpmpp_sde"}, "dpmpp_sde takes no s-churn"),
        ({"s_noise": 0.5, "sampler": "dpmpp_2m"}, "dpmpp_2m takes no s-noise"),
        ({"ramp": 2.0}, "ramp has no effect"),
        ({"min_scale": 0.5, "denoise_mode": "sigma"}, "min-scale has no effect"),
        ({"scale_range": 1.0}, "scale-range has no effect"),
        ({"texture": 0.5}, "texture has no effect: double has no network for texture."),
        ({"deblock": "on"}, "deblock has no effect: double has no network for JPEG's damage."),
        ({"control_scale": 0.5}, "control-scale has no effect: no control is given"),
        ({"control_end": 0.5}, "control-end has no effect: no control is given"),
        ({"denoise_map": "m.png", "denoise_by": "area"}, "denoise-by has no effect"),
    ],
    ids=str,
)
def test_what_has_no_effect_is_said(change: dict[str, object], words: str) -> None:
    planned = plan_pixels(photograph(30, 50), 100, 60, spec(), replace(SMALL, **change))
    assert words in planned.warnings[-1]


@pytest.mark.parametrize(
    "change",
    [
        {"ramp": 2.0, "min_scale": 0.5, "denoise_mode": "scale"},
        {"control_scale": 0.5, "control_end": 0.5, "control": ("c.safetensors",)},
        {"denoise_map": "m.png", "min_denoise": 0.8},
        {"texture": 0.0},
    ],
    ids=str,
)
def test_what_has_an_effect_is_not_said_to_have_none(change: dict[str, object]) -> None:
    changed = replace(SMALL, **change)
    grey = HandDrawn(denoise_map=np.full((6, 10), 0.5, dtype=np.float32))
    drawn = grey if changed.denoise_map else None
    planned = plan_pixels(photograph(30, 50), 100, 60, spec(), changed, drawn)
    for words in ("no effect", "min-denoise equals"):
        assert not [each for each in planned.warnings if words in each]


def test_flags_of_other_families_are_said_to_have_no_effect() -> None:
    asked = replace(SMALL, guidance=3.0, vae_tile=64)

    def said(text: bool, guided: bool) -> tuple[str, ...]:
        model = replace(spec(), text=text, guided=guided)
        return plan_pixels(photograph(30, 50), 100, 60, model, asked).warnings

    assert any("vae-tile has no effect" in each for each in said(text=False, guided=False))
    assert any("guidance has no effect" in each for each in said(text=True, guided=False))
    assert not [each for each in said(text=True, guided=True) if "no effect" in each]


def test_texture_has_an_effect_on_a_model_with_a_network_for_it() -> None:
    textured, asked = replace(spec(), textured=True), replace(SMALL, texture=0.5)
    planned = plan_pixels(photograph(30, 50), 100, 60, textured, asked)
    assert not [each for each in planned.warnings if "no effect" in each]


@pytest.mark.parametrize(
    ("deblocks", "asked", "done"),
    [
        (True, "auto", True),
        (True, "on", True),
        (True, "off", False),
        (False, "auto", False),
    ],
)
def test_a_picture_that_jpeg_damaged_is_deblocked_by_models_that_can(
    deblocks: bool, asked: str, done: bool
) -> None:
    buffer = io.BytesIO()
    clean = photograph(96, 120)
    Image.fromarray((255 * clean).astype(np.uint8)).save(buffer, "jpeg", quality=40)
    damaged = np.asarray(Image.open(buffer), np.float32) / 255
    model, settings = replace(spec(), deblocks=deblocks), replace(SMALL, deblock=asked)
    assert plan_pixels(damaged, 240, 192, model, settings).deblock == done
    assert plan_pixels(clean, 240, 192, model, settings).deblock == (asked == "on")


@pytest.mark.parametrize("name", ["mask", "denoise_map"])
@pytest.mark.parametrize(
    ("shape", "stretched"), [((6, 10), 0), ((30, 51), 0), ((10, 6), 1), ((1, 300), 1)]
)
def test_a_mask_or_map_of_another_shape_is_said_to_be_stretched(
    name: str, shape: tuple[int, int], stretched: int
) -> None:
    drawn = HandDrawn(**{name: np.full(shape, 0.5, dtype=np.float32)})
    planned = plan_pixels(photograph(30, 50), 100, 60, spec(), SMALL, drawn)
    said = [each for each in planned.warnings if "is stretched to the picture's 100x60" in each]
    assert len(said) == stretched


@pytest.mark.parametrize(
    ("size", "fit", "told"),
    [
        ((100, 60), None, ""),
        ((101, 60), None, ""),  # a rounded side is no other shape
        ((120, 60), None, "it becomes 1.2 times as wide for its shape"),
        ((50, 60), None, "it becomes 2 times as high for its shape"),
        ((120, 60), "stretch", ""),
        ((100, 60), "inside", ""),
    ],
)
def test_a_size_that_stretches_the_picture_is_pointed_out(
    size: tuple[int, int], fit: str | None, told: str
) -> None:
    asked = replace(SMALL, size="{}x{}".format(*size), fit=fit)
    said = plan_pixels(photograph(30, 50), *size, spec(), asked).warnings
    assert [each for each in said if "stretches a picture of 50x30" in each] == [
        each for each in said if told and told in each
    ]
    assert any("stretches" in each for each in said) == bool(told)


def test_how_to_fit_has_no_effect_without_a_size() -> None:
    said = plan_pixels(photograph(30, 50), 100, 60, spec(), replace(SMALL, fit="cover")).warnings
    assert "fit has no effect: no size is given." in said


@pytest.mark.parametrize("threshold", [float("inf"), float("nan"), -1.0])
def test_a_threshold_that_is_no_number_is_refused(threshold: float) -> None:
    with pytest.raises(UsageError, match="must be a number from 0"):
        replace(SMALL, detail_threshold=threshold)


def test_a_budget_and_a_threshold_do_not_go_together() -> None:
    with pytest.raises(UsageError, match="give one of the two"):
        replace(SMALL, budget=0.5, detail_threshold=0.1)


@pytest.mark.parametrize("mode", ["schedule", "sigma"])
def test_a_sampler_that_chooses_its_own_steps_is_refused_with_the_names_of_others(
    mode: str,
) -> None:
    chosen = replace(SMALL, sampler="dpm_adaptive", denoise_mode=mode)
    with pytest.raises(UsageError, match=r"use euler, .* or dpmpp_3m_sde, or denoise-mode passes"):
        sampler_of(chosen)
    uniform = replace(chosen, min_denoise=0.5, max_denoise=0.5)
    if mode == "schedule":
        assert sampler_of(uniform).name == "dpm_adaptive"
    else:
        with pytest.raises(UsageError):
            sampler_of(uniform)


def test_every_other_pair_of_mode_and_sampler_is_planned() -> None:
    pixels = photograph(60, 90)
    for mode in DENOISE_MODES:
        for name in SAMPLERS:
            if name == "dpm_adaptive" and mode in {"schedule", "sigma"}:
                continue
            chosen = replace(SMALL, sampler=name, denoise_mode=mode)
            planned = plan_pixels(pixels, 180, 120, spec(), chosen)
            assert planned.cost.model_calls > 0
            assert planned.cost.exact == (name != "dpm_adaptive")


def test_modes_cost_what_they_are_said_to_cost() -> None:
    pixels = photograph(60, 90)
    cost = {
        mode: plan_pixels(pixels, 180, 120, spec(), replace(SMALL, denoise_mode=mode)).cost
        for mode in DENOISE_MODES
    }
    uniform = cost["schedule"].uniform_megapixel_steps
    assert cost["schedule"].megapixel_steps < uniform
    assert cost["blend"].megapixel_steps == cost["scale"].megapixel_steps == uniform
    assert cost["sigma"].megapixel_steps >= uniform
    # every strength takes its share of the steps, over the whole canvas
    strengths = plan_pixels(pixels, 180, 120, spec(), SMALL).plan.strengths
    assert cost["passes"].megapixel_steps == pytest.approx(uniform * sum(strengths) / 0.8)


@pytest.mark.parametrize("flag", ["skip_smaller", "skip_larger", "skip_below"])
def test_flags_that_skip_every_tile_are_told(flag: str) -> None:
    """And those that skip some are not."""
    everything = {"skip_smaller": "1000", "skip_larger": "0%", "skip_below": 1.0}
    some = {"skip_smaller": "60%", "skip_larger": "70%", "skip_below": 0.5}

    def planned(asked: object) -> Planned:
        return plan_pixels(photograph(60, 90), 180, 120, spec(), replace(SMALL, **{flag: asked}))

    said = f"{flag.replace('_', '-')}: every tile is skipped, so the whole picture is kept"
    found = planned(everything[flag])
    assert said in found.warnings[-1]
    assert not found.plan.strengths
    partly = planned(some[flag])
    assert not [each for each in partly.warnings if "every tile" in each]
    assert partly.plan.strengths
    assert min(tile.denoise for tile in partly.plan.tiles) == 0


@pytest.mark.parametrize("by", ["mask", "lines", "denoise_map", "max_denoise"])
def test_flags_are_not_blamed_for_what_keeps_the_picture_without_them(by: str) -> None:
    """A mask, also one whose black lines are thinner than a cell, a black map, a strength of 0."""
    white = np.ones((120, 180), np.float32)
    lines = white.copy()
    lines[::40] = 0
    drawn = {
        "mask": HandDrawn(mask=white),
        "lines": HandDrawn(mask=lines),
        "denoise_map": HandDrawn(denoise_map=0 * white),
    }.get(by, HandDrawn())
    low = {"min_denoise": 0.0, "max_denoise": 0.0} if by == "max_denoise" else {}

    def warned(**skip: object) -> str:
        asked = replace(SMALL, **low, **skip)
        found = plan_pixels(photograph(60, 90), 180, 120, spec(), asked, drawn)
        assert not found.plan.strengths
        return " ".join(found.warnings)

    assert "skip" not in warned(skip_larger="70%")
    assert warned(skip_larger="70%") == warned()
    assert ("whole picture is kept" in warned()) == (by != "max_denoise")


def test_flags_that_skip_all_that_a_mask_leaves_are_told() -> None:
    mask = np.zeros((120, 180), np.float32)
    mask[:60] = 1
    asked = replace(SMALL, skip_smaller="1000")
    found = plan_pixels(photograph(60, 90), 180, 120, spec(), asked, HandDrawn(mask=mask))
    assert "skip-smaller: every tile outside of the mask is skipped" in found.warnings[-1]


def test_warnings_say_what_a_mode_or_schedule_does() -> None:
    pixels = photograph(60, 90)

    def warned(**change: object) -> str:
        return " ".join(plan_pixels(pixels, 180, 120, spec(), replace(SMALL, **change)).warnings)

    assert "approximation" in warned(denoise_mode="scale")
    assert "approximation" in warned(denoise_mode="blend")
    assert "fall below the lowest noise level" in warned(denoise_mode="sigma", scheduler="karras")
    assert "the cost is a guess" in warned(sampler="dpm_adaptive", denoise_mode="passes")
    assert "nearly a hard edge" in warned(weights="gaussian", window=32, overlap=8)
    assert "hard edge" not in warned(weights="gaussian", window=128, overlap=32)
    assert "hard edge" not in warned(weights="feather", window=32, overlap=8)
    high = replace(spec(), levels=FlowLevels(3.0))
    huge = plan_pixels(pixels, 180, 120, high, replace(SMALL, max_denoise=1.0, scheduler="karras"))
    assert "leaves few steps" in huge.warnings[-1]


def test_a_plan_for_flux_dev_starts_from_the_noise_that_its_window_asks_for() -> None:
    pixels = photograph(90, 60)
    model = replace(spec(), window=64, multiple=16, levels=WindowFlowLevels.of(1024))
    chosen = replace(SMALL, window=64, overlap=8)
    planned = plan_pixels(pixels, 180, 120, model, chosen)
    expected = WindowFlowLevels.of(64).sigma(np.array([0.8]))[0]
    assert planned.itinerary.schedule.sigmas[0] == pytest.approx(expected)
    assert expected < 0.6 * model.levels.sigma(np.array([0.8]))[0]
