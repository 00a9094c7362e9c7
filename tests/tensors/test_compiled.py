"""Networks that torch compiles, and what becomes of those that it cannot."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.checkpoints import whole
from tileup.checkpoints.load import load_model
from tileup.checkpoints.model import DiffusionModel
from tileup.contracts import Box, Denoiser, Scene, Wish
from tileup.settings.values import Settings
from tileup.tensors.compiled import CompiledForward, compile_network


class Failing:
    """Compiled code that never comes to be."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.tried = 0

    def __call__(self, *args: Any) -> Any:  # noqa: ANN401
        self.tried += 1
        raise self.error


def test_what_cannot_be_compiled_is_computed_as_it_is_and_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    compiler = Failing(RuntimeError("\nno compiler\nlong story"))
    forward = CompiledForward(lambda x: 2 * x, "a.safetensors", compiler)
    with caplog.at_level(logging.WARNING):
        assert [forward(3), forward(4)] == [6, 8]
    assert compiler.tried == 1
    (told,) = caplog.messages
    assert told == (
        "a.safetensors cannot be compiled here, so it computes as without --compile"
        " (RuntimeError: no compiler)"
    )


def test_what_goes_wrong_without_compiling_too_is_no_fault_of_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def plain(x: Tensor) -> Tensor:
        raise torch.OutOfMemoryError("of the network")

    compiler = Failing(RuntimeError("of the compiled code"))
    forward = CompiledForward(plain, "a.safetensors", compiler)
    for _ in range(2):  # with fewer windows it may go well: it is tried again
        with pytest.raises(torch.OutOfMemoryError, match="of the network"):
            forward(torch.zeros(1))
    assert compiler.tried == 2
    assert caplog.messages == []


@pytest.mark.long
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's, of its own code
def test_without_a_compiler_a_network_computes_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import torch._inductor.config as inductor

    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    network = nn.Sequential(nn.Linear(5, 7), nn.SiLU(), nn.Linear(7, 3)).requires_grad_(False)
    x = torch.randn(2, 5, generator=torch.Generator().manual_seed(0))
    expected = network(x)
    compile_network(network, "a.safetensors")
    with inductor.patch({"cpp.cxx": (str(tmp_path / "none"),), "compile_threads": 1}):
        assert torch.equal(network(x), expected)
    assert [each for each in caplog.messages if "a.safetensors cannot be compiled" in each]


def denoiser(folder: Path, compile: bool) -> Denoiser:
    """SD 1.5 with guidance, its network as small as it can be."""
    file = folder / "sd1.safetensors"
    if not file.exists():
        whole.save(file, whole.sd1())
    model = load_model(file, Settings(device="cpu", dtype="float32", compile=compile))
    assert isinstance(model, DiffusionModel)
    scene = Scene(torch.zeros(1, 4, 40, 40), None, (320, 320), Wish("a", "b", 5.0))
    return model.denoiser(scene)


@pytest.mark.long
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's, of its own code
def test_a_compiled_network_gives_the_same_latents_and_few_pieces_of_code_serve_all_batches(
    tmp_path: Path,
) -> None:
    """With guidance a batch has two rows for each window, so none has a single one."""
    from torch._dynamo.utils import counters

    plain, compiled = (denoiser(tmp_path, compile) for compile in (False, True))
    torch._dynamo.reset()
    counters.clear()
    graphs: list[int] = []
    for count in (3, 3, 2, 1, 3, 4):
        boxes = [Box(top, top, top + 16, top + 16) for top in range(count)]
        x = torch.randn(count, 4, 16, 16, generator=torch.Generator().manual_seed(count))
        sigma = torch.full((count,), 2.0)
        found, expected = (each(x, sigma, boxes) for each in (compiled, plain))
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
        assert expected.std() > 0.1
        graphs.append(counters["stats"]["unique_graphs"])
    assert graphs[0] == graphs[1] > 0, "a second call of one shape compiles nothing"
    assert len(set(graphs)) <= 2, "one code for the usual batch, one for all others"
