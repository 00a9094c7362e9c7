"""One thread for each worker, the same examples in every run, and no time for old garbage."""

from __future__ import annotations

import gc
import itertools
import os
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs
import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from tests.checkpoints.whole import Shelf

# Before torch is imported, which reads it once. Workers that each use every core wait for each
# other's threads within every small operation: some tests took fifty times as long.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# A developer's own ~/.config/tileup/config.yaml is none of the tests' business.
os.environ["XDG_CONFIG_HOME"] = os.devnull

# A run that fails by chance tells nothing about the change at hand: `make test` and CI draw the
# same examples each time (hypothesis' own profile `ci`), and `make fuzz` new ones. What it finds
# is kept as an @example.
settings.register_profile(
    "new", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("new" if "FUZZ" in os.environ else "ci")


gc.disable()  # until all tests are collected: nothing of what is imported is garbage


def pytest_collection_finish() -> None:
    gc.enable()


_COUNT = itertools.count(1)


def pytest_runtest_setup() -> None:
    """Garbage is collected while a test runs: what torch and the tests before made is none of that.
    Now and then all of it is looked through once."""
    if next(_COUNT) % 2000 == 0:
        gc.unfreeze()
        gc.collect()
    gc.collect()  # of the test before: little, as all that was there before it is frozen
    gc.freeze()


@pytest.fixture
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What is noted in the user's cache folder lies in the test's."""

    def cache(name: str) -> Path:
        return tmp_path / name

    monkeypatch.setattr(platformdirs, "user_cache_path", cache)


@pytest.fixture(scope="session")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    """The small checkpoints of whole models; the workers of a run share them."""
    from tests.checkpoints.whole import Shelf

    base = tmp_path_factory.getbasetemp()
    return Shelf((base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shelf")
