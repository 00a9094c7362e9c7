"""The parts of a latent family's checkpoint put together to a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import nn

from tileup.checkpoints.find import Identified, find_model
from tileup.checkpoints.lora import Lora, check_parts, merge_loras, read_lora
from tileup.checkpoints.lora_names import NETWORK
from tileup.checkpoints.model import DiffusionModel, Part, Reader, TurnCodec, Turns
from tileup.checkpoints.parts import Parts, parts_of
from tileup.codec.vae import TILE, load_vae
from tileup.contracts import Encoded, Network
from tileup.errors import ModelError, UsageError
from tileup.families.flux import load_flux
from tileup.families.sd3 import load_sd3
from tileup.families.unet_control import ControlNet, load_control, require_same_family
from tileup.families.unet_network import load_unet
from tileup.settings.values import Settings, parse_weighted
from tileup.tensors.checkpoint import open_checkpoint
from tileup.text.embeds import read_embeds
from tileup.text.encoder import load_text
from tileup.text.recipes import RECIPES

LATENTS = {
    "sd1": (0.18215, 0.0),
    "sd2": (0.18215, 0.0),
    "sdxl": (0.13025, 0.0),
    "sdxl-refiner": (0.13025, 0.0),
    "sd3": (1.5305, 0.0609),
    "flux-dev": (0.3611, 0.1159),
    "flux-schnell": (0.3611, 0.1159),
}
"""Scale and shift of each family's latents, (z - shift) * scale: the published configurations."""
UNETS = frozenset({"sd1", "sd2", "sdxl", "sdxl-refiner"})
CONTROLLED = frozenset({"sd1", "sd2", "sdxl"})
"""Families with tile ControlNets."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A family's network, and what of it has weights."""

    network: Network
    module: nn.Module
    control: ControlNet | None = None

    def part(self, device: str, offloaded: bool) -> Part:
        """What leaves the device together; nothing where each layer comes and goes by itself."""
        modules = [self.module, *([self.control.module] if self.control else [])]
        return Part(lambda: () if offloaded else modules, device)


def assemble(
    known: Identified, settings: Settings, device: str, dtype: torch.dtype
) -> DiffusionModel:
    """Load a checkpoint of a latent family, with everything that the settings add to it.

    Text encoders are loaded when the first text is, and the VAE's weights with the first picture.

    Args:
        known: the checkpoint.
        settings: parts in other files, ControlNet, LoRAs, `low_memory`, `vae_tile`.
        device: where everything runs.
        dtype: what network and text encoders compute in. The VAE computes in float32 on a CPU.

    Raises:
        ModelError: a part is missing, damaged, or does not fit.
        UsageError: guidance needs a negative prompt that the encoded prompts lack.
    """
    parts = parts_of(known, settings)
    loras = [_lora(*parse_weighted(each)) for each in settings.lora]
    for lora, _ in loras:
        check_parts(lora, (NETWORK, *RECIPES[known.spec.family].parts))
    loaded = _network(known, parts, settings, device, dtype)
    merge_loras(loaded.module, loras, dtype=dtype)
    offloaded = _offloaded(settings, device)
    part = loaded.part(device, offloaded)
    turns = Turns(offloaded, part)
    return DiffusionModel(
        known.spec,
        device,
        dtype,
        loaded.network,
        part,
        _codec(known, parts, settings, device, dtype, turns),
        _reader(known, parts, settings, loaded.module, loras, device, dtype),
        turns,
        known.checkpoint.digest,
    )


def _offloaded(settings: Settings, device: str) -> bool:
    """Whether each layer of a network comes to the device only while it runs."""
    return settings.low_memory and device != "cpu"


def _network(
    known: Identified, parts: Parts, settings: Settings, device: str, dtype: torch.dtype
) -> Loaded:
    family, name = known.spec.family, parts.network.shown
    controlled = settings.control is not None and min(settings.control_scale, settings.control_end)
    if settings.control is not None and family not in CONTROLLED:
        raise ModelError(
            f"--control works with SD 1.x, SD 2.x and SDXL; {name} is of the family {family}"
        )
    tensors = parts.network.state_dict()
    offload = _offloaded(settings, device)
    if family not in UNETS:
        load = load_sd3 if family == "sd3" else load_flux
        transformer = load(tensors, dtype=dtype, device=device, offload=offload, name=name)
        return Loaded(transformer, transformer.transformer)
    control = None
    if controlled:
        path = find_model(settings.control)
        control = load_control(
            open_checkpoint(path).state_dict(),
            name=str(path),
            scale=settings.control_scale,
            dtype=dtype,
            device=device,
            offload=offload,
        )
    try:
        unet = load_unet(
            tensors,
            levels=known.spec.levels,
            dtype=dtype,
            device=device,
            control=control,
            offload=offload,
        )
    except ModelError as error:
        raise ModelError(f"{name}: {error}") from error
    if control is not None:
        require_same_family(control, unet.module, str(settings.control))
    return Loaded(unet, unet.module, control)


def _codec(
    known: Identified,
    parts: Parts,
    settings: Settings,
    device: str,
    dtype: torch.dtype,
    turns: Turns,
) -> TurnCodec:
    scale, shift = LATENTS[known.spec.family]
    vae = load_vae(
        parts.vae.state_dict(),
        scale=scale,
        shift=shift,
        dtype=torch.float32 if device == "cpu" else dtype,
        device=device,
        tile=settings.vae_tile or TILE,
        maps="cpu" if _offloaded(settings, device) else None,
    )
    if vae.channels != known.spec.channels or vae.stride != known.spec.stride:
        raise ModelError(
            f"{parts.vae.shown} is a VAE with {vae.channels} latent channels and"
            f" {vae.stride} pixels per cell; this model needs {known.spec.channels} and"
            f" {known.spec.stride}: take the VAE of its family"
        )
    return TurnCodec(vae, Part(vae.networks.values, device), turns)


def _reader(
    known: Identified,
    parts: Parts,
    settings: Settings,
    network: nn.Module,
    loras: Sequence[tuple[Lora, float]],
    device: str,
    dtype: torch.dtype,
) -> Reader:
    features, pooled = text_widths(network, known.spec.family)
    if settings.prompt_embeds is not None:
        path = Path(settings.prompt_embeds)
        return Embedded(*read_embeds(path, cfg=settings.cfg, features=features, pooled=pooled))
    return load_text(
        known.spec.family,
        {name: source.state_dict for name, source in parts.text.items()},
        tokenizer=parts.tokenizer,
        dtype=dtype,
        device=device,
        features=features,
        on_loaded=lambda name, encoder: merge_loras(encoder, loras, name, dtype=dtype),
    )


@dataclass(frozen=True, slots=True)
class Embedded:
    """Prompts that were encoded before; whatever is asked for, they are the answer."""

    prompt: Encoded
    negative: Encoded | None

    def encode(self, prompt: str, negative: str | None = None) -> tuple[Encoded, Encoded | None]:
        """The same for every text.

        Raises:
            UsageError: a negative prompt is needed, and was not read.
        """
        if negative is not None and self.negative is None:
            raise UsageError("cfg needs a negative prompt, and the model was loaded with cfg 1")
        return self.prompt, self.negative


def text_widths(network: nn.Module, family: str) -> tuple[int, int | None]:
    """Features of a token and of the whole text that a network of diffusers takes.

    None for the whole text where it takes none.
    """
    config = cast(Mapping[str, object], network.config)
    if "joint_attention_dim" in config:
        tokens, pooled = config["joint_attention_dim"], config["pooled_projection_dim"]
        return cast(int, tokens), cast(int, pooled)
    tokens = cast(int, config["cross_attention_dim"])
    added = cast("int | None", config.get("projection_class_embeddings_input_dim"))
    if added is None:
        return tokens, None
    sizes = 5 if family == "sdxl-refiner" else 6
    return tokens, added - sizes * cast(int, config["addition_time_embed_dim"])


def _lora(name: str, weight: float) -> tuple[Lora, float]:
    checkpoint = open_checkpoint(find_model(name))
    return read_lora(name, checkpoint.state_dict(), checkpoint.metadata), weight
