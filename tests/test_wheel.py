"""The wheel: installed elsewhere, it brings its presets and its checkpoint along."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.doubles import photograph

ROOT = Path(__file__).parent.parent
QUIET = {name: value for name, value in os.environ.items() if not name.startswith("TILEUP_")}


def run(*command: object, cwd: Path) -> str:
    """Standard output of a command that must succeed."""
    words = [str(each) for each in command]
    done = subprocess.run(words, capture_output=True, text=True, cwd=cwd, env=QUIET, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built with what is installed: no network."""
    target = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", target, cwd=ROOT)
    (built,) = target.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def second(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Programs of a second environment: the wheel alone, over the packages of this one."""
    home = tmp_path_factory.mktemp("second")
    venv.create(home, with_pip=False)
    python = home / "bin" / "python"
    site = Path(
        run(python, "-c", "import site; print(site.getsitepackages()[0])", cwd=home).strip()
    )
    # A folder named in a .pth file is searched, but .pth files in it are not read: the editable
    # tileup of this environment stays out of sight.
    (site / "first.pth").write_text(sysconfig.get_path("purelib") + "\n")
    pip = (sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check")
    run(*pip, "install", "--no-deps", "--no-index", "--force-reinstall", wheel, cwd=home)
    return home / "bin"


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A folder far from the checkout, with a picture."""
    pixels = (photograph(32, 40) * 255).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "in.png")
    return tmp_path


def test_everything_comes_from_the_second_environment(second: Path, elsewhere: Path) -> None:
    code = (
        "import tileup\n"
        "from tileup.checkpoints.find import find_model\n"
        "from tileup.resources import resource\n"
        "print(tileup.__file__, resource('configs'), find_model(None), sep='\\n')"
    )
    paths = run(second / "python", "-c", code, cwd=elsewhere).splitlines()
    assert len(paths) == 3
    for path in paths:
        assert Path(path).is_relative_to(second.parent)
        assert Path(path).exists()


def test_the_command_works_from_another_folder(second: Path, elsewhere: Path) -> None:
    assert "saves" in run(second / "tileup", "plan", "in.png", cwd=elsewhere)
    assert "smoke" in run(second / "tileup", "presets", cwd=elsewhere)
    run(second / "tileup", "upscale", "in.png", "--preset", "smoke", cwd=elsewhere)
    with Image.open(elsewhere / "in_2x.png") as image:
        assert image.size == (80, 64)


def test_the_wheel_holds_what_it_should_and_no_more(wheel: Path) -> None:
    from zipfile import ZipFile

    names = ZipFile(wheel).namelist()
    assert "tileup/_data/models/tileup-small.safetensors" in names
    for folder in ("presets", "families"):
        shipped = {path.name for path in (ROOT / "configs" / folder).glob("*.yaml")}
        prefix = f"tileup/_data/configs/{folder}/"
        assert {name.removeprefix(prefix) for name in names if name.startswith(prefix)} == shipped
    assert "tileup/text/qwen2-merges.txt.gz" in names
    licences = {name.rpartition("/")[2] for name in names if ".dist-info/licenses/" in name}
    assert licences == {"LICENSE", "NOTICE"}
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"tileup"}
    assert not [name for name in names if name.endswith((".pt", ".pyc")) or "state" in name]
