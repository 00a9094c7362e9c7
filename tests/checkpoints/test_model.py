"""Checkpoints of latent families from file to picture: every part acts, and with weight 0 does not.

The files are small and random, in the original layouts; so the pictures are noise, and what is
held against one another is how they come about.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from tests.checkpoints import whole
from tests.checkpoints.layouts.control import sd1_controlnet
from tests.checkpoints.layouts.lora import changes, kohya_lora, layers_of
from tests.doubles import photograph
from tests.text.references import save_t5_tokenizer
from tests.text.saved import save_embeds
from tileup.checkpoints.load import load_model
from tileup.checkpoints.model import DiffusionModel, Offloader, OffloadGroup
from tileup.contracts import Model
from tileup.errors import ModelError, UsageError
from tileup.images.reading import open_picture
from tileup.model_settings import resolve_with_model
from tileup.settings.values import Settings
from tileup.upscaling import upscale_picture

SMALL = {
    "device": "cpu",
    "dtype": "float32",
    "window": 64,
    "overlap": 16,
    "tile": 64,
    "min_tile": 32,
    "steps": 2,
    "max_denoise": 0.6,
    "color_fix": "none",
}
SIDES = 32, 40
"""Two windows beside one another, enlarged."""
Pixels = NDArray[np.float32]


@pytest.fixture(scope="module")
def sd1(shelf: whole.Shelf) -> Path:
    return shelf.path("sd1")


def settings_for(path: Path, **more: object) -> Settings:
    return resolve_with_model(flags={**SMALL, "model": str(path), **more}).settings


def drawn(model: Model, settings: Settings) -> Pixels:
    return upscale_picture(open_picture(photograph(*SIDES)), model, settings).picture.pixels


@pytest.fixture(scope="module")
def made(sd1: Path) -> Callable[..., Pixels]:
    """The picture that a checkpoint makes with settings; what was made before is remembered, and
    the model that nothing was added to."""
    known: dict[str, Pixels] = {}
    plain = load_model(sd1, settings_for(sd1))

    def make(**more: object) -> Pixels:
        key = repr(sorted(more.items()))
        if key not in known:
            settings = settings_for(sd1, **more)
            added = more.keys() - OF_A_PICTURE or "<" in settings.prompt
            known[key] = drawn(load_model(sd1, settings) if added else plain, settings)
        return known[key]

    return make


OF_A_PICTURE = {"prompt", "negative", "cfg", "batch", "color_fix"}
"""Settings that a loaded model knows nothing of; but prompts may name files."""


def distance(one: Pixels, other: Pixels) -> float:
    return float(np.abs(one - other).max())


def test_a_picture_comes_out_and_its_tones_can_be_kept(made: Callable[..., Pixels]) -> None:
    source = open_picture(photograph(*SIDES)).pixels.mean(axis=(0, 1))
    plain, toned = made(), made(color_fix="wavelet")
    assert plain.shape == (2 * SIDES[0], 2 * SIDES[1], 3)
    assert plain.std() > 0.05
    kept, lost = (np.abs(each.mean(axis=(0, 1)) - source).max() for each in (toned, plain))
    assert kept < 0.05 < lost, "random weights keep no tones"


def test_prompts_act_and_a_negative_only_with_guidance(made: Callable[..., Pixels]) -> None:
    plain = made(cfg=1.0)
    assert distance(plain, made(cfg=1.0, prompt="a red boat")) > 1e-3
    assert distance(plain, made(cfg=1.0, negative="a red boat")) == 0
    guided = made(cfg=4.0)
    assert distance(guided, plain) > 1e-3
    assert distance(guided, made(cfg=4.0, negative="a red boat")) > 1e-3


def test_encoded_prompts_take_the_place_of_the_encoder(
    made: Callable[..., Pixels], sd1: Path, tmp_path: Path
) -> None:
    settings = settings_for(sd1)
    model = load_model(sd1, settings)
    assert isinstance(model, DiffusionModel)
    path = tmp_path / "prompt.safetensors"
    prompt, negative = model.reader.encode(settings.prompt, settings.negative)
    save_embeds(path, prompt, negative)
    bare = whole.save(
        tmp_path / "bare.safetensors",
        {k: v for k, v in whole.sd1().items() if not k.startswith("cond_stage_model.")},
    )
    with pytest.raises(ModelError, match=r"CLIP-L \(--clip-l\).*--prompt-embeds"):
        load_model(bare, settings)
    told = replace(settings, prompt_embeds=str(path))
    assert distance(drawn(load_model(bare, told), told), made()) < 1e-5
    save_embeds(path, prompt)
    with pytest.raises(UsageError, match="no negative_prompt_embeds"):
        load_model(bare, told)


def test_a_control_acts_as_strongly_and_as_long_as_it_is_told(
    made: Callable[..., Pixels], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("control") / "tile.safetensors"
    save_file({f"control_model.{k}": v for k, v in sd1_controlnet().items()}, path)
    plain, control = made(), {"control": str(path)}
    acting = made(**control)
    assert distance(acting, plain) > 1e-3
    assert distance(made(**control, control_scale=0.5), acting) > 1e-3
    assert distance(made(**control, control_end=0.5), acting) > 1e-3
    assert distance(made(**control, control_scale=0.0), plain) == 0
    assert distance(made(**control, control_end=0.0), plain) == 0


def test_loras_act_with_their_weights(
    made: Callable[..., Pixels], sd1: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    model = load_model(sd1, settings_for(sd1))
    assert isinstance(model, DiffusionModel)
    (network,) = model.part.modules()
    layers = {k: v for k, v in layers_of(network).items() if "attn" in k}
    assert len(layers) > 20
    folder = tmp_path_factory.mktemp("lora")
    unet, text = str(folder / "unet.safetensors"), str(folder / "text.safetensors")
    save_file(kohya_lora(changes(layers)), unet)
    encoder = {f"text_model.encoder.layers.0.self_attn.{k}_proj": (768, 768) for k in "qkv"}
    save_file(kohya_lora(changes(encoder, seed=6), "lora_te_"), text)
    plain = made()
    one, other = made(lora=(f"{unet}:0.1",)), made(lora=(text,))
    assert distance(one, plain) > 1e-3
    assert distance(other, plain) > 1e-4
    both = made(lora=(f"{unet}:0.1", text))
    assert min(distance(both, one), distance(both, other)) > 1e-4
    assert distance(made(lora=(f"{unet}:0", f"{text}:0")), plain) == 0


def test_a_prompt_asks_for_a_lora_as_the_flag_does(
    made: Callable[..., Pixels],
    sd1: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    encoder = {f"text_model.encoder.layers.0.self_attn.{k}_proj": (768, 768) for k in "qkv"}
    lora = tmp_path / "some thing.safetensors"
    save_file(kohya_lora(changes(encoder, seed=6), "lora_te_"), lora)
    monkeypatch.setenv("TILEUP_MODELS", str(tmp_path))
    asked = made(prompt="a cat <lora:some thing:0.5>")
    assert caplog.messages == []
    assert distance(asked, made(prompt="a cat", lora=(f"{lora}:0.5",))) == 0
    plain = made(prompt="a cat")
    assert distance(asked, plain) > 1e-4
    assert distance(made(prompt="a cat <lora:gone:1>"), plain) == 0
    assert any("<lora:gone:1> in a prompt is left out" in each for each in caplog.messages)
    # a loaded model keeps what it was loaded with, and says so
    settings = settings_for(sd1, prompt="a cat")
    model = load_model(sd1, settings)
    caplog.clear()
    told = replace(settings, prompt="a cat <lora:some thing:0.5>")
    assert distance(drawn(model, told), plain) == 0
    assert any("some thing:0.5> in a prompt is left out" in each for each in caplog.messages)


def test_embeddings_clip_skip_and_weights_act(
    made: Callable[..., Pixels], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors = torch.randn(2, 768, generator=torch.Generator().manual_seed(3))
    path = tmp_path / "my-cat.pt"
    torch.save({"string_to_param": {"*": vectors}, "string_to_token": {"*": 265}}, path)
    plain = made(prompt="a ")
    given = made(prompt="a my-cat", embedding=(str(path),))
    assert distance(given, plain) > 1e-4
    monkeypatch.setenv("TILEUP_MODELS", str(tmp_path))
    assert distance(made(prompt="a embedding:my-cat"), given) == 0
    heavy = made(prompt="a (my-cat:1.5)", embedding=(str(path),))
    assert distance(heavy, given) > 1e-4
    assert distance(heavy, made(prompt="a (my-cat:1.5)", embedding=("my-cat",))) == 0
    other = made(prompt="a (embedding:my-cat:1.5)", emphasis="comfyui")
    assert distance(other, heavy) > 1e-4
    assert distance(made(prompt="a ", clip_skip=1), plain) == 0
    with pytest.raises(ModelError, match="clip-skip 2 cannot be"):  # the file has one layer
        made(prompt="a ", clip_skip=2)


def test_an_embedding_inside_a_lora_is_known_by_its_name(
    made: Callable[..., Pixels], tmp_path: Path
) -> None:
    vectors = torch.randn(2, 768, generator=torch.Generator().manual_seed(3))
    alone, inside = tmp_path / "my-cat.safetensors", tmp_path / "lora.safetensors"
    save_file({"emb_params": vectors}, alone)
    encoder = {f"text_model.encoder.layers.0.self_attn.{k}_proj": (768, 768) for k in "qkv"}
    weights = kohya_lora(changes(encoder, seed=6), "lora_te_")
    save_file(weights | {"bundle_emb.my-cat.clip_l": vectors}, inside)
    found = made(prompt="a my-cat", lora=(f"{inside}:0",))
    assert distance(found, made(prompt="a my-cat", embedding=(str(alone),))) == 0
    assert distance(found, made(prompt="a my-cat")) > 1e-4


def test_a_file_that_is_no_embedding_is_refused(sd1: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    save_file({"a": torch.zeros(2, 768), "b": torch.zeros(2, 768)}, other)
    with pytest.raises(ModelError, match=r"other\.safetensors is no embedding"):
        load_model(sd1, settings_for(sd1, embedding=(str(other),)))


def test_memory_and_tiles_of_the_vae_change_no_picture(made: Callable[..., Pixels]) -> None:
    assert distance(made(low_memory=True), made()) == 0
    assert distance(made(vae_tile=64), made(vae_tile=512)) < 2e-5
    assert distance(made(batch=1), made(batch=3)) < 1e-5


def test_a_vae_of_another_family_is_refused(
    made: Callable[..., Pixels], sd1: Path, tmp_path: Path
) -> None:
    wide = tmp_path / "vae.safetensors"
    save_file(whole.vae_state_dict(32, 16, quant=False), wide)
    with pytest.raises(ModelError, match="VAE with 16 latent channels"):
        load_model(sd1, settings_for(sd1, vae=str(wide)))
    other = tmp_path / "other.safetensors"
    save_file(whole.vae_state_dict(32, seed=3), other)
    settings = settings_for(sd1, vae=str(other))
    assert (
        distance(
            drawn(load_model(sd1, settings), settings),
            made(),
        )
        > 1e-3
    )


def test_flags_for_parts_that_a_family_lacks_are_pointed_out(
    sd1: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    load_model(sd1, settings_for(sd1))
    assert not caplog.messages
    load_model(sd1, settings_for(sd1, clip_g=str(tmp_path / "g"), tokenizer=str(tmp_path)))
    assert [each.split()[0] for each in caplog.messages] == ["--clip-g", "--tokenizer"]


def in_parts(shelf: whole.Shelf, name: str, folder: Path) -> dict[str, object]:
    """The settings that name a model's files, with T5's tokenizer, which is written to a folder."""
    tokenizer = save_t5_tokenizer(folder / "tokenizer.json")
    parts = {part: str(path) for part, path in shelf.parts(name).items()}
    return {"model": parts.pop("network"), "tokenizer": str(tokenizer), **parts}


FLOWS = {"sd3": "sd3", "flux-dev": "flux", "flux-schnell": "flux-schnell"}
"""Models by family."""


@pytest.mark.parametrize("family", FLOWS)
def test_transformers_with_their_parts_in_files_of_their_own(
    family: str, shelf: whole.Shelf, tmp_path: Path
) -> None:
    given = in_parts(shelf, FLOWS[family], tmp_path)
    found = resolve_with_model(flags={**SMALL, **given})
    assert found.spec.family == family
    plain = drawn(load_model(found.model, found.settings), found.settings)
    assert plain.shape == (2 * SIDES[0], 2 * SIDES[1], 3)
    assert np.isfinite(plain).all()
    assert plain.std() > 0.02
    worded = replace(found.settings, prompt="a red boat on a lake")
    assert distance(drawn(load_model(found.model, worded), worded), plain) > 1e-4
    told = replace(found.settings, guidance=1.0)
    changed = distance(drawn(load_model(found.model, told), told), plain)
    assert changed > 1e-4 if family == "flux-dev" else changed == 0
    needed = [name for name in given if name not in ("model", "t5" if family == "sd3" else "")]
    lacking = replace(found.settings, **dict.fromkeys(needed))
    with pytest.raises(ModelError) as refused:
        load_model(found.model, lacking)
    for name in needed:
        if name != "tokenizer":  # T5's own is there
            assert f"--{name.replace('_', '-')}" in str(refused.value)


def test_sd3_goes_without_t5(shelf: whole.Shelf, tmp_path: Path) -> None:
    given = in_parts(shelf, "sd3", tmp_path)
    del given["t5"], given["tokenizer"]
    found = resolve_with_model(flags={**SMALL, **given})
    assert np.isfinite(drawn(load_model(found.model, found.settings), found.settings)).all()


def test_with_little_memory_only_one_part_is_on_the_device() -> None:
    class Module(torch.nn.Module):
        place = "cpu"

        def to(self, device: str) -> Module:  # type: ignore[override]
            self.place = device
            return self

    modules = [Module() for _ in range(3)]
    network, vae = (
        OffloadGroup(lambda: modules[:2], "there"),
        OffloadGroup(lambda: modules[2:], "there"),
    )
    turns = Offloader(alone=True)
    for part, expected in (
        (network, ["there", "there", "cpu"]),
        (vae, ["cpu", "cpu", "there"]),
        (None, ["cpu", "cpu", "cpu"]),
        (network, ["there", "there", "cpu"]),
    ):
        turns.of(part)
        assert [module.place for module in modules] == expected
    together = Offloader(alone=False)
    together.of(vae)
    assert [module.place for module in modules] == ["there", "there", "cpu"], "nothing is moved"
