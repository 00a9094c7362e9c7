"""The bundled family: from a file to a denoiser of windows."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch

from tests.checkpoints.small import ARCHITECTURE, header_of, save_small, small_network
from tileup.checkpoints.files import BUNDLED, find_model, identify
from tileup.checkpoints.loading import load_model, pick_device
from tileup.checkpoints.network import ResidualUNet
from tileup.contracts import Box
from tileup.errors import ModelError, UsageError


def test_what_was_saved_is_what_is_loaded(tmp_path: Path) -> None:
    path = save_small(tmp_path / "m.safetensors")
    model = load_model(path, "cpu")
    expected = small_network().half().float()
    source = torch.rand(1, 12, 24, 32) * 2 - 1
    x = source + 0.1 * torch.randn(1, 12, 24, 32)
    windows = [Box(0, 0, 16, 16), Box(8, 16, 24, 32)]
    crops = torch.cat([x[..., *box.index] for box in windows])
    sigma = torch.tensor([0.1, 0.3])
    result = model.denoiser(source)(crops, sigma, windows)
    for row, box in enumerate(windows):
        one = expected(x[..., *box.index], sigma[row : row + 1], source[..., *box.index])
        torch.testing.assert_close(result[row : row + 1], one, atol=1e-5, rtol=1e-4)
    assert (result - crops).abs().max() > 0.01
    assert model.digest == hashlib.sha256(path.read_bytes()).hexdigest()
    assert model.device == "cpu"


def test_the_source_matters_and_so_does_the_noise_level() -> None:
    network = small_network()
    x, sigma = torch.rand(1, 12, 16, 16), torch.tensor([0.2])
    base = network(x, sigma, torch.zeros_like(x))
    assert (network(x, sigma, torch.ones_like(x)) - base).abs().max() > 0.1
    assert (network(x, sigma * 2, torch.zeros_like(x)) - base).abs().max() > 1e-3


def test_an_untrained_network_is_the_enlargement() -> None:
    network = ResidualUNet(ARCHITECTURE)
    source = torch.rand(2, 12, 8, 16)
    x = source + torch.randn_like(source)
    assert torch.equal(network(x, torch.tensor([0.1, 0.7]), source), source)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"leave__weight": torch.zeros(12, 8, 1, 1).half()}, "does not fit"),
        ({"extra": torch.zeros(1)}, "does not fit"),
        ({"leave__bias": torch.full((12,), float("nan")).half()}, "not finite"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(
    tmp_path: Path, changes: dict[str, torch.Tensor], words: str
) -> None:
    path = save_small(tmp_path / "m.safetensors", **changes)
    with pytest.raises(ModelError, match=words):
        load_model(path)


def test_a_header_without_a_network_is_refused(tmp_path: Path) -> None:
    header = json.loads(header_of())
    del header["architecture"]["widths"]
    path = save_small(tmp_path / "m.safetensors", header=json.dumps(header))
    with pytest.raises(ModelError, match="describes no network"):
        load_model(path)


@pytest.mark.parametrize("device", ["tpu", "cuda:x", "cpu:1", "cuda:99", ""])
def test_devices_that_are_not_there_are_refused(device: str) -> None:
    with pytest.raises(UsageError, match="device"):
        pick_device(device)
    assert pick_device("cpu") == "cpu"


def test_the_shipped_checkpoint_is_small_and_loads() -> None:
    path = find_model(None)
    assert path.stem == BUNDLED
    assert path.stat().st_size <= 20_000_000
    spec = identify(path)
    model = load_model(device="cpu")
    assert model.spec == spec
    assert spec.window % spec.multiple == 0
    assert spec.multiple % spec.stride == 0
    source = torch.zeros(1, spec.channels, 16, 16)
    flat = model.denoiser(source)(source, torch.tensor([0.02]), [Box(0, 0, 16, 16)])
    assert flat.abs().max() < 0.1, "grey stays grey"
