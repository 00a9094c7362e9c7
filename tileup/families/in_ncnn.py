"""The bundled checkpoint's networks in ncnn, which multiplies less than torch does on a CPU.

ncnn computes convolutions of 3x3 by Winograd's way, F(4, 3): a quarter of the multiplications, in
float32, in rounding that is some 1e-6 of the range. What one noise level makes of the weights is a
network of its own there: its weights are brought into Winograd's form once.

Windows are evaluated one by one, each by all threads: what comes out does not depend on what is
beside it.
"""

from __future__ import annotations

import importlib
import logging
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tileup.families.residual_unet import Folded, Remembering, ResidualBlock, ResidualUNet

NETS = 8
"""Noise levels of one network that are kept; each takes some 40 MB."""
_MAGIC = 7767517  # what a graph of ncnn begins with


log = logging.getLogger(__name__)


def library() -> Any:  # noqa: ANN401  It says nothing of its types.
    """The module `ncnn`, loaded when it is wanted.

    Raises:
        ImportError: it is not there.
    """
    return importlib.import_module("ncnn")


@lru_cache(maxsize=1)
def _pools() -> tuple[Any, Any]:
    """Memory for the maps between layers and for what a layer works in, for all networks of this
    process: each would keep 30 MB of its own after its first window."""
    return library().PoolAllocator(), library().PoolAllocator()


@dataclass(slots=True)
class _Graph:
    """A network as ncnn reads it: a line of text for each layer, and all weights in their order."""

    lines: list[str] = field(default_factory=list)
    weights: list[Tensor] = field(default_factory=list)
    blobs: int = 0

    def add(self, kind: str, inputs: Sequence[str], outputs: int = 1, told: str = "") -> list[str]:
        """Append a layer.

        Returns:
            The names of its outputs.
        """
        names = [f"b{self.blobs + number}" for number in range(outputs)]
        self.blobs += outputs
        head = f"{kind} l{len(self.lines)} {len(inputs)} {outputs}"
        self.lines.append(" ".join([head, *inputs, *names, told]))
        return names

    def convolution(self, x: str, weight: Tensor, bias: Tensor, stride: int = 1) -> str:
        """Append a convolution; one of 3x3 is padded by zeros."""
        outputs, _, side, _ = weight.shape
        self.weights += [weight, bias]
        told = f"0={outputs} 1={side} 3={stride} 4={side // 3} 5=1 6={weight.numel()}"
        return self.add("Convolution", [x], told=told)[0]

    def layer(self, convolution: nn.Module, x: str, stride: int = 1) -> str:
        """Append a convolution as it is in torch."""
        weight, bias = convolution.weight, convolution.bias
        assert isinstance(weight, Tensor)
        assert isinstance(bias, Tensor)
        return self.convolution(x, weight, bias, stride)

    def block(self, block: ResidualBlock, folded: Folded, x: str) -> str:
        """Append a residual block."""
        kept, seen = self.add("Split", [x], 2)
        hidden = self.convolution(seen, *folded[block])
        hidden = self.layer(block.second, self.add("Swish", [hidden])[0])
        return self.add("BinaryOp", [hidden, kept], told="0=0")[0]

    def text(self) -> str:
        """What ncnn reads."""
        return "\n".join([str(_MAGIC), f"{len(self.lines)} {self.blobs}", *self.lines, ""])

    def content(self) -> Iterator[bytes]:
        """All weights; a convolution's begin with a number that says that they are float32."""
        for each in self.weights:
            yield b"" if each.dim() == 1 else bytes(4)
            yield each.detach().float().contiguous().numpy().tobytes()


def _graph(network: ResidualUNet, sigma: Tensor) -> tuple[_Graph, str, str]:
    """A network at one noise level, shape (1,), from `x - source` and `source` to `x0 - source`.

    Returns:
        The graph, and the names of its input and of its output.
    """
    graph, folded = _Graph(), network.folded(sigma)
    std = network.residual_std
    begin = x = graph.add("Input", [])[0]
    # What else a level and the preconditioning multiply by is in the weights, too.
    scaled = network.enter.weight.clone()
    scaled[:, : network.leave.out_channels] *= (float(sigma) ** 2 + std**2) ** -0.5
    assert network.enter.bias is not None
    assert network.leave.bias is not None
    x = graph.convolution(x, scaled, network.enter.bias)
    skips: list[str] = []
    for level, blocks in enumerate(network.down):
        for block in blocks.children():
            assert isinstance(block, ResidualBlock)
            x = graph.block(block, folded, x)
        if level < len(network.shrink):
            kept, x = graph.add("Split", [x], 2)
            skips.append(kept)
            x = graph.layer(network.shrink[level], x, stride=2)
    for level in reversed(range(len(network.up))):
        x = graph.layer(network.grow[level], x)
        x = graph.add("PixelShuffle", [x], told="0=2")[0]
        x = graph.add("BinaryOp", [x, skips.pop()], told="0=0")[0]
        for block in network.up[level].children():
            assert isinstance(block, ResidualBlock)
            x = graph.block(block, folded, x)
    end = graph.convolution(x, network.leave.weight * std, network.leave.bias * std)
    return graph, begin, end


@dataclass(frozen=True, slots=True)
class _Net:
    """One network at one noise level."""

    net: Any
    """`ncnn.Net`."""
    begin: str
    end: str

    @classmethod
    def of(cls, network: ResidualUNet, sigma: Tensor) -> _Net:
        """Raises:
        ImportError: ncnn is not there.
        MemoryError: ncnn does not take the network in.
        """
        graph, begin, end = _graph(network, sigma)
        net = library().Net()
        net.opt.num_threads = torch.get_num_threads()
        net.opt.openmp_blocktime = 0  # a thread that waits gives its core away
        net.opt.use_vulkan_compute = False
        net.opt.use_winograd63_convolution = False  # no faster here, twice as much rounding
        for kind in ("fp16", "bf16"):
            for where in ("packed", "storage", "arithmetic"):
                if hasattr(net.opt, name := f"use_{kind}_{where}"):
                    setattr(net.opt, name, False)
        # By way of a file: from memory ncnn would use weights that nobody keeps.
        with tempfile.TemporaryDirectory(prefix="tileup-") as folder:
            file = Path(folder) / "weights"
            with file.open("wb") as stream:
                stream.writelines(graph.content())
            if net.load_param_mem(graph.text()) != 0 or net.load_model(str(file)) != 0:
                raise MemoryError("ncnn does not take the network in")
        return cls(net, begin, end)

    def __call__(self, seen: Tensor) -> Tensor:
        """What a window becomes.

        Args:
            seen: shape (channels, h, w), float32, contiguous.

        Raises:
            MemoryError: ncnn gave nothing.
        """
        array = seen.numpy()  # a Mat is a view that does not keep its array alive
        extractor = self.net.create_extractor()
        maps, workspace = _pools()
        extractor.set_blob_allocator(maps)
        extractor.set_workspace_allocator(workspace)
        extractor.input(self.begin, library().Mat(array))
        code, found = extractor.extract(self.end)
        if code != 0:
            raise MemoryError(f"ncnn stopped with code {code}")
        return torch.from_numpy(np.asarray(found))  # holds the Mat, and copies nothing


class InNcnn:
    """A network whose weights do not change, computed by ncnn on the CPU in float32.

    Args:
        network: without gradients.
    """

    def __init__(self, network: ResidualUNet) -> None:
        self.network = network
        self._known: dict[tuple[float, int], _Net] = {}
        self._torch: Remembering | None = None

    def __call__(
        self, x: Tensor, sigma: Tensor, source: Tensor, conditions: Tensor | None = None
    ) -> Tensor:
        """As the network, for one noise level that all share, shape (1,), to rounding."""
        if self._torch is not None:
            return self._torch(x, sigma, source, conditions)
        try:
            net = self._at(sigma)
        except OSError as error:
            log.warning(
                "ncnn's weights go by way of a temporary file, which cannot be written (%s): torch "
                "computes the network from here on",
                error,
            )
            self._torch = Remembering(self.network)
            return self._torch(x, sigma, source, conditions)
        channels = x.shape[1]
        more = 0 if conditions is None else conditions.shape[1]
        seen = torch.empty(2 * channels + more, *x.shape[2:])
        x0 = torch.empty_like(x)
        for row, (noisy, clean) in enumerate(zip(x, source, strict=True)):
            torch.sub(noisy, clean, out=seen[:channels])
            seen[channels : 2 * channels] = clean
            if conditions is not None:
                seen[2 * channels :] = conditions[row]
            torch.add(clean, net(seen), out=x0[row])
        return x0

    def _at(self, sigma: Tensor) -> _Net:
        key = float(sigma), torch.get_num_threads()
        if key not in self._known:
            if len(self._known) == NETS:
                # Steps may come in turns, strip by strip: then most of what is kept is met again.
                del self._known[min(self._known)]
            self._known[key] = _Net.of(self.network, sigma.float())
        return self._known[key]
