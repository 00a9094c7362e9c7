"""What a plan costs, known before anything runs."""

from __future__ import annotations

from dataclasses import dataclass, replace

from tileup.contracts import Box, ModelSpec
from tileup.plan.itinerary import Itinerary
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
        uniform = self.uniform_megapixel_steps
        return 1 - self.megapixel_steps / uniform if uniform else 0.0

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


def cost_of(
    plan: TilePlan, itinerary: Itinerary, sampler: Sampler, spec: ModelSpec, settings: Settings
) -> Cost:
    """What an itinerary costs, beside one tile of the strongest strength."""
    uniform = itinerary_of(
        at_strength(plan, strongest(plan, settings)),
        spec,
        replace(settings, denoise_mode="schedule"),
    )
    area = (itinerary.layout.window * spec.stride) ** 2 / 1e6
    calls = itinerary.model_calls(sampler)
    return Cost(
        tiles=len(plan.tiles),
        windows=itinerary.windows,
        model_calls=calls,
        megapixel_steps=calls * area,
        uniform_megapixel_steps=uniform.model_calls(sampler) * area,
        exact=sampler.call != "tolerance",
    )


def at_strength(plan: TilePlan, denoise: float) -> TilePlan:
    """The same canvas as one tile of one strength."""
    whole = Box(0, 0, plan.rows, plan.columns)
    detail = max(tile.detail for tile in plan.tiles)
    return replace(plan, tiles=(Tile(whole, depth=0, detail=detail, denoise=denoise),))
