"""What computes the bundled checkpoint's networks: torch, ncnn where that is faster, or torch in
integers of 8 bits where that is much faster."""

from __future__ import annotations

import copy
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
from tileup.families.in_int8 import InInt8, exact
from tileup.families.in_ncnn import InNcnn, library
from tileup.families.residual_unet import Architecture, LevelByLevel, Remembering, ResidualUNet
from tileup.families.rounding import Ranges, points

log = logging.getLogger(__name__)

AUTO = "auto"
TORCH, NCNN, INT8 = "torch", "ncnn", "int8"
EXAMPLE = Architecture(
    channels=12, widths=(32, 64, 128), down_blocks=(0, 1, 4), up_blocks=(1, 2), residual_std=0.08
)
"""What is timed: a network as large as the bundled ones."""
SIDE = 72
"""Of a window that is timed, cells."""
ROUNDS = 3
NEAR = 1e-4
"""How far, of a range of 2, ncnn may be from torch: some hundred times what is measured."""
INEXACT = "this CPU or this torch does not add products of 8 bits exactly"
GAIN = 0.9
"""Integers are taken from this share of the time on: what is nearly a tie stays exact."""


def computed_by(runtime: str, network: ResidualUNet, ranges: Ranges | None = None) -> LevelByLevel:
    """A network without gradients as a runtime computes it.

    Args:
        runtime: torch, ncnn or int8.
        network: on the CPU in float32, but for torch.
        ranges: of its maps, for int8.

    Raises:
        ValueError: int8 has no ranges, or those of another network.
    """
    if runtime == INT8:
        if ranges is None:
            raise ValueError("there are none")
        return InInt8(network, ranges)
    return InNcnn(network) if runtime == NCNN else Remembering(network)


def pick_runtime(runtime: str, device: str, dtype: torch.dtype, *, rounded: bool = False) -> str:
    """What computes the bundled networks, as meant by a setting.

    Args:
        runtime: the setting: auto, torch, ncnn or int8.
        device: where the networks shall be.
        dtype: what they compute in, where they are not rounded.
        rounded: whether `auto` may round them to 8 bits.

    Raises:
        UsageError: it is not there, or does not compute there.
    """
    if runtime == TORCH:
        return TORCH
    if runtime != AUTO and device != "cpu":
        raise UsageError(f"runtime {runtime} computes on the CPU, and the device is {device}")
    if device != "cpu":
        return TORCH
    if runtime == INT8:
        if not exact():
            raise UsageError(f"runtime int8 cannot be used: {INEXACT}")
        return INT8
    unrounded = _unrounded(runtime, dtype)
    return faster_rounded(unrounded, dtype) if rounded and runtime == AUTO else unrounded


def _unrounded(runtime: str, dtype: torch.dtype) -> str:
    """What computes networks on the CPU if they are not rounded."""
    if dtype != torch.float32:
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
    return noted_for(versions, "runtime.json", (TORCH, NCNN), timed) or TORCH


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


@lru_cache(maxsize=4)
def faster_rounded(unrounded: str, dtype: torch.dtype) -> str:
    """Integers of 8 bits where they are right and much faster, or what computes without them.

    It is timed once for each CPU and version, and noted in the user's cache folder.

    Args:
        unrounded: torch or ncnn.
        dtype: what that computes in.
    """
    other = f"{unrounded} in {str(dtype).removeprefix('torch.')}"
    if unrounded == NCNN:
        other += f", ncnn {importlib.metadata.version('ncnn')}"
    versions, known = f"torch {torch.__version__}, {other}", (INT8, unrounded)
    chosen = noted_for(versions, "int8.json", known, lambda: timed_rounded(unrounded, dtype))
    # Machines whose CPUs are named alike may share a note, and not show programs the same CPU.
    if chosen == INT8 and not exact():
        log.info("the network is not rounded to 8 bits: %s", INEXACT)
        return unrounded
    return chosen or unrounded


def timed_rounded(unrounded: str, dtype: torch.dtype) -> str:
    """What computes a network; see `faster_rounded`."""
    if not exact():
        log.info("the network is not rounded to 8 bits: %s", INEXACT)
        return unrounded
    x, source, network = _drawn_network()
    ranges = Ranges.of(torch.ones(len(points(network)), 2, 2), 0.01, 1.0)
    in_int8 = InInt8(network, ranges)
    other = computed_by(unrounded, copy.deepcopy(network).to(dtype))
    sigma = torch.tensor([0.1])
    ways = {INT8: in_int8, unrounded: other}
    least = seconds({name: lambda n=n: n(x, sigma, source) for name, n in ways.items()})
    log.info(
        "a network takes %.2g s by %s, %.2g s in 8 bits", least[unrounded], unrounded, least[INT8]
    )
    return INT8 if least[INT8] < GAIN * least[unrounded] else unrounded


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
    x, source, network = _drawn_network()
    return x, source, Remembering(network), InNcnn(network)


def _drawn_network() -> tuple[Tensor, Tensor, ResidualUNet]:
    """A window, its source, and a network with weights by chance."""
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
    return x, source, network
