"""The public functions: one picture in Python.

Settings are those of the command line, as keyword arguments: `min_denoise=0.2`, `steps=12`,
`denoise=0.3` for both strengths, `preset="subtle"`. Unlike the command line, these functions
read no `TILEUP_*` settings from the environment.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from tileup.contracts import Model, ModelSpec, OnStep
from tileup.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

    from tileup.images.picture import Picture
    from tileup.plan.tiles import TilePlan
    from tileup.settings.values import Settings
    from tileup.upscaling import Upscaled

    ImageLike = Path | str | BinaryIO | bytes | Image.Image | NDArray[np.generic] | Picture
    """A file, its bytes, a Pillow image, an array (uint8, or float in [0, 1]) or a Picture."""


def upscale(
    image: ImageLike,
    model: str | Path | Model | None = None,
    *,
    on_step: OnStep | None = None,
    **settings: object,
) -> Upscaled:
    """Enlarge one picture, redrawing each tile at its own strength.

    Args:
        image: a file, a Pillow image, an array or a Picture.
        model: a file, a model's name, or one from `load_model`; None is the bundled one. To
            enlarge many pictures, load it once.
        on_step: told after each batch of windows; raising stops the work.
        **settings: see `tileup.Settings`; and `preset`.

    Raises:
        TileupError: with a sentence that says what is wrong.
    """
    from tileup.checkpoints.load import load_model as load
    from tileup.upscaling import upscale_picture

    complete, found = _resolved(model, settings)
    picture = _picture(image, complete)
    loaded = load(found, complete) if isinstance(found, Path) else found
    return upscale_picture(picture, loaded, complete, on_step)


def make_plan(
    image: ImageLike, model: str | Path | Model | None = None, **settings: object
) -> TilePlan:
    """What `upscale` would do, without a model in memory and without torch.

    Args:
        image, model, settings: as for `upscale`.

    Raises:
        TileupError: with a sentence that says what is wrong.
    """
    from tileup.plan.planning import plan_picture

    complete, found = _resolved(model, settings)
    return plan_picture(_picture(image, complete), _spec(found, complete), complete).plan


def load_model(model: str | Path | None = None, device: str = "auto", **settings: object) -> Model:
    """Load a checkpoint.

    Args:
        model: a file or a model's name; None is the bundled one.
        device: auto, cpu, cuda, cuda:N or mps.
        **settings: precision and parts: `dtype`, `low_memory`, `vae`, `clip_l`, `control`, `lora`
            and so on, see `tileup.Settings`.

    Raises:
        ModelError: it is missing, unreadable or of no known family.
        UsageError: the device is not there, or a setting is not known.
    """
    from tileup.checkpoints.load import load_model as load

    complete, found = _resolved(model, {**settings, "device": device})
    return load(found, complete) if isinstance(found, Path) else found


def _resolved(
    model: str | Path | Model | None, settings: dict[str, Any]
) -> tuple[Settings, Path | Model]:
    """Complete settings, and the model's file or the loaded model."""
    from tileup.resolving import check_together, resolve_with_model
    from tileup.settings.layers import resolve

    preset = settings.pop("preset", None)
    if preset is not None and not isinstance(preset, str):
        raise UsageError(f"preset must be a name, got {preset!r}")
    if model is None or isinstance(model, str | Path):
        named = {} if model is None else {"model": str(model)}
        resolved = resolve_with_model(preset, flags=settings | named)
        return resolved.settings, resolved.model
    complete = resolve(model.spec.family, preset, flags=settings)
    check_together(complete, model.spec)
    return complete, model


def _spec(model: Path | Model, settings: Settings) -> ModelSpec:
    from tileup.checkpoints.find import identify

    return identify(model, settings.prediction) if isinstance(model, Path) else model.spec


def _picture(image: ImageLike, settings: Settings) -> Picture:
    from tileup.images.picture import Picture
    from tileup.images.reading import open_picture

    return image if isinstance(image, Picture) else open_picture(image, settings.max_input_pixels)
