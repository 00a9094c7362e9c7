"""The parts of a latent family's checkpoint put together to a model."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from tileup.checkpoints.find import Identified, find_model
from tileup.checkpoints.given import refuse_control
from tileup.checkpoints.lora import Lora, open_lora
from tileup.checkpoints.lora_merge import check_parts, merge_loras
from tileup.checkpoints.lora_names import NETWORK
from tileup.checkpoints.model import (
    DiffusionModel,
    OffloadedCodec,
    Offloader,
    OffloadGroup,
    PromptEncoder,
)
from tileup.checkpoints.parts import Carried, Parts, parts_of
from tileup.checkpoints.prompted import context_of, loras_of
from tileup.codec.vae import TILE, load_vae
from tileup.contracts import Encoded
from tileup.errors import ModelError, UsageError
from tileup.families.family import Building, Built, ControlFile, Family
from tileup.settings.values import Settings
from tileup.storage.copies import given_file
from tileup.tensors.checkpoint import open_checkpoint
from tileup.tensors.compiled import compile_network
from tileup.text.embeds import read_embeds
from tileup.text.encoder import load_text

log = logging.getLogger(__name__)


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
    family = _family(known)
    loras = [(open_lora(name), weight) for name, weight in loras_of(settings)]
    for lora, _ in loras:
        check_parts(lora, (NETWORK, *family.text.parts))
    built = _network(known, parts, settings, device, dtype)
    merge_loras(built.module, loras, dtype=dtype, rules=family.rules)
    offloaded = _offloaded(settings, device)
    if settings.compile:
        _compile(built, parts.network.shown, offloaded)
    part = _part(built, device, offloaded)
    offloader = Offloader(offloaded, part)
    return DiffusionModel(
        known.spec,
        device,
        dtype,
        built.network,
        part,
        _codec(known, parts, settings, device, dtype, offloader),
        _reader(known, parts, settings, built, loras, device, dtype),
        offloader,
        built.masked,
        known.checkpoint.digest,
    )


def _family(known: Identified) -> Family:
    if known.found is None:
        raise ValueError("a checkpoint of our own is whole")
    return known.found.family


def _compile(built: Built, name: str, offloaded: bool) -> None:
    """Have the network compiled, and what acts beside it, unless its layers come and go."""
    if offloaded:
        log.warning("%s is not compiled: with --low-memory its layers come and go", name)
        return
    compile_network(built.module, name)
    if built.control is not None:
        compile_network(built.control, f"what controls {name}")


def _part(built: Built, device: str, offloaded: bool) -> OffloadGroup:
    """What leaves the device together; nothing where each layer comes and goes by itself."""
    modules = [each for each in (built.module, built.control) if each is not None]
    return OffloadGroup(lambda: () if offloaded else modules, device)


def _offloaded(settings: Settings, device: str) -> bool:
    """Whether each layer of a network comes to the device only while it runs."""
    return settings.low_memory and device != "cpu"


def _network(
    known: Identified, parts: Parts, settings: Settings, device: str, dtype: torch.dtype
) -> Built:
    family, name = _family(known), parts.network.shown
    if settings.control is not None:
        refuse_control(known)
    how = Building(
        name,
        known.spec.levels,
        dtype,
        device,
        offload=_offloaded(settings, device),
        control=_control(settings),
    )
    return family.build(parts.network.state_dict(), how)


def _control(settings: Settings) -> ControlFile | None:
    """The control network that is asked for, unless it has no effect."""
    if settings.control is None or not min(settings.control_scale, settings.control_end):
        return None
    path = find_model(settings.control)
    return ControlFile(str(path), open_checkpoint(path).state_dict(), settings.control_scale)


def _codec(
    known: Identified,
    parts: Parts,
    settings: Settings,
    device: str,
    dtype: torch.dtype,
    offloader: Offloader,
) -> OffloadedCodec:
    latents = _family(known).latents
    vae = load_vae(
        parts.vae.state_dict(),
        scale=latents.scale,
        shift=latents.shift,
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
    return OffloadedCodec(vae, OffloadGroup(vae.networks.values, device), offloader)


def _reader(
    known: Identified,
    parts: Parts,
    settings: Settings,
    built: Built,
    loras: Sequence[tuple[Lora, float]],
    device: str,
    dtype: torch.dtype,
) -> PromptEncoder:
    features = built.features
    if settings.prompt_embeds is not None:
        path = given_file(settings.prompt_embeds)
        embeds = read_embeds(path, cfg=settings.cfg, features=features, pooled=built.pooled)
        return Embedded(*embeds)
    tokenizer = parts.tokenizer
    return load_text(
        _family(known).text,
        {name: source.state_dict for name, source in parts.text.items()},
        tokenizer=tokenizer.read() if isinstance(tokenizer, Carried) else tokenizer,
        asked=settings.tokenizer is not None,
        dtype=dtype,
        device=device,
        features=features,
        on_loaded=lambda name, encoder: merge_loras(encoder, loras, name, dtype=dtype),
        context=context_of(settings, [each for lora, _ in loras for each in lora.embeddings]),
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
