"""Nodes of several kinds: what `auto` means is settled once, where the run is started."""

from __future__ import annotations

import logging
import pickle
from dataclasses import dataclass, field, replace

import pytest
import torch

from tests.doubles import DoubleModel, blurring_denoiser
from tests.doubles import spec as double_spec
from tileup.checkpoints.load import load_model
from tileup.contracts import Model
from tileup.engine.models import loaded
from tileup.engine.uniform import LoadAlike, alike
from tileup.errors import ModelError, UsageError
from tileup.settings.values import Settings

AUTO = Settings(device="cpu")


@dataclass
class Node:
    """A machine on which `auto` means what it says, and that has not every runtime."""

    dtype: str
    runtime: str
    lacks: str = ""
    device: str = "cpu"
    text: bool = False
    asked: list[tuple[str, str]] = field(default_factory=list)

    def __call__(self, settings: Settings) -> Model:
        self.asked.append((settings.dtype, settings.runtime))
        if settings.runtime == self.lacks:
            raise UsageError(f"runtime {self.lacks} cannot be used")
        dtype = self.dtype if settings.dtype == "auto" else settings.dtype
        return DoubleModel(
            blurring_denoiser,
            replace(double_spec(), text=self.text),
            device=self.device,
            dtype=getattr(torch, dtype),
            runtime=self.runtime if settings.runtime == "auto" else settings.runtime,
        )


def way(model: Model) -> tuple[str, str]:
    return str(model.dtype).removeprefix("torch."), model.runtime


@pytest.mark.parametrize(
    ("node", "settings", "found", "loads"),
    [
        (Node("float32", "ncnn"), AUTO, ("float32", "ncnn"), 1),
        (Node("float32", "torch"), AUTO, ("float32", "ncnn"), 2),
        (Node("bfloat16", "torch"), AUTO, ("float32", "ncnn"), 2),
        (Node("float32", "torch"), replace(AUTO, dtype="float32", runtime="torch"), None, 1),
        (Node("float16", "torch", device="cuda:0"), AUTO, None, 1),
        (Node("bfloat16", "torch", text=True), AUTO, None, 1),
    ],
    ids=["same", "runtime", "both", "asked for", "gpu", "vae"],
)
def test_a_node_computes_as_the_machine_that_starts_the_run(
    node: Node, settings: Settings, found: tuple[str, str] | None, loads: int
) -> None:
    model = LoadAlike(node, "float32", "ncnn")(settings)
    assert way(model) == (found or way(node(settings)))
    assert len(node.asked) == loads + (found is None)


def test_what_is_drawn_again_in_float32_is_so_on_every_node() -> None:
    """Where half precision gave values that are no numbers, whatever a node takes in float32."""
    for node in (Node("bfloat16", "torch"), Node("float32", "ncnn")):
        model = LoadAlike(node, "bfloat16", "torch")(replace(AUTO, dtype="float32"))
        assert way(model) == ("float32", "torch")


def test_a_node_that_cannot_do_so_draws_in_its_own_way_and_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "tileup")
    model = LoadAlike(Node("bfloat16", "torch", lacks="ncnn"), "float32", "ncnn")(AUTO)
    assert way(model) == ("bfloat16", "torch")
    (told,) = caplog.messages
    assert "in bfloat16 by torch, others in float32 by ncnn" in told
    assert "runtime ncnn cannot be used" in told


def test_it_is_settled_where_the_run_is_started() -> None:
    here = Node("float32", "ncnn")
    load = alike(here, Settings())
    assert load == LoadAlike(here, "float32", "ncnn")
    for known in (
        replace(AUTO, dtype="float32", runtime="torch"),
        Settings(device="cuda"),
        replace(AUTO, model="nowhere.safetensors"),
    ):
        asked = len(here.asked)
        assert alike(here, known) is here
        assert len(here.asked) == asked


def test_what_cannot_be_loaded_is_left_to_the_workers_to_tell() -> None:
    def broken(settings: Settings) -> Model:
        raise ModelError("damaged")

    assert alike(broken, AUTO) is broken


def test_the_shipped_model_is_loaded_as_elsewhere() -> None:
    """With its own loader, on its way to another machine."""
    elsewhere = pickle.loads(pickle.dumps(LoadAlike(_loaded, "float32", "torch")))
    assert way(elsewhere(AUTO)) == ("float32", "torch")
    assert way(load_model(None, replace(AUTO, dtype="float32", runtime="torch"))) == (
        "float32",
        "torch",
    )


def _loaded(settings: Settings) -> Model:
    return loaded(None, settings)
