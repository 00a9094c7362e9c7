"""A torchvision that fails at import is hidden, one that works stays: in fresh processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize(
    ("code", "hidden"),
    [
        ("raise RuntimeError('operator torchvision::nms does not exist')", True),
        ("raise ImportError('libtorch.so: undefined symbol')", True),
        ("VALUE = 3", False),
    ],
)
def test_only_a_broken_one_is_hidden(tmp_path: Path, code: str, hidden: bool) -> None:
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text(f"import json\n{code}\n")
    program = (
        "import sys\n"
        "from tileup.torchvision_shield import shield_torchvision\n"
        "print(shield_torchvision(), shield_torchvision(), sys.modules['torchvision'] is None)\n"
    )
    paths = os.pathsep.join([str(tmp_path), str(ROOT)])
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [str(hidden)] * 3


@pytest.mark.slow
def test_diffusers_and_transformers_import_behind_it() -> None:
    program = (
        "from tileup.torchvision_shield import shield_torchvision\n"
        "shield_torchvision()\n"
        "from diffusers import AutoencoderKL, UNet2DConditionModel\n"
        "from transformers import CLIPTextModel, T5EncoderModel\n"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True)
