"""Files are found, named by their header alone, and refused in words that help."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.checkpoints.small import save_small
from tileup.checkpoints.describe import describe
from tileup.checkpoints.find import find_model, identify, named_model
from tileup.errors import ExitCode, ModelError, UnknownCheckpointError


def test_a_checkpoint_is_named_by_its_header(tmp_path: Path) -> None:
    spec = identify(save_small(tmp_path / "my-model.safetensors"))
    assert (spec.name, spec.family, spec.prediction) == ("my-model", "bundled", "x0")
    assert (spec.stride, spec.channels, spec.window, spec.multiple) == (2, 12, 32, 8)
    assert (spec.levels.sigma_min, spec.levels.sigma_max) == (0.01, 0.7)


def test_describe_counts_parameters(tmp_path: Path) -> None:
    path = save_small(tmp_path / "m.safetensors")
    info = describe(path)
    assert info.parameters > 1000
    assert info.amount.parameters == {"F16": info.parameters}
    assert info.bytes == path.stat().st_size > 2 * info.parameters
    assert "tileup" in info.header


def test_naming_a_checkpoint_imports_no_torch(tmp_path: Path) -> None:
    path = save_small(tmp_path / "m.safetensors")
    code = (
        "import sys; from pathlib import Path; from tileup.checkpoints.describe import describe;"
        f"print(describe(Path({str(path)!r})).family, 'torch' in sys.modules)"
    )
    printed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert printed.split() == ["bundled", "False"]


def test_a_pipe_is_no_model_and_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.safetensors")
    with pytest.raises(ModelError, match="neither a file nor a folder"):
        find_model(str(tmp_path / "pipe.safetensors"))


def test_models_are_found_by_path_name_and_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save_small(tmp_path / "own.safetensors")
    assert find_model(str(path)) == path
    assert find_model(None).name == "tileup-small.safetensors"
    assert find_model("tileup-small") == find_model(None)
    with pytest.raises(ModelError, match="TILEUP_MODELS"):
        find_model("own")
    monkeypatch.setenv("TILEUP_MODELS", str(tmp_path))
    assert find_model("own") == path
    assert find_model("own.safetensors") == path


def test_a_name_alone_is_no_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models, here = tmp_path / "models", tmp_path / "here"
    (here / "own").mkdir(parents=True)
    models.mkdir()
    path = save_small(models / "own.v1.safetensors")
    save_small(here / "other.safetensors")
    monkeypatch.chdir(here)
    monkeypatch.setenv("TILEUP_MODELS", str(models))
    assert named_model("own.v1") == named_model("own.v1.safetensors") == path
    assert [named_model(name) for name in ("own", "other", "other.safetensors", "")] == [None] * 4


def _foreign(path: Path) -> None:
    save_file({"model.diffusion_model.input_blocks.0.0.weight": torch.zeros(3)}, path)


def _cut(path: Path) -> None:
    save_small(path)
    path.write_bytes(path.read_bytes()[:-100])


def _header_of(content: object):  # noqa: ANN202
    def write(path: Path) -> None:
        text = json.dumps(content).encode()
        path.write_bytes(len(text).to_bytes(8, "little") + text)

    return write


@pytest.mark.parametrize(
    ("write", "error", "words"),
    [
        (lambda path: path.write_bytes(b""), ModelError, "it is empty"),
        (lambda path: path.write_bytes(b"abc"), ModelError, "not a safetensors file"),
        (lambda path: path.write_bytes(b"<!DOCTYPE html><html>" * 9), ModelError, "web page"),
        (lambda path: path.write_bytes(b"PK\x03\x04" + b"\0" * 99), ModelError, "pickle"),
        (lambda path: path.write_bytes(b"\x80\x02}q\0." + b"\0" * 99), ModelError, "pickle"),
        (lambda path: path.write_bytes(b"\xff" * 64), ModelError, "not a safetensors file"),
        (lambda path: path.mkdir(), ModelError, "is a folder without"),
        (_cut, ModelError, "cut short"),
        (_foreign, UnknownCheckpointError, "not a checkpoint that tileup can load"),
        (_header_of([1, 2, 3]), ModelError, "does not parse"),
        (_header_of({"a": {"dtype": "F16"}}), ModelError, "does not parse"),
        (_header_of({"a": 7}), ModelError, "does not parse"),
        (_header_of({}), UnknownCheckpointError, "not a checkpoint"),
    ],
)
def test_wrong_files_are_refused_in_one_sentence(
    tmp_path: Path,
    write,  # noqa: ANN001
    error: type[ModelError],
    words: str,
) -> None:
    path = tmp_path / "wrong.safetensors"
    write(path)
    with pytest.raises(error, match=words) as caught:
        identify(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == ExitCode.BAD_MODEL


def test_a_missing_file_is_refused() -> None:
    with pytest.raises(ModelError, match="cannot be read"):
        identify(Path("/nowhere/m.safetensors"))


@pytest.mark.parametrize(
    "header",
    [
        "no json",
        "[]",
        "{}",
        json.dumps({"stride": 0, "window": 32, "multiple": 8}),
        json.dumps({"stride": 2, "window": 32, "multiple": 8, "denoise": 3, "sigma": [1, 2]}),
        json.dumps({"stride": 2, "window": 32, "multiple": 8, "denoise": [0, 1], "sigma": [2, 1]}),
    ],
)
def test_a_header_of_ours_that_is_wrong_is_refused(tmp_path: Path, header: str) -> None:
    path = save_small(tmp_path / "m.safetensors", header=header)
    with pytest.raises(ModelError, match="its header"):
        identify(path)
