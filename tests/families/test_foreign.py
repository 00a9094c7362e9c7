"""Networks of other families are refused by name, in their authors' layout and in diffusers'."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
import torch

from tests.checkpoints import headers
from tests.checkpoints.headers import NET, save_head
from tileup.errors import ExitCode, UnknownCheckpointError
from tileup.families.detection import detect
from tileup.families.foreign import NETWORKS
from tileup.tensors.checkpoint import Checkpoint, open_checkpoint
from tileup.tensors.header import TensorInfo
from tileup.torchvision_shield import shield_torchvision

ROWS = [(name, key) for name, keys in NETWORKS for key in keys]


def refusal(checkpoint: Checkpoint) -> str:
    with pytest.raises(UnknownCheckpointError) as caught:
        detect(checkpoint)
    assert caught.value.exit_code == ExitCode.BAD_MODEL
    return str(caught.value)


@pytest.mark.parametrize(("name", "key"), ROWS, ids=[f"{name}-{key}" for name, key in ROWS])
def test_a_file_with_the_keys_of_another_family_is_refused_by_its_name(
    tmp_path: Path, name: str, key: str
) -> None:
    """Alone, and beside a network that tileup would load; without the key nothing is said of it."""
    words = f"is a model of the family {name}, which tileup cannot load"
    for more in ({}, headers.sd1_file()):
        for prefix in ("", NET, "transformer."):
            path = save_head(tmp_path / "m.safetensors", {prefix + key: (4, 4), **more})
            assert words in refusal(open_checkpoint(path))
    assert detect(open_checkpoint(save_head(tmp_path / "m.safetensors", headers.sd1_file())))
    other = save_head(tmp_path / "m.safetensors", {f"{key}.other": (4, 4)})
    assert "of the family" not in refusal(open_checkpoint(other))


DIFFUSERS = {
    "AceStepTransformer1DModel": "ACE-Step",
    "AuraFlowTransformer2DModel": "AuraFlow",
    "BriaFiboTransformer2DModel": "Bria FIBO",
    "CogVideoXTransformer3DModel": "CogVideoX or CogView",
    "CogView4Transformer2DModel": "CogVideoX or CogView",
    "CosmosTransformer3DModel": "Cosmos",
    "ErnieImageTransformer2DModel": "ERNIE-Image",
    "Flux3Transformer2DModel": "FLUX.3",
    "GlmImageTransformer2DModel": "GLM-Image",
    "HunyuanImageTransformer2DModel": "HunyuanVideo or HunyuanImage",
    "HunyuanVideoTransformer3DModel": "HunyuanVideo or HunyuanImage",
    "Ideogram4Transformer2DModel": "Ideogram 4",
    "Kandinsky3UNet": "Kandinsky",
    "Kandinsky5Transformer3DModel": "Kandinsky 5",
    "Krea2Transformer2DModel": "Krea 2",
    "LTX2VideoTransformer3DModel": "LTX-2",
    "LTXVideoTransformer3DModel": "LTX-Video",
    "MochiTransformer3DModel": "Mochi",
    "NucleusMoEImageTransformer2DModel": "Nucleus-Image",
    "PRXTransformer2DModel": "PRX",
    "PixArtTransformer2DModel": "PixArt",
    "QwenImage21Transformer2DModel": "Qwen-Image 2.1",
    "SanaTransformer2DModel": "Sana",
    "SkyReelsV2Transformer3DModel": "Wan",
    "StableAudio3DiTModel": "Stable Audio",
    "StableAudioDiTModel": "Stable Audio",
    "StableCascadeUNet": "Stable Cascade",
    "WanAnimateTransformer3DModel": "Wan",
    "WanTransformer3DModel": "Wan",
}
"""Networks of diffusers, and the family that their files are said to be of."""
DEPTHS = ("num_layers", "n_layers", "num_text_blocks", "num_visual_blocks", "num_hidden_layers")


@pytest.mark.parametrize("name", DIFFUSERS)
def test_a_network_of_diffusers_is_refused_by_its_name(name: str) -> None:
    """Its tensors by their names and shapes, with one layer of each kind."""
    shield_torchvision()
    import diffusers

    kind = getattr(diffusers, name)
    settings = inspect.signature(kind.__init__).parameters
    shallow = {
        each: 1 for each in DEPTHS if isinstance(getattr(settings.get(each), "default", None), int)
    }
    with torch.device("meta"):
        network = kind(**shallow)
    tensors = {key: TensorInfo("F16", tuple(e.shape)) for key, e in network.state_dict().items()}
    assert len(tensors) > 10
    told = refusal(Checkpoint(Path("m.safetensors"), (), tensors, {}))
    assert f"is a model of the family {DIFFUSERS[name]}, which" in told


def test_kolors_is_told_from_the_unet_that_it_is() -> None:
    """An SDXL with a layer between its language model and its text."""
    shapes = headers.sdxl_file() | {f"{NET}encoder_hid_proj.weight": (2048, 4096)}
    tensors = {key: TensorInfo("F16", shape) for key, shape in shapes.items()}
    assert "of the family Kolors" in refusal(Checkpoint(Path("m"), (), tensors, {}))
