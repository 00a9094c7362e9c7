"""One thread of computation for each worker of pytest-xdist."""

from __future__ import annotations

import os

# Before torch is imported, which reads it once. Workers that each use every core wait for each
# other's threads within every small operation: some tests took fifty times as long.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
