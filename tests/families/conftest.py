"""What tests of several families need."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.checkpoints.small import save_small


@pytest.fixture
def alone(tmp_path: Path) -> Path:
    """A bundled checkpoint with the first network only."""
    return save_small(tmp_path / "alone.safetensors")
