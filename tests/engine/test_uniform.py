"""Nodes of several kinds: what `auto` means is settled once, where the run is started."""

from __future__ import annotations

import logging
import pickle
from dataclasses import dataclass, field, replace

import pytest
import torch

from tests.doubles import DoubleModel, blurring_denoiser
from tileup.checkpoints.find import find_model, identified
from tileup.checkpoints.load import load_model, way_of_bundled
from tileup.contracts import Model
from tileup.engine.models import loaded
from tileup.engine.uniform import LoadAlike, alike
from tileup.errors import UsageError
from tileup.settings.values import Settings

AUTO = Settings(device="cpu")


@dataclass
class Node:
    """A machine on which `auto` means what it says, and that has not every runtime."""

    dtype: str
    runtime: str
    lacks: str = ""
    asked: list[Settings] = field(default_factory=list)

    def __call__(self, settings: Settings) -> Model:
        self.asked.append(settings)
        if settings.runtime == self.lacks:
            raise UsageError(f"runtime {self.lacks} cannot be used")
        return DoubleModel(
            blurring_denoiser,
            dtype=getattr(torch, self.dtype if settings.dtype == "auto" else settings.dtype),
            runtime=self.runtime if settings.runtime == "auto" else settings.runtime,
        )


def way(model: Model) -> tuple[str, str]:
    return str(model.dtype).removeprefix("torch."), model.runtime


@pytest.mark.parametrize("here", [("float32", "ncnn"), ("float32", "torch"), ("bfloat16", "torch")])
@pytest.mark.parametrize(
    "there", [("float32", "ncnn"), ("float32", "torch"), ("bfloat16", "torch")]
)
def test_a_node_computes_as_the_machine_that_starts_the_run(
    here: tuple[str, str], there: tuple[str, str]
) -> None:
    node = Node(*there)
    assert way(LoadAlike(node, *here)(AUTO)) == here
    assert len(node.asked) == 1, "nothing is loaded twice"
    assert replace(node.asked[0], dtype="auto", runtime="auto") == AUTO


@pytest.mark.parametrize("there", [("bfloat16", "torch"), ("float32", "ncnn")])
def test_what_is_drawn_again_in_float32_is_so_on_every_node(there: tuple[str, str]) -> None:
    """Where half precision gave values that are no numbers, whatever a node takes in float32."""
    again = replace(AUTO, dtype="float32")
    assert way(LoadAlike(Node(*there), "bfloat16", "torch")(again)) == ("float32", "torch")


def test_a_node_that_cannot_do_so_draws_in_its_own_way_and_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "tileup")
    model = LoadAlike(Node("bfloat16", "torch", lacks="ncnn"), "float32", "ncnn")(AUTO)
    assert way(model) == ("bfloat16", "torch")
    (told,) = caplog.messages
    assert "does not compute in float32 by ncnn, as others do" in told
    assert "runtime ncnn cannot be used" in told


def test_integers_are_taken_where_no_precision_is_asked_for() -> None:
    """`--dtype` names another way to compute: settings refuse both."""
    for node in (Node("float32", "ncnn"), Node("bfloat16", "torch"), Node("float32", "int8")):
        load = LoadAlike(node, "auto", "int8")
        assert load(AUTO).runtime == "int8"
        assert way(load(replace(AUTO, dtype="float32"))) == ("float32", "torch")
    assert LoadAlike(node, "auto", "int8").way == "int8"


def test_a_gpu_computes_as_gpus_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tileup.devices.pick_device", lambda device: "cuda:0")
    node = Node("float16", "torch")
    assert way(LoadAlike(node, "float32", "ncnn")(Settings())) == ("float16", "torch")


def test_it_is_settled_where_the_run_is_started() -> None:
    """As the model is loaded here, which loads nothing."""
    node = Node("float32", "torch")
    for asked in (Settings(), replace(AUTO, runtime="torch"), replace(AUTO, dtype="bfloat16")):
        dtype, runtime = way(load_model(None, replace(asked, device="cpu")))
        expected = ("auto" if runtime == "int8" else dtype, runtime)
        assert alike(node, asked) == LoadAlike(node, *expected)
    assert node.asked == []


@pytest.mark.parametrize(
    "settings",
    [
        replace(AUTO, dtype="float32", runtime="torch"),
        Settings(device="cuda"),
        replace(AUTO, model="nowhere.safetensors"),
    ],
    ids=["asked for", "gpu", "no model"],
)
def test_where_nothing_is_open_nothing_is_settled(settings: Settings) -> None:
    node = Node("float32", "torch")
    assert alike(node, settings) is node


def test_the_shipped_model_is_loaded_as_elsewhere() -> None:
    """With its own loader, on its way to another machine."""
    elsewhere = pickle.loads(pickle.dumps(LoadAlike(_loaded, "float32", "torch")))
    model = elsewhere(AUTO)
    assert way(model) == ("float32", "torch")
    asked = replace(AUTO, dtype="float32", runtime="torch")
    known = identified(find_model(None), None)
    assert way_of_bundled(known, asked, "cpu") == (torch.float32, "torch")


def _loaded(settings: Settings) -> Model:
    return loaded(None, settings)
