"""Files, shards, folders and pickles open as one value; what is in them is never run."""

from __future__ import annotations

import argparse
import json
import os
import pickle
import shutil
import sys
import types
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import ClassVar

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tests.checkpoints import headers
from tests.checkpoints.headers import save_head
from tileup.checkpoints.find import identified, identify
from tileup.errors import ModelError
from tileup.tensors.checkpoint import open_checkpoint
from tileup.tensors.packed import unpacked


def _tensors() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "net.a.weight": torch.randn(3, 5, generator=generator).half(),
        "net.b.weight": torch.randn(7, generator=generator),
        "other": torch.randn(2, generator=generator).bfloat16(),
        "net.tiny": torch.randn(4, 4, generator=generator).to(torch.float8_e4m3fn),
        "net.wide": torch.randn(4, generator=generator).to(torch.float8_e5m2),
    }


def _sharded(folder: Path, tensors: dict[str, torch.Tensor], stem: str = "model") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    places: dict[str, str] = {}
    names = sorted(tensors)
    for number, part in enumerate((names[::2], names[1::2]), 1):
        shard = f"{stem}-0000{number}-of-00002.safetensors"
        save_file({name: tensors[name] for name in part}, folder / shard)
        places |= dict.fromkeys(part, shard)
    index = folder / f"{stem}.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": places}))
    return index


def _safetensors(folder: Path) -> Path:
    save_file(_tensors(), folder / "m.safetensors")
    return folder / "m.safetensors"


def _index(folder: Path) -> Path:
    return _sharded(folder, _tensors())


def _folder_of_shards(folder: Path) -> Path:
    return _sharded(folder / "shards", _tensors()).parent


def _pickle(folder: Path) -> Path:
    torch.save({"state_dict": _tensors(), "global_step": 7, "epoch": 1}, folder / "m.ckpt")
    return folder / "m.ckpt"


def _bare_pickle(folder: Path) -> Path:
    torch.save(_tensors(), folder / "pytorch_model.bin")
    return folder / "pytorch_model.bin"


def _old_pickle(folder: Path) -> Path:
    path = folder / "m.pt"  # older than 8-bit precisions, which it cannot hold
    old = {name: tensor for name, tensor in _tensors().items() if tensor.element_size() > 1}
    torch.save({"state_dict": old}, path, _use_new_zipfile_serialization=False)
    return path


FORMS = [_safetensors, _index, _folder_of_shards, _pickle, _bare_pickle, _old_pickle]


@pytest.mark.parametrize("write", FORMS)
def test_every_form_gives_the_same_tensors(tmp_path: Path, write: Callable[[Path], Path]) -> None:
    checkpoint = open_checkpoint(write(tmp_path))
    expected = _tensors()
    if write is _old_pickle:
        del expected["net.tiny"], expected["net.wide"]
    assert {name: info.shape for name, info in checkpoint.tensors.items()} == {
        name: tuple(tensor.shape) for name, tensor in expected.items()
    }
    dtypes = {name: info.dtype for name, info in checkpoint.tensors.items()}
    known = {
        "net.a.weight": "F16",
        "net.b.weight": "F32",
        "other": "BF16",
        "net.tiny": "F8_E4M3",
        "net.wide": "F8_E5M2",
    }
    assert dtypes == {name: known[name] for name in expected}
    read = checkpoint.state_dict()
    assert read.keys() == expected.keys()
    for name, tensor in expected.items():
        assert read[name].dtype == tensor.dtype
        assert torch.equal(read[name].float(), tensor.float())
    inner = {name.removeprefix("net.") for name in expected if name.startswith("net.")}
    assert checkpoint.state_dict("net.").keys() == inner
    assert {"a.weight", "b.weight"} <= inner
    assert checkpoint.state_dict("nothing.") == {}
    for name in ("net.a.weight", "net.b.weight", "other"):
        values = checkpoint.values(name)
        assert values is not None
        assert (values == expected[name].float().numpy()).all()
    assert checkpoint.values("nothing") is None


def test_digests_tell_files_apart(tmp_path: Path) -> None:
    one = open_checkpoint(_safetensors(tmp_path)).digest()
    assert one == open_checkpoint(_safetensors(tmp_path)).digest()
    shards = open_checkpoint(_index(tmp_path)).digest()
    assert len(one) == len(shards) == 64
    assert one != shards


def test_the_two_formats_are_told_by_content_and_not_by_name(tmp_path: Path) -> None:
    shutil.copy(_safetensors(tmp_path), tmp_path / "a.ckpt")
    shutil.copy(_pickle(tmp_path), tmp_path / "b.safetensors")
    for name in ("a.ckpt", "b.safetensors"):
        assert open_checkpoint(tmp_path / name).tensors.keys() == _tensors().keys()


class Malicious:
    """When unpickled by plain pickle, it makes a folder."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_pickle_is_refused_and_not_run(tmp_path: Path, zipped: bool) -> None:
    mark = tmp_path / "mark"
    content = {"state_dict": {"a": torch.ones(2)}, "callbacks": Malicious(mark)}
    path = tmp_path / "evil.ckpt"
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ModelError, match="could run foreign code: refused") as caught:
        open_checkpoint(path)
    assert "mkdir" in str(caught.value)
    assert str(path) in str(caught.value)
    assert not mark.exists()
    torch.load(path, weights_only=False)
    assert mark.exists(), "the code was there to be run"


def test_a_plain_pickle_with_code_is_refused_and_not_run(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    (tmp_path / "evil.pt").write_bytes(pickle.dumps(Malicious(mark)))
    with pytest.raises(ModelError, match=r"pickle"):
        open_checkpoint(tmp_path / "evil.pt")
    assert not mark.exists()
    pickle.loads((tmp_path / "evil.pt").read_bytes())
    assert mark.exists()


LIGHTNING = "pytorch_lightning.callbacks.model_checkpoint"


class Tracked:
    """Has the name of a class of Lightning's; making one, or filling it, leaves a mark."""

    __module__ = LIGHTNING
    __qualname__ = "ModelCheckpoint"
    made: ClassVar[list[str]] = []

    def __init__(self) -> None:
        self.best = "x"
        self.made.append("made")

    def __setstate__(self, state: object) -> None:
        self.made.append("filled")


class TrackedDict(dict[str, int]):
    """The same for what is filled with entries."""

    __module__ = LIGHTNING
    __qualname__ = "AttributeDict"


@pytest.mark.parametrize("zipped", [True, False])
def test_what_a_trainer_left_beside_the_tensors_is_passed_over_and_not_run(
    tmp_path: Path, zipped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Callbacks by their classes, settings and figures, as Lightning's checkpoints have them."""
    module = types.ModuleType(LIGHTNING)
    for kind in (Tracked, TrackedDict):
        setattr(module, kind.__qualname__, kind)
    for part in ("pytorch_lightning", "pytorch_lightning.callbacks"):
        monkeypatch.setitem(sys.modules, part, types.ModuleType(part))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    content = {
        "state_dict": {"a": torch.ones(2)},
        "callbacks": {Tracked: {"best": np.float64(3)}, "other": Tracked()},
        "hyper_parameters": TrackedDict(rank=4),
        "settings": argparse.Namespace(rate=1e-4, path=PurePosixPath("x")),
    }
    path = tmp_path / "trained.ckpt"
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    Tracked.made.clear()
    read = open_checkpoint(path).state_dict()
    assert read.keys() == {"a"}
    assert torch.equal(read["a"], torch.ones(2))
    assert Tracked.made == []
    torch.load(path, weights_only=False)
    assert Tracked.made == ["filled"], "the code was there to be run"
    (tmp_path / "mark").mkdir()
    torch.save(content | {"more": Malicious(tmp_path / "evil")}, path)
    with pytest.raises(ModelError, match=r"asks for \w+\.mkdir, so reading it could run"):
        open_checkpoint(path)


def _cut(path: Path) -> Path:
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    return path


@pytest.mark.parametrize("write", [_pickle, _old_pickle, _safetensors])
def test_a_cut_file_is_refused(tmp_path: Path, write: Callable[[Path], Path]) -> None:
    with pytest.raises(ModelError) as caught:
        open_checkpoint(_cut(write(tmp_path)))
    assert "\n" not in str(caught.value)


def test_a_pickle_without_tensors_is_refused(tmp_path: Path) -> None:
    for content in (3, [torch.zeros(2)], {"a": 1}, {"state_dict": {"a": "b"}}, {}):
        torch.save(content, tmp_path / "m.pt")
        with pytest.raises(ModelError, match="without tensors that have names"):
            open_checkpoint(tmp_path / "m.pt")


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    index = _index(tmp_path)
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(ModelError, match=r"lacks 1 of its 2 shards.*model-00002-of-00002"):
        open_checkpoint(index)


def test_a_shard_of_another_download_is_told(tmp_path: Path) -> None:
    index = _index(tmp_path)
    save_file({"x": torch.zeros(2)}, tmp_path / "model-00002-of-00002.safetensors")
    with pytest.raises(ModelError, match="different downloads"):
        open_checkpoint(index)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"weight_map": {}}',
        '{"weight_map": [1]}',
        '{"weight_map": {"a": "../m.safetensors"}}',
        '{"weight_map": {"a": "/etc/passwd"}}',
        '{"weight_map": {"a": ".."}}',
        '{"weight_map": {"a": 3}}',
        '{"weight_map": {"a": "bad\\u0000name"}}',
        "[" * 100_000,
    ],
)
def test_a_wrong_index_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "model.safetensors.index.json"
    path.write_text(text)
    with pytest.raises(ModelError):
        open_checkpoint(path)


def test_a_shard_alone_is_refused(tmp_path: Path) -> None:
    shapes = headers.sd1_file()
    half = dict(sorted(shapes.items())[: len(shapes) // 8])
    path = save_head(tmp_path / "model-00001-of-00002.safetensors", half)
    with pytest.raises(ModelError):
        identify(path)


def _diffusers_unet(context: int, vector: int | None = None) -> headers.Shapes:
    """The few names of diffusers' UNet that decide, and a few more."""
    shapes = headers.conv("conv_in", 32, 4) | headers.conv("conv_out", 4, 32)
    for level in range(4):
        if level < 3:
            shapes |= headers.conv(f"down_blocks.{level}.downsamplers.0.conv", 32, 32)
    for side in ("down_blocks.0", "up_blocks.3"):
        for place in range(3):
            block = f"{side}.attentions.{place}"
            shapes |= headers.linear(f"{block}.proj_in", 32, 32)
            name = f"{block}.transformer_blocks.0"
            shapes |= {f"{name}.attn2.to_k.weight": (32, context), f"{name}.norm1.bias": (32,)}
    shapes |= {"mid_block.attentions.0.transformer_blocks.0.norm1.bias": (32,)}
    return shapes | (headers.linear("add_embedding.linear_1", 128, vector) if vector else {})


def _folder(
    path: Path, part: str, shapes: headers.Shapes, scheduler: Mapping[str, object] | None = None
) -> Path:
    save_head(path / part / "diffusion_pytorch_model.safetensors", shapes)
    save_head(path / "vae" / "diffusion_pytorch_model.fp16.safetensors", headers.vae())
    save_head(path / "text_encoder" / "model.safetensors", headers.clip())
    (path / "model_index.json").write_text('{"_class_name": "X"}')
    (path / part / "config.json").write_text("{}")
    if scheduler is not None:
        (path / "scheduler").mkdir()
        (path / "scheduler" / "scheduler_config.json").write_text(json.dumps(scheduler))
    return path


@pytest.mark.parametrize(
    ("scheduler", "expected"),
    [
        ({"prediction_type": "epsilon"}, ("eps", 512)),
        ({"prediction_type": "v_prediction"}, ("v", 768)),
        ({"prediction_type": "sample"}, ("x0", 512)),
    ],
)
def test_a_folder_of_diffusers_is_told_by_tensors_and_scheduler(
    tmp_path: Path, scheduler: dict[str, object], expected: tuple[str, int]
) -> None:
    path = _folder(tmp_path / "my.model", "unet", _diffusers_unet(1024), scheduler)
    known = identified(path)
    assert known.found is not None
    assert (known.found.prefix, known.found.layout) == ("unet.", "diffusers")
    assert (known.spec.name, known.spec.family) == ("my.model", "sd2")
    assert (known.spec.prediction, known.spec.window) == expected
    assert known.spec.multiple == 64
    names = known.checkpoint.state_dict("vae.").keys()
    assert names == headers.vae().keys()
    assert known.checkpoint.state_dict("text_encoder.").keys() == headers.clip().keys()


def test_a_folder_tells_zero_snr(tmp_path: Path) -> None:
    scheduler = {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True}
    spec = identify(_folder(tmp_path, "unet", _diffusers_unet(2048, 2816), scheduler))
    assert (spec.family, spec.prediction) == ("sdxl", "v")
    assert spec.levels.sigma_max == pytest.approx(4518.77, abs=0.01)


@pytest.mark.parametrize(
    "scheduler",
    [
        {"_class_name": "EDMDPMSolverMultistepScheduler"},
        {"prediction_type": "edm"},
        {"beta_schedule": "squaredcos_cap_v2", "prediction_type": "epsilon"},
        {"beta_start": "a", "prediction_type": "epsilon"},
        {"beta_end": 1e-5, "beta_start": 1e-2, "prediction_type": "epsilon"},
        {"num_train_timesteps": True, "prediction_type": "epsilon"},
    ],
)
def test_a_scheduler_that_cannot_be_followed_is_refused(
    tmp_path: Path, scheduler: dict[str, object]
) -> None:
    path = _folder(tmp_path, "unet", _diffusers_unet(768), scheduler)
    if scheduler.get("beta_end") == 1e-5:  # betas may fall; their products do not
        assert identify(path).family == "sd1"
        return
    with pytest.raises(ModelError, match=r"scheduler|noise"):
        identify(path)


def test_transformers_in_folders(tmp_path: Path) -> None:
    flux = headers.linear("x_embedder", 64, 64) | headers.linear("context_embedder", 64, 4096)
    flux |= headers.linear("single_transformer_blocks.0.attn.to_q", 64, 64)
    flux |= headers.linear("time_text_embed.text_embedder.linear_1", 64, 768)
    path = _folder(tmp_path / "schnell", "transformer", flux)
    assert identify(path).family == "flux-schnell"
    guided = headers.linear("time_text_embed.guidance_embedder.linear_1", 64, 256)
    path = _folder(tmp_path / "dev", "transformer", flux | guided)
    assert identify(path).family == "flux-dev"
    sd3 = headers.conv("pos_embed.proj", 64, 16, 2) | headers.linear("context_embedder", 64, 4096)
    sd3 |= headers.linear("transformer_blocks.0.attn.add_k_proj", 64, 64)
    path = _folder(tmp_path / "sd3", "transformer", sd3, {"shift": 2.5})
    spec = identify(path)
    assert spec.family == "sd3"
    assert spec.levels.sigma(torch.tensor([0.5]).numpy())[0] == pytest.approx(2.5, rel=2e-3)


def test_shards_in_a_folder_of_diffusers(tmp_path: Path) -> None:
    path = _folder(tmp_path, "unet", _diffusers_unet(768))
    (path / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    tensors = {name: torch.zeros(shape) for name, shape in _diffusers_unet(768).items()}
    _sharded(path / "unet", tensors, "diffusion_pytorch_model")
    known = identified(path)
    assert known.spec.family == "sd1"
    assert known.checkpoint.state_dict("unet.").keys() == tensors.keys()


def test_a_folder_without_a_network_is_refused(tmp_path: Path) -> None:
    path = _folder(tmp_path, "unet", _diffusers_unet(768))
    shutil.rmtree(path / "unet")
    with pytest.raises(ModelError, match="neither unet/ nor transformer/"):
        identify(path)
    with pytest.raises(ModelError, match="is a folder without a checkpoint"):
        open_checkpoint(_empty(tmp_path))


def _empty(folder: Path) -> Path:
    (folder / "empty").mkdir()
    return folder / "empty"


def test_a_folder_with_several_models_asks_which(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_head(tmp_path / f"{name}.safetensors", headers.sd1_file())
    with pytest.raises(ModelError, match=r"several checkpoints \(a.safetensors, b.safetensors\)"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize("scale", [torch.tensor(0.5), torch.tensor([0.5]), torch.rand(4)])
@pytest.mark.parametrize("end", ["scale_weight", "weight_scale"])
def test_scaled_8_bit_weights_become_numbers(tmp_path: Path, scale: torch.Tensor, end: str) -> None:
    stored = torch.randn(4, 6).to(torch.float8_e4m3fn)
    save_file(
        {
            "net.a.weight": stored,
            f"net.a.{end}": scale,
            "net.a.scale_input": torch.ones(1),
            "net.a.bias": torch.ones(4),
            "net.scaled_fp8": torch.zeros(2).to(torch.float8_e4m3fn),
        },
        tmp_path / "m.safetensors",
    )
    read = open_checkpoint(tmp_path / "m.safetensors").state_dict("net.")
    assert read.keys() == {"a.weight", "a.bias"}
    rows = scale if scale.numel() == 1 else scale[:, None]
    expected = stored.double() * rows.double()
    torch.testing.assert_close(unpacked(read["a.weight"].double()), expected, rtol=1e-6, atol=0)
    assert expected.abs().max() > 0.1


def _private() -> int:
    """Memory of this process that no file backs, bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise AssertionError


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's figures")
@pytest.mark.parametrize("form", ["safetensors", "ckpt"])
def test_tensors_are_mapped_and_not_copied(tmp_path: Path, form: str) -> None:
    path = tmp_path / f"m.{form}"
    tensors = {f"t{number}": torch.ones(1 << 22) for number in range(16)}  # 256 MiB
    if form == "ckpt":
        torch.save(tensors, path)
    else:
        save_file(tensors, path)
    del tensors
    size = path.stat().st_size
    before = _private()
    read = open_checkpoint(path).state_dict()
    assert sum(float(tensor.sum()) for tensor in read.values()) == 16 << 22
    assert size > 250e6
    assert _private() - before < 0.1 * size
