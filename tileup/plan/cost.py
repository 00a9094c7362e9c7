"""What a plan costs, known before anything runs."""

from __future__ import annotations

from dataclasses import dataclass, replace

from tileup.contracts import Box, ModelSpec
from tileup.plan.itinerary import Itinerary
from tileup.plan.layings import LAYINGS, remembered
from tileup.plan.modes import itinerary_of, strongest
from tileup.plan.samplers import Sampler
from tileup.plan.tiles import Tile, TilePlan
from tileup.settings.values import Settings


@dataclass(frozen=True, slots=True)
class Cost:
    """Work of one picture. The same windows, counted while it runs, give the same numbers."""

    tiles: int
    """Tiles of the plan."""
    windows: int
    """Places at which a window is evaluated, in any phase."""
    model_calls: int
    """Windows evaluated, over all evaluations of the denoiser. Batches do not change it; the two
    rows of guidance count once."""
    megapixel_steps: float
    """Area of those windows, output megapixels."""
    uniform_megapixel_steps: float
    """The same for every tile at the highest strength, with the same settings and code."""
    exact: bool = True
    """Whether the calls are known, or guessed for a sampler that chooses its own steps."""

    @property
    def saving(self) -> float:
        """Share of the uniform cost that is not spent; 0 where the uniform cost is 0."""
        return _saving(self.megapixel_steps, self.uniform_megapixel_steps)

    @property
    def share(self) -> float:
        """Share of the uniform cost that is spent."""
        return 1 - self.saving

    def to_dict(self) -> dict[str, float]:
        """As `--json` prints it; `exact` is there, and false, only when the calls are a guess."""
        guess: dict[str, float] = {} if self.exact else {"exact": False}
        return {
            "tiles": self.tiles,
            "windows": self.windows,
            "model_calls": self.model_calls,
            "megapixel_steps": self.megapixel_steps,
            "uniform_megapixel_steps": self.uniform_megapixel_steps,
            **guess,
        }


def _saving(spent: float, uniform: float) -> float:
    return 1 - spent / uniform if uniform else 0.0


class Prices:
    """What plans of one picture cost.

    Args:
        spec: the model.
        settings: how the plans are run.
        sampler: that the settings name.
    """

    def __init__(self, spec: ModelSpec, settings: Settings, sampler: Sampler) -> None:
        self.spec, self.settings, self.sampler = spec, settings, sampler
        self._uniforms: dict[float, float] = {}
        self._laying = remembered(LAYINGS[settings.windows])

    def itinerary(self, plan: TilePlan) -> Itinerary:
        """How a plan is run."""
        return itinerary_of(plan, self.spec, self.settings, self._laying)

    def of(self, plan: TilePlan, itinerary: Itinerary) -> Cost:
        """What an itinerary costs, beside one tile of the strongest strength."""
        return Cost(
            tiles=len(plan.tiles),
            windows=itinerary.windows,
            model_calls=itinerary.model_calls(self.sampler),
            megapixel_steps=self._megapixels(itinerary),
            uniform_megapixel_steps=self._uniform(plan),
            exact=self.sampler.call != "tolerance",
        )

    def share(self, plan: TilePlan) -> float:
        """What a plan costs against the uniform one: as its cost will say."""
        return 1 - _saving(self._megapixels(self.itinerary(plan)), self._uniform(plan))

    def _megapixels(self, itinerary: Itinerary) -> float:
        """Area of the windows that are evaluated, output megapixels."""
        return itinerary.evaluated_cells(self.sampler) * self.spec.stride**2 / 1e6

    def _uniform(self, plan: TilePlan) -> float:
        """The same with the strongest strength everywhere."""
        top = strongest(plan, self.settings)
        if top not in self._uniforms:
            settings = replace(self.settings, denoise_mode="schedule")
            uniform = itinerary_of(at_strength(plan, top), self.spec, settings, self._laying)
            self._uniforms[top] = self._megapixels(uniform)
        return self._uniforms[top]


def at_strength(plan: TilePlan, denoise: float) -> TilePlan:
    """The same canvas as one tile of one strength."""
    whole = Box(0, 0, plan.rows, plan.columns)
    detail = float(plan.held.detail.max())
    return replace(plan, tiles=(Tile(whole, depth=0, detail=detail, denoise=denoise),))
