"""The checkpoint of three networks: written, read, and loaded by the program; the log."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from models.training.files import Part, Parts, note, read_parts, write_parts
from models.training.levels import ARCHITECTURE, TEXTURE_RANGE
from tileup.checkpoints.load import load_model
from tileup.families.bundled import BundledModel
from tileup.families.residual_unet import ResidualUNet
from tileup.settings.values import Settings


def weights(seed: int, conditions: int = 0) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    network = ResidualUNet(replace(ARCHITECTURE, conditions=conditions))
    nn.init.normal_(network.leave.weight, std=0.1)
    return {name: each.half().float() for name, each in network.state_dict().items()}


def assert_equal(one: object, two: object) -> None:
    assert isinstance(one, dict)
    assert isinstance(two, dict)
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_what_is_written_is_read_with_and_without_a_second_network(tmp_path: Path) -> None:
    base, vivid = Part(weights(0), {"step": 5}), Part(weights(1, 1), {"step": 7})
    for parts in (Parts(base), Parts(base, vivid)):
        write_parts(parts, tmp_path / "m.safetensors")
        found = read_parts(tmp_path / "m.safetensors")
        assert_equal(found.base.weights, base.weights)
        assert found.base.trained == {"step": 5}
        assert (found.vivid is None) == (parts.vivid is None)
    assert found.vivid is not None
    assert_equal(found.vivid.weights, vivid.weights)
    assert found.vivid.trained == {"step": 7}
    assert found.vivid.weights["enter.weight"].shape[1] == 25
    assert list(tmp_path.iterdir()) == [tmp_path / "m.safetensors"]


def test_the_program_loads_both_networks_and_the_range_of_texture(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    for vivid in (None, Part(weights(1, 1))):
        write_parts(Parts(Part(weights(0)), vivid), path)
        model = load_model(path, Settings(device="cpu", dtype="float32"))
        assert isinstance(model, BundledModel)
        assert model.spec.textured == (vivid is not None)
        assert_equal(model.network.state_dict(), weights(0))
    assert model.vivid is not None
    assert_equal(model.vivid.network.state_dict(), weights(1, 1))
    assert model.vivid.range == TEXTURE_RANGE


def test_a_new_network_leaves_the_others_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    write_parts(Parts(Part(weights(0)), Part(weights(1, 1)), Part(weights(3))), path)
    write_parts(replace(read_parts(path), base=Part(weights(2))), path)
    found = read_parts(path)
    assert found.vivid is not None
    assert found.deblock is not None
    assert_equal(found.base.weights, weights(2))
    assert_equal(found.vivid.weights, weights(1, 1))
    assert_equal(found.deblock.weights, weights(3))
    model = load_model(path, Settings(device="cpu", dtype="float32"))
    assert isinstance(model, BundledModel)
    assert model.deblocking is not None
    assert_equal(model.deblocking.network.state_dict(), weights(3))


def test_a_figure_that_the_log_did_not_have_becomes_a_column(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    note({"step": 1, "loss": 0.5}, path)
    note({"step": 2, "loss": 0.4, "j02": 1.5}, path)
    note({"step": 3, "j02": 1.6}, path)
    with path.open() as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["1", "2", "3"]
    assert [row["loss"] for row in rows] == ["0.5", "0.4", ""]
    assert [row["j02"] for row in rows] == ["", "1.5", "1.6"]
