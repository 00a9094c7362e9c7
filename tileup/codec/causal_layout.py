"""What the tensors of Qwen-Image's VAE say about it: the names of its blocks and their widths.

It is the VAE of Wan 2.1, a network for videos, whose convolutions look back in time. A picture is a
video's first frame, before which there is nothing: of each kernel only the last slice in time meets
it, and what changes the number of frames is passed by. So what is left is a network for pictures.
No torch is needed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tileup.errors import ModelError
from tileup.tensors.renaming import Rule, layer

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Dialect:
    """What one dialect calls the parts of an encoder or decoder."""

    sign: str
    """A name that only it has."""
    conv_in: str
    conv_out: str
    norm_out: str
    middle: tuple[str, str, str]
    """Residual block, attention and residual block at the coarsest level."""
    residual: Mapping[str, str]
    """Our names of a residual block's layers to its own; norms have a gain alone."""
    before: str
    after: str
    """What precedes the latents, and what follows them."""


ORIGINAL = Dialect(
    sign="decoder.middle.0.residual.0.gamma",
    conv_in="conv1",
    conv_out="head.2",
    norm_out="head.0",
    middle=("middle.0", "middle.1", "middle.2"),
    residual={
        "norm1": "residual.0",
        "conv1": "residual.2",
        "norm2": "residual.3",
        "conv2": "residual.6",
        "conv_shortcut": "shortcut",
    },
    before="conv1",
    after="conv2",
)
DIFFUSERS = Dialect(
    sign="decoder.mid_block.resnets.0.norm1.gamma",
    conv_in="conv_in",
    conv_out="conv_out",
    norm_out="norm_out",
    middle=("mid_block.resnets.0", "mid_block.attentions.0", "mid_block.resnets.1"),
    residual={each: each for each in ("norm1", "conv1", "norm2", "conv2", "conv_shortcut")},
    before="quant_conv",
    after="post_quant_conv",
)


@dataclass(frozen=True, slots=True)
class VaeStage:
    """The blocks of one resolution, in the order in which a map goes through them."""

    residual: tuple[str, ...]
    """Names of its residual blocks."""
    resample: str | None
    """The convolution that halves or doubles the map behind them."""


@dataclass(frozen=True, slots=True)
class CausalLayout:
    """Qwen-Image's VAE, as far as it must be known before its tensors are loaded."""

    words: Dialect
    encoder: tuple[VaeStage, ...]
    """The finest first."""
    decoder: tuple[VaeStage, ...]
    """The coarsest first."""
    shapes: Shapes
    """Of all tensors, by the file's names."""

    @property
    def stride(self) -> int:
        """Pixels per latent cell."""
        return 2 ** (len(self.encoder) - 1)

    @property
    def channels(self) -> int:
        """Channels of a latent cell."""
        return self.shapes[f"decoder.{self.words.conv_in}.weight"][1]

    def rules(self) -> Iterator[Rule]:
        """The file's names to those of the network for pictures."""
        words = self.words
        yield from layer(words.before, "quant_conv")
        yield from layer(words.after, "post_quant_conv")
        for side, levels, ours in (
            ("encoder", self.encoder, "down_blocks"),
            ("decoder", self.decoder, "up_blocks"),
        ):
            yield from layer(f"{side}.{words.conv_in}", f"{side}.conv_in")
            yield from self._middle(side)
            yield Rule(f"{side}.{words.norm_out}.gamma", (f"{side}.conv_norm_out.gamma",))
            yield from layer(f"{side}.{words.conv_out}", f"{side}.conv_out")
            for number, level in enumerate(levels):
                block = f"{side}.{ours}.{number}"
                for index, name in enumerate(level.residual):
                    yield from self._residual(name, f"{block}.resnets.{index}")
                if level.resample is not None:
                    resampler = "downsamplers" if side == "encoder" else "upsamplers"
                    yield from layer(level.resample, f"{block}.{resampler}.0.conv")

    def _middle(self, side: str) -> Iterator[Rule]:
        first, attention, last = (f"{side}.{each}" for each in self.words.middle)
        ours = f"{side}.mid_block"
        yield from self._residual(first, f"{ours}.resnets.0")
        yield from self._residual(last, f"{ours}.resnets.1")
        seen = f"{ours}.attentions.0"
        yield Rule(f"{attention}.norm.gamma", (f"{seen}.group_norm.gamma",))
        yield from layer(f"{attention}.to_qkv", *(f"{seen}.to_{each}" for each in "qkv"))
        yield from layer(f"{attention}.proj", f"{seen}.to_out.0")

    def _residual(self, name: str, ours: str) -> Iterator[Rule]:
        for own, theirs in self.words.residual.items():
            if own.startswith("norm"):
                yield Rule(f"{name}.{theirs}.gamma", (f"{ours}.{own}.gamma",))
            elif own != "conv_shortcut" or f"{name}.{theirs}.weight" in self.shapes:
                yield from layer(f"{name}.{theirs}", f"{ours}.{own}")


def causal_layout(shapes: Shapes) -> CausalLayout | None:
    """Read the layout from names and shapes of tensors, without a prefix on the names.

    Returns:
        None where they are no VAE of this kind.

    Raises:
        ModelError: the VAE is incomplete, or of a later kind.
    """
    words = next((each for each in (ORIGINAL, DIFFUSERS) if each.sign in shapes), None)
    if words is None:
        return None
    first = shapes.get(f"decoder.{words.conv_in}.weight", ())
    if words is ORIGINAL:
        down, up = (
            _flat(shapes, words, "encoder.downsamples"),
            _flat(shapes, words, "decoder.upsamples"),
        )
    else:
        down, up = _flat(shapes, words, "encoder.down_blocks"), _nested(shapes)
    if len(first) != 5 or not down or len(down) != len(up):
        raise ModelError(
            "the VAE is like that of Wan 2.1, but incomplete or of another version; give that of"
            " the model's family with --vae"
        )
    return CausalLayout(words, down, up, shapes)


def _flat(shapes: Shapes, words: Dialect, stack: str) -> tuple[VaeStage, ...]:
    """Levels of blocks that are numbered through, a resampling one behind each level's last."""
    levels: list[VaeStage] = []
    residual: list[str] = []
    number = 0
    while True:
        block = f"{stack}.{number}"
        if f"{block}.{words.residual['conv1']}.weight" in shapes:
            residual.append(block)
        elif f"{block}.resample.1.weight" in shapes:
            levels.append(VaeStage(tuple(residual), f"{block}.resample.1"))
            residual = []
        else:
            return (*levels, VaeStage(tuple(residual), None)) if residual else ()
        number += 1


def _nested(shapes: Shapes) -> tuple[VaeStage, ...]:
    levels: list[VaeStage] = []
    while f"decoder.up_blocks.{len(levels)}.resnets.0.conv1.weight" in shapes:
        block = f"decoder.up_blocks.{len(levels)}"
        count = 0
        while f"{block}.resnets.{count}.conv1.weight" in shapes:
            count += 1
        resample = f"{block}.upsamplers.0.resample.1"
        there = f"{resample}.weight" in shapes
        names = tuple(f"{block}.resnets.{index}" for index in range(count))
        levels.append(VaeStage(names, resample if there else None))
    return tuple(levels)
