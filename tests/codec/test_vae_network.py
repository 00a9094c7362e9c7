"""Tensors of both layouts against the original network, and what is refused."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.checkpoints.layouts.vae import vae_state_dict
from tests.codec.ldm import ldm_decode, ldm_encode
from tileup.codec.vae_layout import vae_layout
from tileup.codec.vae_network import EARLIER_NAMES, build_vae, diffusers_tensors
from tileup.errors import ModelError

SMALL = (1, 2)


def built(tensors: dict[str, Tensor]) -> torch.nn.Module:
    layout = vae_layout({name: tuple(each.shape) for name, each in tensors.items()})
    named, origin = diffusers_tensors(tensors, layout)
    return build_vae(named, layout, torch.float32, "cpu", origin)


@pytest.mark.parametrize("quant", [True, False])
@pytest.mark.parametrize("attention", [True, False])
@pytest.mark.parametrize("multipliers", [(1, 2, 4, 4), (1, 2)])
def test_the_network_is_the_original_one(
    quant: bool, attention: bool, multipliers: tuple[int, ...]
) -> None:
    tensors = vae_state_dict(quant=quant, attention=attention, multipliers=multipliers)
    network = built(tensors)
    z, pixels = torch.randn(1, 4, 5, 3), torch.rand(1, 3, 24, 16) * 2 - 1
    torch.testing.assert_close(network.decode(z).sample, ldm_decode(tensors, z))
    mode = network.encode(pixels).latent_dist.mode()
    torch.testing.assert_close(mode, ldm_encode(tensors, pixels))
    assert mode.std() > 0.1


def test_diffusers_own_names_give_the_same_network() -> None:
    """Also those of its first files, and beside tensors that are none of the VAE's."""
    tensors = vae_state_dict(multipliers=SMALL)
    own = built(tensors).state_dict()
    earlier = {new: old for old, new in EARLIER_NAMES.items()}
    first = {
        name.replace(new, old) if "attentions" in name else name: each
        for name, each in own.items()
        for new, old in [next((i for i in earlier.items() if f".{i[0]}." in name), ("", ""))]
    }
    assert sum("proj_attn" in name for name in first) == 4
    z = torch.randn(1, 4, 5, 3)
    for named in (own, first, own | {"loss.logvar": torch.zeros(())}):
        assert torch.equal(built(named).decode(z).sample, built(tensors).decode(z).sample)


def test_tensors_are_taken_as_they_are() -> None:
    """None of the memory is new, except where the precision differs."""
    tensors = vae_state_dict(multipliers=SMALL)
    places = {each.untyped_storage().data_ptr() for each in tensors.values()}
    network = built(tensors)
    assert {each.untyped_storage().data_ptr() for each in network.parameters()} == places


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float8_e4m3fn])
def test_any_stored_precision_is_taken(dtype: torch.dtype) -> None:
    stored = {name: each.to(dtype) for name, each in vae_state_dict(multipliers=SMALL).items()}
    z = torch.randn(1, 4, 5, 3)
    exact = {name: each.float() for name, each in stored.items()}
    torch.testing.assert_close(built(stored).decode(z).sample, ldm_decode(exact, z))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_refused(value: float) -> None:
    tensors = vae_state_dict(multipliers=SMALL)
    tensors["decoder.mid.attn_1.q.weight"][3, 2] = value
    with pytest.raises(ModelError, match=r"decoder\.mid\.attn_1\.q\.weight of the VAE has values"):
        built(tensors)


def test_a_missing_tensor_is_named() -> None:
    tensors = vae_state_dict(multipliers=SMALL)
    del tensors["decoder.mid.block_1.conv1.weight"]
    with pytest.raises(ModelError, match=r"decoder\.mid_block\.resnets\.0\.conv1\.weight"):
        built(tensors)


def test_a_tensor_of_another_shape_is_named() -> None:
    tensors = vae_state_dict(multipliers=SMALL)
    tensors["decoder.mid.block_1.conv1.weight"] = torch.zeros(64, 32, 3, 3)
    with pytest.raises(ModelError, match=r": decoder\.mid\.block_1\.conv1\.weight has shape"):
        built(tensors)


@pytest.mark.parametrize("name", ["decoder.mid.attn_2.q.weight", "encoder.extra", "decoder.x.1.y"])
def test_a_tensor_too_many_is_named(name: str, caplog: pytest.LogCaptureFixture) -> None:
    built(vae_state_dict(multipliers=SMALL) | {name: torch.zeros(1)})
    (message,) = caplog.messages
    assert f"no place for: {name}; they are left out" in message


def test_a_tensor_beside_a_weight_is_refused() -> None:
    name = "decoder.conv_in.weight_scale_inv"
    with pytest.raises(ModelError, match=f"no place for: {name}"):
        built(vae_state_dict(multipliers=SMALL) | {name: torch.zeros(1)})
