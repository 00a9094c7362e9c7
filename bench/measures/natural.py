"""How natural pictures look, without their truths."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.io import loadmat

from bench.measures.pixels import Pixels, luma


def naturalness(result: Pixels) -> NDArray[np.float64]:
    """What NIQE sees of each patch of 96 pixels, shape (patches, 36)."""
    with _old_names():
        from skvideo.measure.niqe import get_patches_test_features

        return np.asarray(get_patches_test_features(luma(result), 96), dtype=np.float64)


def niqe(patches: NDArray[np.float64]) -> float:
    """Natural image quality (Mittal et al. 2013), by `absolutely-not-scikit-video`; less is better.

    It sees no truth: it rises with blur and with artefacts alike. It compares means and covariances
    of 36 features, for which one small picture has too few patches: give those of all together.
    """
    with _old_names():
        import skvideo.measure

    file = Path(skvideo.measure.__file__).parent / "data" / "niqe_image_params.mat"
    natural = loadmat(file)
    away = patches.mean(axis=0) - natural["pop_mu"].ravel()
    spread = (natural["pop_cov"] + np.cov(patches.T)) / 2
    return float(np.sqrt(away @ np.linalg.pinv(spread) @ away))


@contextmanager
def _old_names() -> Iterator[None]:
    """scikit-video uses old names of SciPy and NumPy, which warn."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
