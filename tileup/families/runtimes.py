"""What computes the bundled checkpoint's networks: torch, or ncnn where that is faster."""

from __future__ import annotations

import importlib.metadata
import logging
import platform
import tempfile
import time
from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor

try:
    import resource
except ImportError:  # not on Windows
    resource = None

from tileup.devices import noted_for
from tileup.errors import UsageError
from tileup.families.in_ncnn import InNcnn, library
from tileup.families.residual_unet import Architecture, LevelByLevel, Remembering, ResidualUNet

log = logging.getLogger(__name__)

TORCH, NCNN = "torch", "ncnn"
EXAMPLE = Architecture(
    channels=12, widths=(32, 64, 128), down_blocks=(0, 1, 4), up_blocks=(1, 2), residual_std=0.08
)
"""What is timed: a network as large as the bundled ones."""
SIDE = 72
"""Of a window that is timed, cells."""
ROUNDS = 3
NEAR = 1e-4
"""How far, of a range of 2, ncnn may be from torch: some hundred times what is measured."""


def computed_by(runtime: str, network: ResidualUNet) -> LevelByLevel:
    """A network without gradients as a runtime computes it."""
    return InNcnn(network) if runtime == NCNN else Remembering(network)


def pick_runtime(runtime: str, device: str, dtype: torch.dtype) -> str:
    """What computes the bundled networks, as meant by a setting.

    Args:
        runtime: the setting: auto, torch or ncnn.
        device: where the networks shall be.
        dtype: what they compute in.

    Raises:
        UsageError: it is not there, or does not compute there.
    """
    if runtime == TORCH:
        return TORCH
    if runtime == NCNN and device != "cpu":
        raise UsageError(f"runtime ncnn computes on the CPU, and the device is {device}")
    if device != "cpu" or dtype != torch.float32:
        return TORCH
    why = in_the_way()
    if why and runtime == NCNN:
        raise UsageError(f"runtime ncnn cannot be used: {why}")
    if why:
        log.info("the network is computed by torch: %s", why)
        return TORCH
    return NCNN if runtime == NCNN else faster_runtime()


def in_the_way() -> str:
    """Why ncnn cannot be used here, in words; empty: it can."""
    if platform.system() == "Darwin":
        return "on macOS it brings an OpenMP of its own, and two of that kind end the process"
    try:
        library()
    except ImportError as error:
        return f"ncnn is not there, pip install ncnn ({error})"
    try:
        tempfile.gettempdir()
    except OSError as error:
        return f"it needs a folder for temporary files ({error})"
    return _limits()


def _limits() -> str:
    """What a limit on this process would do to ncnn, in words; empty: nothing.

    Where memory ends, ncnn ends the process instead of saying so.
    """
    if resource is None:
        return ""
    limits = {
        "RLIMIT_AS": "it ends a process whose memory reaches its limit (ulimit -v)",
        "RLIMIT_DATA": "it ends a process whose memory reaches its limit (ulimit -d)",
        "RLIMIT_FSIZE": "its weights go by way of a file, and files have a limit (ulimit -f)",
    }
    for name, why in limits.items():
        number = getattr(resource, name, None)
        if number is not None and resource.getrlimit(number)[0] != resource.RLIM_INFINITY:
            return why
    return ""


@lru_cache(maxsize=1)
def faster_runtime() -> str:
    """Which of torch and ncnn computes a network like the bundled ones faster on this CPU.

    It is timed once for each CPU and for each version of the two, and noted in the user's cache
    folder; so is that ncnn computes the same here.
    """
    versions = f"torch {torch.__version__}, ncnn {importlib.metadata.version('ncnn')}"
    chosen = noted_for(versions, "runtime.json", (TORCH, NCNN), timed)
    if chosen is None:
        return TORCH
    log.info("the network is computed by %s, the faster one on this CPU", chosen)
    return chosen


def timed() -> str:
    """What computes a network faster, and right; see `faster_runtime`."""
    x, source, by_torch, by_ncnn = _example()
    sigma = torch.tensor([0.1])
    try:
        with torch.no_grad():
            apart = float((by_torch(x, sigma, source) - by_ncnn(x, sigma, source)).abs().max())
    except (RuntimeError, OSError, MemoryError) as error:
        log.info("ncnn does not work here: %s", error)
        return TORCH
    if not apart <= NEAR:
        log.info("ncnn differs from torch here by %.2g of a range of 2", apart)
        return TORCH
    times = {TORCH: by_torch, NCNN: by_ncnn}
    least = seconds({name: lambda n=n: n(x, sigma, source) for name, n in times.items()})
    log.info("a network takes %.2g s by torch, %.2g s by ncnn", least[TORCH], least[NCNN])
    return NCNN if least[NCNN] < least[TORCH] else TORCH


def seconds(ways: dict[str, Callable[[], Tensor]]) -> dict[str, float]:
    """The least that each way takes of several, in turns, in time of this thread."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    with torch.no_grad():
        for _ in range(ROUNDS):
            for name, way in ways.items():
                start = time.thread_time()
                way()
                times[name].append(time.thread_time() - start)
    return {name: min(each) for name, each in times.items()}


def _example() -> tuple[Tensor, Tensor, LevelByLevel, LevelByLevel]:
    """A window, its source, and a network with weights by chance, computed by both."""
    chance = torch.Generator().manual_seed(1)
    with torch.device("meta"):  # the weights that it would begin with take long
        network = ResidualUNet(EXAMPLE).requires_grad_(False)
    drawn = torch.randn(max(each.numel() for each in network.parameters()), generator=chance)
    weights = {
        name: drawn[: each.numel()].view(each.shape) * (0.5 / each[0].numel()) ** 0.5
        for name, each in network.named_parameters()
    }
    network.load_state_dict(weights, assign=True)
    network = network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    x, source = torch.rand(2, 1, EXAMPLE.channels, SIDE, SIDE, generator=chance)
    x, source = (each.contiguous(memory_format=torch.channels_last) for each in (x, source))
    return x, source, Remembering(network), InNcnn(network)
