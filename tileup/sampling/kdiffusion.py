"""The one place where k-diffusion is met.

Its package root imports everything that training needs (torchvision, wandb, kornia, clip), which
takes seconds and fails where torchvision does not match torch. Its samplers need none of that. So
the installed `sampling.py` is loaded as it is, under a private package name, beside the one helper
that it takes from `utils`. What it imports for single samplers comes in when one of them uses it:
scipy and torchsde take as long to load as a small picture takes to draw.
"""

from __future__ import annotations

import builtins
import functools
import importlib
import importlib.util
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from types import ModuleType, SimpleNamespace
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
    vars(module)["__builtins__"] = vars(builtins) | {"__import__": _import}
    sys.modules |= {_PACKAGE: root, utils.__name__: utils, module.__name__: module}
    spec.loader.exec_module(module)
    return module


class _Late(ModuleType):
    """A module that is loaded when something of it is used."""

    def __getattr__(self, name: str) -> object:
        return getattr(importlib.import_module(self.__name__), name)


def _odeint(*arguments: object, **more: object) -> object:
    return importlib.import_module("torchdiffeq").odeint(*arguments, **more)


_LATE: Mapping[tuple[str, str], object] = {
    ("scipy", "integrate"): SimpleNamespace(integrate=_Late("scipy.integrate")),  # of lms
    ("torchdiffeq", "odeint"): SimpleNamespace(odeint=_odeint),  # of no sampler
    ("torchsde", ""): _Late("torchsde"),  # of Brownian noise
}
"""What an import statement gets that names a package and, after `from`, one name in it."""


def _import(
    name: str,
    globals: Mapping[str, object] | None = None,
    locals: Mapping[str, object] | None = None,
    fromlist: Sequence[str] | None = (),
    level: int = 0,
) -> object:
    """As Python's own, but what `_LATE` names is loaded at its first use."""
    found = _LATE.get((name, ",".join(fromlist or ())))
    if found is not None and not level:
        return found
    return builtins.__import__(name, globals, locals, fromlist or (), level)


def append_dims(x: Tensor, dimensions: int) -> Tensor:
    """Append axes of length 1 until there are `dimensions`."""
    return x[(..., *[None] * (dimensions - x.ndim))]
