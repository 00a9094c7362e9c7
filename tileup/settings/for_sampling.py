"""How the network is called: windows, steps, sampler."""

from __future__ import annotations

from dataclasses import dataclass

from tileup.settings.checks import at_least, count_or_auto, one_of, within
from tileup.settings.setting import TOP, Panel, setting
from tileup.wording import listed

WEIGHTS = ("feather", "gaussian", "uniform")
WINDOWS = ("cover", "spot")


@dataclass(frozen=True, init=False, repr=False, eq=False)
class SamplingSettings:
    """How the network is called: windows, steps, sampler."""

    __slots__ = ()

    window: int | None = setting(
        None,
        Panel.SAMPLING,
        "PX",
        "Side of what the network sees at once, output pixels (default: the model's own).",
        at_least(8),
        behind="s_churn",
    )
    overlap: int = setting(
        16,
        Panel.SAMPLING,
        "PX",
        "How far windows overlap, and strengths fade into one another.",
        at_least(0),
    )
    weights: str = setting(
        "feather",
        Panel.SAMPLING,
        "NAME",
        f"How windows are blended: {listed(WEIGHTS, 'or')} (default: {{default}}).",
        one_of(WEIGHTS),
    )
    windows: str = setting(
        "cover",
        Panel.SAMPLING,
        "HOW",
        "cover: the fewest, overlapping; spot: side by side, moved in each step "
        "(default: {default}).",
        one_of(WINDOWS),
        behind="window",
    )
    batch: int | str = setting(
        "auto",
        Panel.SAMPLING,
        "N|auto",
        "Windows evaluated at once: speed and memory, not the picture; auto: as many as fit on an "
        "NVIDIA GPU, few elsewhere (default: {default}).",
        count_or_auto,
        behind="weights",
    )
    steps: int = setting(
        3,
        Panel.SAMPLING,
        "N",
        "Steps of the strongest tiles; weaker ones take their share.",
        within(1, 1000),
        behind=TOP,
    )
    sampler: str = setting(
        "euler",
        Panel.SAMPLING,
        "NAME",
        "By k-diffusion's names: euler, heun, dpmpp_2m, dpmpp_sde ...",
    )
    scheduler: str = setting(
        "sgm_uniform",
        Panel.SAMPLING,
        "NAME",
        "Spacing of the noise levels: sgm_uniform, karras, exponential ...",
    )
    eta: float | None = setting(
        None, Panel.SAMPLING, "0..1", "Fresh noise of ancestral and SDE samplers.", within(0, 1)
    )
    s_noise: float = setting(
        1.0, Panel.SAMPLING, "0..2", "Factor of that noise (default: {default}).", within(0, 2)
    )
    s_churn: float = setting(
        0.0,
        Panel.SAMPLING,
        "N",
        "Noise that euler, heun and dpm_2 add (default: {default}).",
        within(0, 100),
    )
