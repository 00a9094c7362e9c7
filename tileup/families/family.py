"""Everything in which one model family differs from another, in one value."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from tileup.contracts import Network, NoiseLevels
from tileup.families.view import View
from tileup.plan.noise_levels import FlowLevels, Growth, WindowFlowLevels, training_levels
from tileup.text.recipes import Recipe

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from tileup.tensors.renaming import Rule

POOLED = "time_text_embed.text_embedder.linear_1.weight"
"""A tensor that transformers have, by diffusers' names, that take features of the whole text."""
STRIDE = 8
"""Pixels per latent cell of nearly every published family."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a network predicts."""

    name: str
    """eps, v, x0 or flow."""
    told_by: str
    """Where that is known from, in words."""
    zero_snr: bool = False
    """Whether it was trained up to pure noise, where nothing of the picture is left."""


Levels = Callable[[Mapping[str, object], Prediction, int], NoiseLevels]
"""Noise levels, from the scheduler's configuration (perhaps empty), the prediction, and the side
of a window in pixels. A ValueError or TypeError says that the configuration is impossible."""


@dataclass(frozen=True, slots=True)
class Latents:
    """What a network takes for latents: `(z - shift) * scale` of what the VAE's encoder gives."""

    scale: float | tuple[float, ...] = 1.0
    """Of all channels, or of each; of no effect where the VAE's file has its own."""
    shift: float | tuple[float, ...] = 0.0


@dataclass(frozen=True, slots=True)
class ControlFile:
    """A control network that has not been built."""

    name: str
    """The file, for messages."""
    tensors: Mapping[str, Tensor]
    scale: float
    """Factor of what it adds."""


@dataclass(frozen=True, slots=True)
class Building:
    """How a network is to be built."""

    name: str
    """What messages call the checkpoint."""
    levels: NoiseLevels
    dtype: torch.dtype
    """What it computes in. Matrices stored in 8 bits stay so and are cast whenever they are used;
    everything else is cast at once."""
    device: str
    """Where it runs."""
    offload: bool = False
    """Keep the weights in main memory, and bring each layer's to the device only while it runs:
    slow, for devices with little memory."""
    control: ControlFile | None = None
    """What acts on every evaluation beside the network; only for families that are controlled."""


@dataclass(frozen=True, slots=True)
class Built:
    """A network on its device."""

    network: Network
    module: nn.Module
    """The network's weights."""
    features: int
    """Of a token of text that it takes."""
    pooled: int | None
    """Features of the whole text that it takes; None: none."""
    control: nn.Module | None = None
    """Weights of the control network."""
    masked: bool = False
    """Whether it is shown what of the picture stays (`Scene.masked`)."""


class Build(Protocol):
    """Makes a network from a file's tensors; its sizes are read from their shapes."""

    def __call__(self, tensors: Mapping[str, Tensor], how: Building) -> Built:
        """Build the network.

        Args:
            tensors: of the network alone, without a prefix, in the original layout or in that of
                diffusers. They may lie in a memory-mapped file: on the CPU, those stored in
                `how.dtype` stay there.
            how: precision, place, and what acts beside it.

        Raises:
            ModelError: tensors are missing, left over, of a wrong shape, or not finite.
        """
        ...


def no_rules(layers: Collection[str]) -> Iterator[Rule]:
    """For networks whose layers have the same names everywhere."""
    del layers
    return iter(())


@dataclass(frozen=True, slots=True)
class Hints:
    """What tells that a LoRA, a VAE or another file that is no model itself was made for a family.

    Widths are those of the published models.
    """

    layers: str = ""
    """Regular expression of a layer, with underscores, that it alone has among those of like
    blocks."""
    widths: tuple[int, ...] = ()
    """Features of a token within the blocks."""
    growths: tuple[float, ...] = ()
    """How much wider its perceptrons are than its tokens, where that tells it from its like."""
    latents: int = 0
    """Channels of its latents, where those of its VAE tell it from others; 0: they do not."""
    vectors: tuple[int, ...] = ()
    """Features of the embeddings that are made for it, from few to many."""
    words: str = ""
    """Regular expression of what files say of themselves in their names and metadata, where that is
    not just its name."""


@dataclass(frozen=True, slots=True)
class Family:
    """One model family."""

    name: str
    """For programs, and of its defaults in configs/families."""
    title: str
    """As its authors call it."""
    short: str
    """As a sentence names it: `SD 1.x`."""
    signs: Mapping[str, Detector]
    """How its file is told: a tensor that it has, and what looks further where that is there.
    Families of one network share these."""
    latents: Latents
    window: int
    """Side of the pictures of the training, pixels, as the model card has it."""
    levels: Levels
    text: Recipe
    """Which text encoders it takes, and what of each."""
    inside: Mapping[str, tuple[str, ...]]
    """Where text encoders are in a whole checkpoint: prefixes by part."""
    build: Build
    predicts: str = "flow"
    """What it predicts where nothing in its file says otherwise; empty: the file must tell."""
    telling: Mapping[str, str] = field(default_factory=dict[str, str])
    """By layout: the bias whose spread tells between eps and v, where nothing else does."""
    v_window: int | None = None
    """`window` of those that predict v, where it differs."""
    tokenizer: str = ""
    """Folder of T5's tokenizer in a diffusers folder."""
    precision: str = "bfloat16"
    """What it computes in on a GPU, unless something else is asked for. Flows were trained in
    bfloat16, and leave the range of float16."""
    shapes: tuple[tuple[int, int], ...] = ()
    """Heights and widths that it was trained on besides the square, pixels."""
    batch: int = 1
    """Windows evaluated at once where nobody measures how many fit."""
    guided: bool = False
    """Whether it was distilled with guidance, and is told how much."""
    controlled: bool = False
    """Whether control networks can act on it."""
    stride: int = STRIDE
    """Pixels per latent cell."""
    context: int | None = None
    """Features of a text token in published files, where that alone tells the family from others
    of its network."""
    rules: Callable[[Collection[str]], Iterator[Rule]] = no_rules
    """From the names of a network's layers as diffusers has them: what the original names become,
    for LoRA files in the original's words."""
    blocks: tuple[str, ...] = ()
    """What the names of its blocks begin with in LoRA files, in the original's words and in
    diffusers', with underscores."""
    hints: Hints = Hints()

    @property
    def flows(self) -> bool:
        """Whether it is a rectified flow, and nothing else."""
        return self.predicts == "flow"

    def window_of(self, prediction: Prediction) -> int:
        """Side of a window, pixels."""
        return self.v_window or self.window if prediction.name == "v" else self.window


@dataclass(frozen=True, slots=True)
class Detected:
    """A diffusion network in a checkpoint."""

    family: Family
    variant: str
    """The family in words, as exactly as the tensors tell."""
    prefix: str
    """What the names of the network's tensors begin with."""
    layout: str
    """How they go on: `original`, or `diffusers`."""
    channels: int
    """Channels of a latent cell."""
    context: int
    """Features of a text token."""
    multiple: int
    """A window's side must be a multiple of this many cells."""


Detector = Callable[[View], "Detected | None"]
"""Looks at a network; None where it is another one after all. An UnknownCheckpointError names a
relative that tileup cannot load."""


def diffusion_levels(
    config: Mapping[str, object], prediction: Prediction, window: int
) -> NoiseLevels:
    """Of eps and v models: their training's, with the numbers of the scheduler's configuration."""
    del window
    if config.get("beta_schedule", "scaled_linear") != "scaled_linear":
        raise ValueError(f"beta_schedule is {config['beta_schedule']!r}, not scaled_linear")
    return training_levels(
        beta_start=number(config.get("beta_start", 0.00085), 1e-8, 0.1),
        beta_end=number(config.get("beta_end", 0.012), 1e-6, 0.5),
        rows=int(number(config.get("num_train_timesteps", 1000), 2, 10_000)),
        zero_snr=prediction.zero_snr,
    )


def flow_levels(shift: float, *, configured: bool = False) -> Levels:
    """Of rectified flows with a fixed shift.

    Args:
        shift: of time.
        configured: whether the scheduler's configuration may give another.
    """

    def levels(config: Mapping[str, object], prediction: Prediction, window: int) -> NoiseLevels:
        del prediction, window
        given = config.get("shift", shift) if configured else shift
        return FlowLevels(number(given, 1, 100))

    return levels


def growing_levels(growth: Growth) -> Levels:
    """Of rectified flows whose shift grows with the tokens that they are shown at once."""

    def levels(config: Mapping[str, object], prediction: Prediction, window: int) -> NoiseLevels:
        del config, prediction
        return WindowFlowLevels.of(window, growth)

    return levels


def number(value: object, low: float, high: float) -> float:
    """A number between two others from JSON.

    Raises:
        ValueError: it is none.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise ValueError(f"{value!r} should be a number from {low:g} to {high:g}")
    return float(value)
