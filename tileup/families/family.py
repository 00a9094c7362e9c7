"""What planning needs to know of each model family that tileup can load."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import cast

from tileup.contracts import ModelSpec, NoiseLevels
from tileup.errors import ModelError
from tileup.families.detection import Found
from tileup.families.predictions import Prediction
from tileup.plan.noise_levels import FlowLevels, TableLevels, WindowFlowLevels, training_levels
from tileup.tensors.checkpoint import Checkpoint

BUNDLED_KEYS = frozenset({"enter.weight", "leave.weight", "embed.mix.0.weight"})
"""Tensors of our own network."""


def is_bundled(checkpoint: Checkpoint) -> bool:
    """Whether a checkpoint is one of our own."""
    return checkpoint.tensors.keys() >= BUNDLED_KEYS and "tileup" in checkpoint.metadata


def bundled_spec(checkpoint: Checkpoint) -> ModelSpec:
    """What planning needs to know of a checkpoint of our own: all of it is in its header.

    Raises:
        ModelError: the header lacks something.
    """
    name = checkpoint.name
    header = parse_header(checkpoint.metadata, name)
    try:
        return ModelSpec(
            name=name,
            family="bundled",
            prediction="x0",
            stride=integer(header["stride"]),
            channels=3 * integer(header["stride"]) ** 2,
            window=integer(header["window"]),
            multiple=integer(header["multiple"]),
            levels=TableLevels(_numbers(header["denoise"]), _numbers(header["sigma"])),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"model {name}: its header is wrong ({error})") from error


STRIDE = 8
"""Pixels per latent cell of every published family."""


def published_spec(checkpoint: Checkpoint, found: Found, prediction: Prediction) -> ModelSpec:
    """What planning needs to know of a checkpoint of a published family.

    Raises:
        ModelError: its scheduler's configuration has impossible numbers.
    """
    return ModelSpec(
        name=checkpoint.name,
        family=found.family,
        prediction=prediction.name,
        stride=STRIDE,
        channels=found.channels,
        window=_window(found.family, prediction.name),
        multiple=STRIDE * found.scale,
        levels=_levels(checkpoint, found.family, prediction),
    )


def _window(family: str, prediction: str) -> int:
    """Side of the pictures of the training, pixels, as the model cards have it."""
    if family == "sd1":
        return 512
    if family == "sd2":
        return 768 if prediction == "v" else 512
    return 1024


def _levels(checkpoint: Checkpoint, family: str, prediction: Prediction) -> NoiseLevels:
    config = checkpoint.configs.get("scheduler", {})
    try:
        if family == "sd3":
            return FlowLevels(_number(config.get("shift", 3.0), 1, 100))
        if family == "flux-dev":
            return WindowFlowLevels.of(_window(family, prediction.name))
        if family == "flux-schnell" or prediction.name == "flow":
            return FlowLevels(1.0)
        if config.get("beta_schedule", "scaled_linear") != "scaled_linear":
            raise ValueError(f"beta_schedule is {config['beta_schedule']!r}, not scaled_linear")
        return training_levels(
            beta_start=_number(config.get("beta_start", 0.00085), 1e-8, 0.1),
            beta_end=_number(config.get("beta_end", 0.012), 1e-6, 0.5),
            rows=int(_number(config.get("num_train_timesteps", 1000), 2, 10_000)),
            zero_snr=prediction.zero_snr,
        )
    except (TypeError, ValueError) as error:
        raise ModelError(
            f"{checkpoint.path}: the configuration of its scheduler is not one that tileup can"
            f" follow ({error})"
        ) from error


def _number(value: object, low: float, high: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise ValueError(f"{value!r} should be a number from {low:g} to {high:g}")
    return float(value)


def parse_header(metadata: Mapping[str, str], name: str) -> dict[str, object]:
    """The JSON object that a bundled checkpoint carries.

    Raises:
        ModelError: it is no JSON object.
    """
    try:
        header: object = json.loads(metadata["tileup"])
    except (KeyError, ValueError) as error:
        raise ModelError(f"model {name}: its header does not parse") from error
    if not isinstance(header, dict):
        raise ModelError(f"model {name}: its header is not a JSON object")
    return cast(dict[str, object], header)


def integer(value: object, least: int = 1) -> int:
    """A whole number of at least `least` from JSON.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(value, int) or value < least:
        raise ValueError(f"{value!r} should be a whole number above {least - 1}")
    return value


def integers(value: object, least: int = 1) -> tuple[int, ...]:
    """Whole numbers of at least `least` from a JSON list.

    Raises:
        TypeError, ValueError: it is no list of them.
    """
    if not isinstance(value, list):
        raise TypeError(f"{value!r} should be a list of whole numbers")
    return tuple(integer(each, least) for each in cast(list[object], value))


def _numbers(value: object) -> tuple[float, ...]:
    if not isinstance(value, list):
        raise TypeError(f"{value!r} should be a list of numbers")
    return tuple(float(each) for each in cast(list[float], value))
