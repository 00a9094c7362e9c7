"""The UNets of SD 1, SD 2 and SDXL as networks: diffusers' module, filled from a file's tensors."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from tileup.contracts import Box, Encoded, NoiseLevels, Scene
from tileup.errors import ModelError
from tileup.families.family import STRIDE, Building, Built
from tileup.families.unet_control import UNetControl, UNetInputs, load_control, require_same_family
from tileup.families.unet_layout import MASKED, SIZE_FEATURES, diffusers_names, unet_config
from tileup.tensors.filling import Placing, build_renamed
from tileup.tensors.transfers import to_device
from tileup.torchvision_shield import shield_torchvision

log = logging.getLogger(__name__)

TRAINING_STEPS = 1000
AESTHETIC, AESTHETIC_NEGATIVE = 6.0, 2.5
"""What SDXL's refiner is told of how good a picture looks: the defaults of its authors."""


@dataclass(frozen=True, slots=True)
class UNetNetwork:
    """A UNet that satisfies `Network`."""

    module: nn.Module
    """diffusers' UNet2DConditionModel."""
    levels: NoiseLevels
    """Noise level to time."""
    device: str
    """Where it runs."""
    dtype: torch.dtype
    """What it computes in."""
    pooled: int | None
    """Features of the pooled prompt and the sizes together; None: it takes none (SD 1, SD 2)."""
    control: UNetControl | None = None
    masked: bool = False
    """Whether it takes a mask and the latents of a masked picture besides (inpainting models)."""

    def __call__(
        self, x: Tensor, sigma: Tensor, windows: Sequence[Box], text: Encoded, scene: Scene
    ) -> Tensor:
        """The prediction, as `Network`."""
        with torch.no_grad():
            # On a CPU 6 % faster in bfloat16 and no slower in float32; for the weights it adds
            # nothing, and would copy those that lie in the file.
            seen = self._placed(x).contiguous(memory_format=torch.channels_last)
            tokens = self._placed(text.tokens).expand(len(x), -1, -1)
            added = self._added(windows, text)
            shown = UNetInputs(seen, self.time(sigma), tokens, added, windows, scene, sigma)
            predicted = self.module(
                self._with_mask(seen, windows, scene),
                shown.time,
                encoder_hidden_states=tokens,
                added_cond_kwargs=added,
                **self._controlled(shown),
                return_dict=False,
            )[0]
        return cast(Tensor, predicted).to(x)

    def time(self, sigma: Tensor) -> Tensor:
        """Training step of each noise level, between whole numbers too: float32, shape (B,).

        It is found in float64, because whole neighbourhoods of time differ late in sigma's digits.
        """
        strength = self.levels.denoise(sigma.double().cpu().numpy())
        time = torch.from_numpy(np.asarray(strength) * (TRAINING_STEPS - 1))
        return to_device(time, self.device, torch.float32)

    def _with_mask(self, seen: Tensor, windows: Sequence[Box], scene: Scene) -> Tensor:
        """What the network sees: inpainting models are told to draw all of the picture anew."""
        if not self.masked:
            return seen
        if scene.masked is None:
            raise ValueError("an inpainting model needs the latents of a grey picture")
        grey = torch.cat([scene.masked[..., *box.index] for box in windows])
        return torch.cat([seen, torch.ones_like(seen[:, :1]), self._placed(grey)], dim=1)

    def _placed(self, tensor: Tensor) -> Tensor:
        return to_device(tensor, self.device, self.dtype)

    def _added(self, windows: Sequence[Box], text: Encoded) -> dict[str, Tensor] | None:
        if self.pooled is None:
            return None
        if text.pooled is None:
            raise ValueError("SDXL needs the features of the whole prompt")
        numbers, rest = divmod(self.pooled - text.pooled.shape[1], SIZE_FEATURES)
        if numbers not in (5, 6) or rest:
            raise ModelError(
                f"the pooled prompt has {text.pooled.shape[1]} features, which do not fit the"
                f" {self.pooled} that the UNet takes: is the text encoder that of another family?"
            )
        negative = text.negative or (False,) * len(text.tokens)
        rows = negative if len(negative) == len(windows) else negative * len(windows)
        ids = [
            refiner_ids(box, wanted=not each) if numbers == 5 else size_ids(box)
            for box, each in zip(windows, rows, strict=True)
        ]
        return {
            "text_embeds": self._placed(text.pooled).expand(len(windows), -1),
            "time_ids": self._placed(torch.tensor(ids)),
        }

    def _controlled(self, shown: UNetInputs) -> dict[str, object]:
        acts = shown.sigma >= shown.scene.control_until
        if self.control is None or not acts.any():
            return {}
        sides, middle = self.control(shown)
        rows = acts.to(shown.x)[:, None, None, None]
        return {
            "down_block_additional_residuals": tuple(side * rows for side in sides),
            "mid_block_additional_residual": middle * rows,
        }


def size_ids(box: Box) -> list[float]:
    """SDXL's micro-conditioning of a window: original size, crop offset and target size, pixels.

    Each window is described as a whole picture of its own size, uncropped, wherever it lies on the
    canvas. SDXL was trained on pictures around 1024 pixels: told an original size of thousands, or
    an offset into one, it draws what such crops showed it, namely subjects cut off at the edge
    (Podell et al. 2023, section 2.2), and each window would depend on the canvas around it.
    """
    height, width = float(box.height * STRIDE), float(box.width * STRIDE)
    return [height, width, 0.0, 0.0, height, width]


def refiner_ids(box: Box, *, wanted: bool = True) -> list[float]:
    """The same for SDXL's refiner: original size, crop offset, and an aesthetic score.

    Args:
        box: the window, in cells.
        wanted: False for the row of the negative prompt, which names a worse picture.
    """
    return [*size_ids(box)[:4], AESTHETIC if wanted else AESTHETIC_NEGATIVE]


def load_unet(tensors: Mapping[str, Tensor], how: Building, sizes: int) -> Built:
    """A UNet from a file's tensors, with what acts beside it; arguments as `Build`.

    Args:
        sizes: how many numbers about the picture it is told beside the text, if it is told any:
            6, and the refiner 5.

    Raises:
        ModelError: tensors are missing, left over, of a wrong shape, or not finite; or the control
            network belongs to another family.
    """
    control = None if how.control is None else load_control(how.control, how)
    try:
        module = _module(tensors, how)
    except ModelError as error:
        raise ModelError(f"{how.name}: {error}") from error
    if control is not None:
        require_same_family(control, module, control.name)
    config = cast(Mapping[str, int], module.config)
    added = config.get("projection_class_embeddings_input_dim")
    masked = config["in_channels"] == MASKED
    if masked:
        log.warning(
            "%s is an inpainting model: it is told to draw all of the picture anew; the plain model"
            " it was made from was trained for that",
            how.name,
        )
    network = UNetNetwork(module, how.levels, how.device, how.dtype, added, control, masked)
    return Built(
        network,
        module,
        config["cross_attention_dim"],
        None if added is None else added - sizes * config["addition_time_embed_dim"],
        None if control is None else control.module,
        masked,
    )


def _module(tensors: Mapping[str, Tensor], how: Building) -> nn.Module:
    """diffusers' network, filled."""
    names = diffusers_names(tensors)
    config = unet_config({name: tuple(tensors[own].shape) for name, own in names.items()})
    shield_torchvision()
    from diffusers import UNet2DConditionModel

    make = cast(Callable[..., nn.Module], UNet2DConditionModel)
    placing = Placing(how.dtype, how.device, offload=how.offload)
    return build_renamed(lambda: make(**config), tensors, names, "the UNet", placing)
