"""What a network predicts, and where that is written; and what planning needs to know of it."""

from __future__ import annotations

import numpy as np

from tileup.contracts import ModelSpec
from tileup.errors import ModelError, UnknownCheckpointError, UsageError
from tileup.families.family import Detected, Prediction
from tileup.families.table import FAMILIES
from tileup.tensors.checkpoint import Checkpoint

WORDS = {
    "epsilon": "eps",
    "eps": "eps",
    "v": "v",
    "v_prediction": "v",
    "v-prediction": "v",
    "sample": "x0",
    "x0": "x0",
    "flow": "flow",
    "flow_prediction": "flow",
}
"""How files name predictions."""

ZERO_SNR = "v-zsnr"
"""How a person says v of a network that was trained up to pure noise."""
USUAL = "its family"
"""Where a prediction is known from that neither the file nor a person tells."""
V_ABOVE = 0.09
"""SD 2: the standard deviation of one bias is above this where the network was trained for v."""
TRAINED = (0.01, 0.5)
"""Between these, that bias is one of a trained network."""


def prediction_of(checkpoint: Checkpoint, found: Detected, asked: str | None) -> Prediction:
    """What a network predicts: as asked, as its file says, as is usual in its family.

    Args:
        checkpoint: the opened file.
        found: the network in it.
        asked: the setting `prediction`.

    Raises:
        ModelError: neither the file nor the setting decides.
        UsageError: the setting cannot be right.
        UnknownCheckpointError: the file says that it was trained in a way tileup does not know.
    """
    if found.family.flows:
        if asked not in (None, "flow"):
            raise UsageError(
                f"prediction {asked} cannot be right: {checkpoint.path} is a {found.variant},"
                f" which is a rectified flow; leave --prediction away"
            )
        return Prediction("flow", USUAL)
    if asked == "flow":
        raise UsageError(
            f"prediction flow cannot be right: {checkpoint.path} is a {found.variant}, whose UNet"
            f" predicts eps, v or x0"
        )
    zero = _zero_snr(checkpoint)
    if asked == ZERO_SNR:
        return Prediction("v", "--prediction", zero_snr=True)
    if asked is not None:
        return Prediction(asked, "--prediction", zero)
    told = (
        _from_scheduler(checkpoint)
        or _from_markers(checkpoint)
        or _from_metadata(checkpoint)
        or _from_family(found)
        or _from_weights(checkpoint, found)
    )
    return Prediction(*told, zero)


def _scheduler(checkpoint: Checkpoint) -> dict[str, object]:
    return {**checkpoint.configs.get("scheduler", {})}


def _zero_snr(checkpoint: Checkpoint) -> bool:
    return (
        "ztsnr" in checkpoint.tensors
        or _scheduler(checkpoint).get("rescale_betas_zero_snr") is True
    )


def _from_scheduler(checkpoint: Checkpoint) -> tuple[str, str] | None:
    config = _scheduler(checkpoint)
    if str(config.get("_class_name", "")).startswith("EDM"):
        raise UnknownCheckpointError(
            f"{checkpoint.path} was trained with EDM's noise (Playground 2.5 or alike), which"
            f" tileup does not know; it loads {', '.join(family.title for family in FAMILIES)}"
        )
    if "prediction_type" not in config:
        return None
    word = str(config["prediction_type"])
    if word not in WORDS:
        raise UnknownCheckpointError(
            f"{checkpoint.path} predicts {word[:100]!r}, says its scheduler, which tileup does not"
            f" know; give --prediction eps, v or x0 if you know better"
        )
    return WORDS[word], "its scheduler's configuration"


def _from_markers(checkpoint: Checkpoint) -> tuple[str, str] | None:
    return ("v", "its key v_pred") if "v_pred" in checkpoint.tensors else None


def _from_metadata(checkpoint: Checkpoint) -> tuple[str, str] | None:
    word = WORDS.get(checkpoint.metadata.get("modelspec.prediction_type", "").lower())
    if word:
        return word, "its metadata (modelspec.prediction_type)"
    architecture = checkpoint.metadata.get("modelspec.architecture", "")
    for name, prediction in (("v2-768-v", "v"), ("v2-512", "eps"), ("v2-inpainting", "eps")):
        if name in architecture:
            return prediction, "its metadata (modelspec.architecture)"
    return None


def _from_family(found: Detected) -> tuple[str, str] | None:
    predicts = found.family.predicts
    return (predicts, USUAL) if predicts else None


def _from_weights(checkpoint: Checkpoint, found: Detected) -> tuple[str, str]:
    name = found.prefix + found.family.telling[found.layout]
    values = checkpoint.values(name)
    deviation = float(values.std(dtype=np.float64)) if values is not None and values.size else 0.0
    low, high = TRAINED
    if not low <= deviation <= high:
        reason = (
            f"its tensor {name} has the standard deviation {deviation:.3g}, which says nothing"
            if values is not None
            else f"it has no tensor {name}, which would tell"
        )
        raise ModelError(
            f"{checkpoint.path} is a {found.variant}, and whether it predicts eps (as the 512 px"
            f" base does) or v (as the 768 px one does) is not known: {reason}; give --prediction"
            f" eps or --prediction v"
        )
    prediction = "v" if deviation > V_ABOVE else "eps"
    return prediction, f"the spread of one bias ({deviation:.3f}, v above {V_ABOVE})"


def published_spec(checkpoint: Checkpoint, found: Detected, prediction: Prediction) -> ModelSpec:
    """What planning needs to know of a checkpoint of a published family.

    Raises:
        ModelError: its scheduler's configuration has impossible numbers.
    """
    family, window = found.family, found.family.window_of(prediction)
    try:
        levels = family.levels(_scheduler(checkpoint), prediction, window)
    except (TypeError, ValueError) as error:
        raise ModelError(
            f"{checkpoint.path}: the configuration of its scheduler is not one that tileup can"
            f" follow ({error})"
        ) from error
    return ModelSpec(
        name=checkpoint.name,
        family=family.name,
        prediction=prediction.name,
        stride=family.stride,
        channels=found.channels,
        window=window,
        multiple=family.stride * found.multiple,
        levels=levels,
        guided=family.guided,
        shapes=family.shapes,
        batch=family.batch,
        precision=family.precision,
    )
