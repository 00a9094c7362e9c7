"""Files that go with a picture: its heatmap, and its plan as JSON."""

from __future__ import annotations

import json
from pathlib import Path

from tileup.engine.heatmaps import titled
from tileup.engine.request import Job
from tileup.images.picture import Picture
from tileup.images.reading import open_picture
from tileup.images.whole import write_whole
from tileup.images.writing import resolve_format, save_picture
from tileup.plan.cost import Cost
from tileup.plan.heatmap import heatmap
from tileup.plan.tiles import TilePlan
from tileup.settings.values import Settings


def save_companions(
    job: Job, picture: Picture, plan: TilePlan, cost: Cost, settings: Settings
) -> None:
    """Write what the job asks for beside its picture.

    Raises:
        OutputError: a file cannot be written, or is there and may not be replaced.
    """
    if job.heatmap is not None:
        save_heatmap(job.heatmap, picture, plan, settings, job.overwrite)
    if job.plan_json is not None:
        text = json.dumps(plan_to_dict(plan, cost), indent=1) + "\n"
        write_whole(
            job.plan_json, text.encode(), overwrite=job.overwrite, on_written=_nothing_to_add
        )


def save_heatmap(
    path: Path, picture: Picture, plan: TilePlan, settings: Settings, overwrite: bool
) -> None:
    """Write a plan as a picture of strengths over the picture it was made for."""
    format = resolve_format(path, None, None)
    image = heatmap(
        picture.pixels, plan, min_denoise=settings.min_denoise, max_denoise=settings.max_denoise
    )
    drawn = open_picture(image)
    drawn = titled(drawn) if settings.metadata else drawn
    save_picture(drawn, path, format, overwrite=overwrite, on_written=_nothing_to_add)


def _nothing_to_add(path: Path) -> None:
    """Companions are on record with their picture, whose lock covers them too."""


def plan_to_dict(plan: TilePlan, cost: Cost) -> dict[str, object]:
    """A plan with its cost, as `plan --json` and `--plan-json` give it."""
    return {**plan.to_dict(), "cost": cost.to_dict()}
