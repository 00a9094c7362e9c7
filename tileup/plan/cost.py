"""What a plan costs, known before anything runs."""

from __future__ import annotations

from dataclasses import dataclass


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
