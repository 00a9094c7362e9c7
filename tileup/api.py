"""The public functions: one picture in Python.

Settings are those of the command line, as keyword arguments: `min_denoise=0.2`, `steps=12`,
`denoise=0.3` for both strengths, `preset="subtle"`. Unlike the command line, these functions
read no `TILEUP_*` settings from the environment.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from tileup.contracts import AroundModel, Model, ModelSpec, OnStep
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
            enlarge many pictures, load it once: device, precision and parts are then settled.
        on_step: told after each batch of windows; raising stops the work.
        **settings: see `tileup.Settings`; and `preset`.

    Raises:
        TileupError: with a sentence that says what is wrong.
        UsageError: above all where settings contradict how the model was loaded.
    """
    from tileup.upscaling import upscale_picture

    complete, found = _resolved(model, settings)
    picture = _picture(image, complete)
    loaded = _loaded(found, complete) if isinstance(found, Path) else found
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
    from tileup.checkpoints.find import identified
    from tileup.checkpoints.given import check_given
    from tileup.plan.planning import plan_picture

    complete, found = _resolved(model, settings)
    if isinstance(found, Path):
        check_given(identified(found, complete.prediction), complete)
    return plan_picture(_picture(image, complete), _spec(found, complete), complete).plan


def load_model(
    model: str | Path | None = None, device: str = "auto", **settings: object
) -> LoadedModel:
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
    complete, found = _resolved(model, {**settings, "device": device})
    return found if isinstance(found, LoadedModel) else _loaded(found, complete)


@dataclass(frozen=True, slots=True)
class LoadedModel(AroundModel):
    """A model, and the settings it was loaded with; satisfies `tileup.contracts.Model`."""

    settings: Settings


def _loaded(path: Path, settings: Settings) -> LoadedModel:
    from tileup.checkpoints.load import load_model as load

    return LoadedModel(load(path, settings), settings)


def _resolved(
    model: str | Path | Model | LoadedModel | None, asked: dict[str, Any]
) -> tuple[Settings, Path | LoadedModel]:
    """Complete settings, and the model's file or the loaded model."""
    from tileup.model_settings import resolve_with_model

    preset = asked.pop("preset", None)
    if preset is not None and not isinstance(preset, str):
        raise UsageError(f"preset must be a name, got {preset!r}")
    if model is None or isinstance(model, str | Path):
        named = {} if model is None else {"model": str(model)}
        resolved = resolve_with_model(preset, flags=asked | named)
        return resolved.settings, resolved.model
    if not hasattr(model, "spec"):
        kind = type(model).__name__
        raise UsageError(f"a model is a file, a name or one from load_model, and no {kind}")
    loaded = model if isinstance(model, LoadedModel) else _of_another(model)
    return _for_loaded(loaded, preset, asked), loaded


def _of_another(model: Model) -> LoadedModel:
    """A model that came about in another way than by `load_model`."""
    from tileup.settings.values import DTYPES, Settings

    dtype = str(model.dtype).removeprefix("torch.")
    known = dtype if dtype in DTYPES and model.runtime != "int8" else "auto"
    return LoadedModel(model, Settings(device=model.device, dtype=known))


def _for_loaded(loaded: LoadedModel, preset: str | None, asked: dict[str, Any]) -> Settings:
    """Complete settings for a model whose parts, device and precision are settled.

    Raises:
        UsageError: what was asked for contradicts what was loaded.
    """
    from tileup.model_settings import check_together
    from tileup.settings.layers import resolve
    from tileup.settings.typed import checked
    from tileup.settings.values import FLAGS

    wanted = checked(asked, "settings")
    settled = [each.name for each in FLAGS if each.flag.loading]
    held = {name: getattr(loaded.settings, name) for name in settled}
    for name in settled:
        if name in wanted and not _agrees(loaded, name, wanted[name]):
            raise UsageError(
                f"{name} is {wanted[name]!r}, and the model was loaded with {held[name]!r}; "
                f"load it with tileup.load_model(..., {name}={wanted[name]!r})"
            )
    complete = resolve(loaded.spec.family, preset, flags=wanted | held)
    check_together(complete, loaded.spec)
    return complete


def _agrees(loaded: LoadedModel, name: str, wanted: object) -> bool:
    """Whether a model was loaded as is wanted now; `auto` is whatever it is."""
    if wanted in (getattr(loaded.settings, name), "auto"):
        return True
    if name == "device":
        from tileup.devices import pick_device

        return pick_device(str(wanted)) == loaded.device
    if name == "runtime":
        return wanted == loaded.model.runtime
    same = name == "dtype" and str(loaded.model.dtype) == f"torch.{wanted}"
    return same and loaded.model.runtime != "int8"


def _spec(model: Path | LoadedModel, settings: Settings) -> ModelSpec:
    from tileup.checkpoints.find import identify

    return identify(model, settings.prediction) if isinstance(model, Path) else model.spec


def _picture(image: ImageLike, settings: Settings) -> Picture:
    from tileup.images.picture import Picture
    from tileup.images.reading import open_picture

    return image if isinstance(image, Picture) else open_picture(image, settings.max_input_pixels)
