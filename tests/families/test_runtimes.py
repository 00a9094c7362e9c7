"""What computes the bundled networks: ncnn gives what torch gives, to rounding, and is chosen where
it is faster and right."""

from __future__ import annotations

import logging
import mmap
import platform
import sys
import tempfile
from collections.abc import Callable, Generator
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.checkpoints.small import small_network, vivid_network
from tests.cli.forked import SERVER
from tests.doubles import scene_of
from tileup.checkpoints.find import find_model, identified
from tileup.checkpoints.given import refuse_runtime
from tileup.checkpoints.load import load_model, way_of_bundled
from tileup.contracts import Box
from tileup.errors import ModelError, UsageError
from tileup.families import in_ncnn, runtimes
from tileup.families.bundled import BundledModel
from tileup.families.in_int8 import exact
from tileup.families.in_ncnn import NETS, InNcnn
from tileup.families.residual_unet import Remembering, ResidualUNet
from tileup.families.runtimes import GAIN, faster_rounded, faster_runtime, pick_runtime
from tileup.settings.values import Settings

ROUNDING = 2e-6
"""Of a range of 2: four times what was found with the shipped networks."""


needs_integers = pytest.mark.skipif(not exact(), reason="this CPU adds products of 8 bits wrongly")


def by_chance(
    network: ResidualUNet, rows: int, height: int, width: int
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Noisy windows, their source, and conditions where the network has any."""
    chance = torch.Generator().manual_seed(height)
    channels = network.leave.out_channels
    source = 2 * torch.rand(rows, channels, height, width, generator=chance) - 1
    x = source + 0.1 * torch.randn(source.shape, generator=chance)
    told = network.enter.in_channels - 2 * channels
    return x, source, torch.rand(rows, told, height, width, generator=chance) if told else None


@pytest.fixture(scope="module")
def shipped() -> BundledModel:
    model = load_model(None, Settings(device="cpu", dtype="float32"))
    assert isinstance(model, BundledModel)
    return model


@pytest.mark.parametrize("size", [(4, 4), (12, 8), (8, 60), (40, 36), (72, 72)], ids=str)
@pytest.mark.parametrize("name", ["first", "texture", "JPEG"])
def test_the_shipped_networks_are_those_of_torch(
    shipped: BundledModel, name: str, size: tuple[int, int]
) -> None:
    assert shipped.vivid is not None
    assert shipped.deblocking is not None
    network = {
        "first": shipped.network,
        "texture": shipped.vivid.network,
        "JPEG": shipped.deblocking.network,
    }[name]
    in_ncnn = InNcnn(network)
    x, source, conditions = by_chance(network, 1, *size)
    for level in (0.008, 0.7):
        sigma = torch.tensor([level])
        with torch.no_grad():
            expected = network(x, sigma, source, conditions)
        found = in_ncnn(x, sigma, source, conditions)
        torch.testing.assert_close(found, expected, atol=ROUNDING, rtol=0)
        assert (found - source).abs().max() > 1000 * ROUNDING, "it draws something"


@pytest.mark.parametrize("network", [small_network(), vivid_network()], ids=["plain", "told"])
def test_other_architectures_are_read_too(network: ResidualUNet) -> None:
    """Blocks at the finest resolution, widths that fill no register, and weights in full."""
    for parameter in network.parameters():
        parameter.add_(0.05 * torch.randn_like(parameter))
    sigma = torch.tensor([0.3])
    for dtype in (torch.float32, torch.float64):
        x, source, conditions = by_chance(network, 2, 16, 24)
        x = x.to(dtype)
        with torch.no_grad():
            expected = network(x, sigma, source.to(dtype), conditions)
        found = InNcnn(network)(x, sigma, source.to(dtype), conditions)
        assert found.dtype == dtype
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_a_window_is_the_same_to_the_bit_whatever_is_beside_it() -> None:
    """Also in the memory layout of a canvas, of which windows are parts."""
    network = small_network()
    x, source, _ = by_chance(network, 3, 16, 24)
    sigma, in_ncnn = torch.tensor([0.2]), InNcnn(network)
    together = in_ncnn(x, sigma, source)
    layout = torch.channels_last
    assert torch.equal(
        in_ncnn(x.contiguous(memory_format=layout), sigma, source.contiguous(memory_format=layout)),
        together,
    )
    for row in range(3):
        only = slice(row, row + 1)
        assert torch.equal(in_ncnn(x[only], sigma, source[only])[0], together[row])


def test_what_is_kept_of_noise_levels_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[float] = []
    of = in_ncnn._Net.of

    def counted(network: ResidualUNet, sigma: Tensor) -> object:
        built.append(float(sigma))
        return of(network, sigma)

    monkeypatch.setattr(in_ncnn._Net, "of", counted)
    network = small_network()
    x, source, _ = by_chance(network, 1, 8, 8)
    kept = InNcnn(network)
    levels = torch.linspace(0.01, 0.7, NETS + 2).split(1)
    for level in [*levels, *reversed(levels), *levels]:
        with torch.no_grad():
            expected = network(x, level, source)
        torch.testing.assert_close(kept(x, level, source), expected, atol=1e-5, rtol=0)
    assert len(levels) < len(built) < 3 * len(levels) - NETS


def levels_grow(told: Connection) -> None:
    """Tells how many bytes more a process holds after each of five noise levels."""

    def held() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE

    model = load_model(None, Settings(device="cpu", dtype="float32"))
    assert isinstance(model, BundledModel)
    x, source, _ = by_chance(model.network, 1, 72, 264)
    kept, grown = InNcnn(model.network), list[int]()
    kept(x, torch.tensor([0.7]), source)
    for level in torch.linspace(0.1, 0.6, 5).split(1):
        before = held()
        kept(x, level, source)
        grown.append(held() - before)
    told.send(grown)


@pytest.mark.skipif(sys.platform != "linux", reason="others count in other units")
def test_a_noise_level_takes_the_memory_that_is_told() -> None:
    """Some 40 MB, a window of the largest size included: what ncnn works in is shared. In a process
    of its own, as what tests before have freed would be taken first."""
    here, there = SERVER.Pipe()
    running = SERVER.Process(target=levels_grow, args=(there,))
    running.start()
    assert here.poll(60)
    grown = here.recv()
    running.join()
    assert 20e6 < sum(grown) / len(grown) < 45e6


def test_where_there_is_no_room_for_its_weights_torch_does_the_work(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    network = small_network()
    x, source, _ = by_chance(network, 1, 8, 8)
    monkeypatch.setattr(tempfile, "tempdir", "/dev/null/nowhere")
    kept = InNcnn(network)
    for level in torch.tensor([0.2, 0.3]).split(1):
        with torch.no_grad():
            assert torch.equal(kept(x, level, source), Remembering(network)(x, level, source))
    (told,) = caplog.messages
    assert "torch computes the network" in told


def test_ncnn_out_of_memory_is_out_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """It says so by a number: what it returns for a name that no layer has stands for it here."""
    network = small_network()
    x, source, _ = by_chance(network, 1, 8, 8)
    kept, sigma = InNcnn(network), torch.tensor([0.2])
    net = kept._at(sigma)
    object.__setattr__(net, "end", "nothing")
    with pytest.raises(MemoryError, match="ncnn stopped"):
        kept(x, sigma, source)


Takes = Callable[..., None]
"""Says what torch, ncnn and, where it is asked for, int8 take."""


@pytest.fixture
def takes(monkeypatch: pytest.MonkeyPatch, own_cache: None) -> Generator[Takes]:
    """A machine with a cache folder of its own."""

    def say(by_torch: float, by_ncnn: float, in_int8: float = 9.0) -> None:
        faster_runtime.cache_clear()
        faster_rounded.cache_clear()
        times = {"torch": by_torch, "ncnn": by_ncnn, "int8": in_int8}
        monkeypatch.setattr(runtimes, "seconds", lambda ways: {name: times[name] for name in ways})  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType, reportUnknownVariableType]

    yield say
    faster_runtime.cache_clear()
    faster_rounded.cache_clear()


def test_auto_takes_the_faster_one_timed_once(
    takes: Takes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    takes(1.0, 0.8)
    assert pick_runtime("auto", "cpu", torch.float32) == "ncnn"
    assert caplog.messages == ["a network takes 1 s by torch, 0.8 s by ncnn"]
    takes(0.5, 0.8)
    assert pick_runtime("auto", "cpu", torch.float32) == "ncnn", "as noted"
    assert pick_runtime("torch", "cpu", torch.float32) == "torch"


def test_auto_takes_torch_where_that_is_faster(takes: Takes) -> None:
    takes(0.5, 0.8)
    assert pick_runtime("auto", "cpu", torch.float32) == "torch"
    assert pick_runtime("ncnn", "cpu", torch.float32) == "ncnn", "asked for"


@needs_integers
def test_auto_rounds_to_8_bits_where_it_may_and_that_is_much_faster(
    takes: Takes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    takes(1.0, 0.8, 0.9 * GAIN * 0.8)
    assert pick_runtime("auto", "cpu", torch.float32, rounded=True) == "int8"
    assert caplog.messages[-1] == "a network takes 0.8 s by ncnn, 0.65 s in 8 bits"
    assert pick_runtime("auto", "cpu", torch.float32) == "ncnn", "it may not"
    assert pick_runtime("torch", "cpu", torch.float32, rounded=True) == "torch", "asked for"
    takes(1.0, 0.8, 0.8)
    assert pick_runtime("auto", "cpu", torch.float32, rounded=True) == "int8", "as noted"
    (tmp_path / "tileup" / "int8.json").unlink()
    takes(1.0, 0.8, 1.05 * GAIN * 0.8)
    assert pick_runtime("auto", "cpu", torch.float32, rounded=True) == "ncnn"


@needs_integers
def test_what_was_noted_counts_where_sums_are_exact_and_ncnn_is_the_same(
    takes: Takes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine may hide instructions of its CPU, and share the cache folder of one that does not;
    another ncnn may be as fast as integers."""
    takes(1.0, 0.8, 0.5 * GAIN)
    assert pick_runtime("auto", "cpu", torch.float32, rounded=True) == "int8"
    takes(1.0, 0.8)
    with monkeypatch.context() as patch:
        patch.setattr(runtimes, "exact", lambda: False)
        assert pick_runtime("auto", "cpu", torch.float32, rounded=True) == "ncnn"
    takes(1.0, 0.8)
    assert pick_runtime("auto", "cpu", torch.float32, rounded=True) == "int8", "as noted"
    takes(1.0, 0.8)
    monkeypatch.setattr("importlib.metadata.version", lambda name: "2.0")  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType]
    assert pick_runtime("auto", "cpu", torch.float32, rounded=True) == "ncnn"


@needs_integers
def test_a_cpu_that_is_faster_in_bfloat16_is_asked_again(takes: Takes) -> None:
    """There torch computes what is not rounded, and integers have to be faster than that."""
    takes(0.5, 9.0, 0.9 * GAIN * 0.5)
    assert pick_runtime("auto", "cpu", torch.bfloat16, rounded=True) == "int8"
    takes(0.5, 9.0, 1.05 * GAIN * 0.5)
    assert pick_runtime("auto", "cpu", torch.float16, rounded=True) == "torch", "not noted for it"


def test_where_nothing_can_be_noted_every_process_takes_the_same(
    takes: Takes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    (tmp_path / "tileup").write_text("a file")
    for by_torch, by_ncnn in ((1.0, 0.8), (0.8, 1.0)):
        takes(by_torch, by_ncnn)
        assert pick_runtime("auto", "cpu", torch.float32) == "torch"
    assert "cannot be written" in caplog.messages[-1]
    assert pick_runtime("ncnn", "cpu", torch.float32) == "ncnn", "asked for"


@pytest.mark.parametrize(
    ("device", "dtype"), [("cpu", torch.bfloat16), ("cuda:0", torch.float32), ("mps", torch.half)]
)
def test_elsewhere_auto_is_torch_and_nothing_is_timed(
    takes: Takes, tmp_path: Path, device: str, dtype: torch.dtype
) -> None:
    takes(1.0, 0.1)
    assert pick_runtime("auto", device, dtype) == "torch"
    assert not (tmp_path / "tileup").exists()


def test_a_runtime_that_draws_something_else_is_not_taken(
    takes: Takes, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    takes(1.0, 0.1)
    monkeypatch.setattr(runtimes, "NEAR", 0.0)
    assert pick_runtime("auto", "cpu", torch.float32) == "torch"
    assert any(each.startswith("ncnn differs from torch here by") for each in caplog.messages)


def not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ncnn", None)


def no_temporary_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """What Python does in a container that can be read only."""

    def fail() -> str:
        raise FileNotFoundError("No usable temporary directory found")

    monkeypatch.setattr(tempfile, "gettempdir", fail)


def limited(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    resource = pytest.importorskip("resource")
    found = resource.getrlimit

    def limits(number: int) -> tuple[int, int]:
        return (2**40, 2**40) if number == getattr(resource, name) else found(number)

    monkeypatch.setattr(resource, "getrlimit", limits)


def little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """As `ulimit -v` sets it. ncnn does not look whether it got the memory that it asked for."""
    limited(monkeypatch, "RLIMIT_AS")


def small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """As `ulimit -f` sets it."""
    limited(monkeypatch, "RLIMIT_FSIZE")


def a_mac(monkeypatch: pytest.MonkeyPatch) -> None:
    """LLVM's OpenMP ends a process that holds it twice, and the wheel for macOS has it inside."""
    monkeypatch.setattr(platform, "system", lambda: "Darwin")


@pytest.mark.parametrize(
    ("machine", "words"),
    [
        (not_installed, "ncnn is not there, pip install ncnn"),
        (no_temporary_files, "it needs a folder for temporary files"),
        (little_memory, "it ends a process whose memory reaches its limit"),
        (small_files, "its weights go by way of a file"),
        (a_mac, "on macOS it brings an OpenMP of its own"),
    ],
)
def test_where_ncnn_cannot_be_used_torch_does_the_work_and_says_why(
    machine: Callable[[pytest.MonkeyPatch], None],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    machine(monkeypatch)
    assert pick_runtime("auto", "cpu", torch.float32) == "torch"
    assert f"the network is computed by torch: {words}" in caplog.text
    with pytest.raises(UsageError, match=words):
        pick_runtime("ncnn", "cpu", torch.float32)


def test_both_are_really_timed() -> None:
    """A network takes at least what its multiplications take at 10^13 a second."""
    _, _, by_torch, by_ncnn = runtimes._example()
    x, source, _ = by_chance(by_torch.network, 1, 32, 32)
    sigma = torch.tensor([0.1])
    ways = {"torch": lambda: by_torch(x, sigma, source), "ncnn": lambda: by_ncnn(x, sigma, source)}
    assert all(1e-5 < each < 5 for each in runtimes.seconds(ways).values())


def test_what_ncnn_does_not_compute_is_refused() -> None:
    with pytest.raises(UsageError, match="runtime ncnn computes in float32"):
        Settings(runtime="ncnn", dtype="bfloat16")
    with pytest.raises(UsageError, match="runtime ncnn computes on the CPU"):
        pick_runtime("ncnn", "cuda:0", torch.float32)
    with pytest.raises(UsageError, match="runtime"):
        Settings(runtime="onnx")
    with pytest.raises(ModelError, match="--runtime ncnn computes the bundled checkpoint"):
        refuse_runtime(Settings(runtime="ncnn"), Path("sdxl.safetensors"))
    with pytest.raises(ModelError, match="--runtime int8 computes the bundled checkpoint"):
        refuse_runtime(Settings(runtime="int8"), Path("sdxl.safetensors"))
    refuse_runtime(Settings(), Path("sdxl.safetensors"))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (Settings(runtime="ncnn"), "float32 by ncnn"),
        (Settings(dtype="bfloat16"), "bfloat16 by torch"),
        pytest.param(Settings(runtime="int8"), "integers of 8 bits", marks=needs_integers),
    ],
    ids=["ncnn", "bfloat16", "int8"],
)
def test_one_line_says_how_a_network_is_computed(
    settings: Settings, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    way_of_bundled(identified(find_model(None)), settings, "cpu")
    assert caplog.messages == [f"the network computes in {words}"]


def test_a_model_says_what_computes_it() -> None:
    source = torch.rand(1, 12, 16, 16) * 2 - 1
    x, window, level = source + 0.1, [Box(0, 0, 16, 16)], torch.tensor([0.2])
    drawn: dict[str, Tensor] = {}
    for runtime in ("torch", "ncnn", *(["int8"] if exact() else [])):
        model = load_model(None, Settings(device="cpu", runtime=runtime))
        assert model.runtime == runtime
        assert runtime == "torch" or model.dtype == torch.float32
        drawn[runtime] = model.denoiser(scene_of(source))(x, level, window).float()
    assert 0 < (drawn["torch"] - drawn["ncnn"]).abs().max() < 0.02, "bfloat16 where that is faster"
    if "int8" in drawn:  # of a picture that is noise, far from what its ranges were found with
        apart = (drawn["int8"] - drawn["ncnn"]).square().mean()
        assert 0 < apart < (drawn["ncnn"] - source).square().mean() / 5
