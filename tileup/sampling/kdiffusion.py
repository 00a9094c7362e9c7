"""The one place where k-diffusion is met.

Its package root imports everything that training needs (torchvision, wandb, kornia, clip), which
takes seconds and fails where torchvision does not match torch. Its samplers need none of that. So
the installed `sampling.py` is loaded as it is, under a private package name, beside the one helper
that it takes from `utils`.
"""

from __future__ import annotations

import functools
import importlib.util
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from types import ModuleType
from typing import Protocol, cast

from torch import Tensor

from tileup.errors import MissingExtraError

_PACKAGE = "_tileup_k_diffusion"


class NoiseSampler(Protocol):
    """Standard normal noise for the way from one noise level to another."""

    def __call__(self, sigma: Tensor, sigma_next: Tensor) -> Tensor: ...


class SampleFunction(Protocol):
    """A `sample_*` function that takes a list of noise levels."""

    def __call__(
        self, model: object, x: Tensor, sigmas: Tensor, *, disable: bool, **options: object
    ) -> Tensor: ...


class RangedFunction(Protocol):
    """A `sample_*` function that takes the two ends of the noise levels."""

    def __call__(
        self,
        model: object,
        x: Tensor,
        sigma_min: float,
        sigma_max: float,
        *,
        disable: bool,
        **options: object,
    ) -> Tensor: ...


class _BrownianTree(Protocol):
    def __call__(
        self, x: Tensor, sigma_min: float, sigma_max: float, seed: int
    ) -> NoiseSampler: ...


def sample_function(name: str) -> SampleFunction:
    """k-diffusion's `sample_<name>`."""
    return cast(SampleFunction, getattr(_sampling(), f"sample_{name}"))


def ranged_function(name: str) -> RangedFunction:
    """k-diffusion's `sample_<name>`, for dpm_fast and dpm_adaptive."""
    return cast(RangedFunction, getattr(_sampling(), f"sample_{name}"))


def brownian_tree(x: Tensor, sigma_min: float, sigma_max: float, seed: int) -> NoiseSampler:
    """k-diffusion's noise sampler over one Brownian path, shape and dtype of `x`."""
    tree = cast(_BrownianTree, _sampling().BrownianTreeNoiseSampler)
    return tree(x, sigma_min, sigma_max, seed)


def installed_file(name: str) -> Path:
    """A file of the installed k-diffusion.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        path = Path(str(distribution("k-diffusion").locate_file(f"k_diffusion/{name}")))
    except PackageNotFoundError as error:
        raise MissingExtraError("k-diffusion is not installed: pip install k-diffusion") from error
    if not path.exists():
        raise MissingExtraError(f"k-diffusion is installed without {path}: install it again")
    return path


@functools.cache
def _sampling() -> ModuleType:
    root = ModuleType(_PACKAGE)
    root.__path__ = []
    utils = ModuleType(f"{_PACKAGE}.utils")
    vars(utils)["append_dims"] = append_dims
    vars(root)["utils"] = utils
    spec = importlib.util.spec_from_file_location(
        f"{_PACKAGE}.sampling", installed_file("sampling.py")
    )
    if spec is None or spec.loader is None:
        raise MissingExtraError("k-diffusion's samplers cannot be loaded: install it again")
    module = importlib.util.module_from_spec(spec)
    sys.modules |= {_PACKAGE: root, utils.__name__: utils, module.__name__: module}
    spec.loader.exec_module(module)
    return module


def append_dims(x: Tensor, dimensions: int) -> Tensor:
    """Append axes of length 1 until there are `dimensions`."""
    return x[(..., *[None] * (dimensions - x.ndim))]
