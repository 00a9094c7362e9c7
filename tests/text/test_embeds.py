"""Encoded prompts in a file: a round trip, and every way in which a file can be wrong."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from tests.text.saved import save_embeds
from tileup.contracts import Encoded
from tileup.errors import ModelError, UsageError
from tileup.text.embeds import read_embeds


def encoded(seed: int, length: int = 5) -> Encoded:
    torch.manual_seed(seed)
    return Encoded(torch.randn(1, length, 8), torch.randn(1, 3))


def same(first: Encoded | None, second: Encoded | None) -> bool:
    assert first is not None
    assert second is not None
    assert first.pooled is not None
    assert second.pooled is not None
    return torch.equal(first.tokens, second.tokens) and torch.equal(first.pooled, second.pooled)


def test_what_is_saved_is_read(tmp_path: Path) -> None:
    prompt, negative = encoded(0), encoded(1)
    save_embeds(tmp_path / "a.safetensors", prompt, negative)
    read = read_embeds(tmp_path / "a.safetensors", cfg=5, features=8, pooled=3)
    assert same(read[0], prompt)
    assert same(read[1], negative)
    assert not same(read[0], negative)


def test_without_guidance_no_negative_is_returned(tmp_path: Path) -> None:
    save_embeds(tmp_path / "a.safetensors", encoded(0), encoded(1))
    assert read_embeds(tmp_path / "a.safetensors", cfg=1)[1] is None
    save_embeds(tmp_path / "a.safetensors", encoded(0))
    prompt, negative = read_embeds(tmp_path / "a.safetensors", cfg=1)
    assert torch.equal(prompt.tokens, encoded(0).tokens)
    assert prompt.pooled is None
    assert negative is None


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_rows_may_be_left_out_and_precision_is_free(tmp_path: Path, dtype: torch.dtype) -> None:
    tokens, pooled = torch.randn(5, 8).to(dtype), torch.randn(3).to(dtype)
    save_file({"prompt_embeds": tokens, "pooled_prompt_embeds": pooled}, tmp_path / "a.safetensors")
    prompt, _ = read_embeds(tmp_path / "a.safetensors", cfg=1, features=8, pooled=3)
    assert prompt.tokens.dtype == torch.float32
    assert torch.equal(prompt.tokens, tokens.float()[None])
    assert prompt.pooled is not None
    assert torch.equal(prompt.pooled, pooled.float()[None])


GOOD = {
    "prompt_embeds": torch.ones(5, 8),
    "pooled_prompt_embeds": torch.ones(3),
    "negative_prompt_embeds": torch.ones(5, 8),
    "negative_pooled_prompt_embeds": torch.ones(3),
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompt_embeds": torch.ones(8)}, r"prompt_embeds must be \(n, d\).*got \(8\)"),
        ({"prompt_embeds": torch.ones(2, 5, 8)}, r"must be .*got \(2, 5, 8\)"),
        ({"prompt_embeds": torch.ones(0, 8)}, r"must be .*got \(0, 8\)"),
        ({"prompt_embeds": torch.ones(5, 7)}, "is 7 wide, but this model takes 8"),
        ({"prompt_embeds": torch.full((5, 8), math.nan)}, "not finite"),
        ({"negative_prompt_embeds": torch.full((5, 8), math.inf)}, "negative.* not finite"),
        ({"prompt_embeds": torch.ones(5, 8, dtype=torch.int32)}, "int32"),
        ({"negative_prompt_embeds": torch.ones(6, 8)}, r"differ in shape, \(1, 5, 8\) and"),
        ({"pooled_prompt_embeds": torch.ones(2, 3)}, r"must be \(d\)"),
        ({"pooled_prompt_embeds": torch.ones(4)}, "4 wide, but this model takes 3"),
        ({"prompt_embeds": None}, "prompt_embeds is missing; it has negative_"),
        ({"pooled_prompt_embeds": None}, "pooled_prompt_embeds is missing"),
        ({"negative_pooled_prompt_embeds": None}, "negative_pooled_prompt_embeds is missing"),
    ],
)
def test_wrong_tensors_are_named(
    tmp_path: Path, change: dict[str, Tensor | None], message: str
) -> None:
    path = tmp_path / "a.safetensors"
    save_file(GOOD, path)
    assert read_embeds(path, cfg=2, features=8, pooled=3)[1] is not None
    changed = {name: tensor for name, tensor in (GOOD | change).items() if tensor is not None}
    save_file(changed, path)
    with pytest.raises(ModelError, match=message):
        read_embeds(path, cfg=2, features=8, pooled=3)


def test_guidance_without_a_negative_is_a_matter_of_usage(tmp_path: Path) -> None:
    save_embeds(tmp_path / "a.safetensors", encoded(0))
    with pytest.raises(UsageError, match=r"no negative_prompt_embeds, which cfg 7\.5 needs"):
        read_embeds(tmp_path / "a.safetensors", cfg=7.5)


def test_a_whole_checkpoint_is_refused_in_a_short_sentence(tmp_path: Path) -> None:
    save_file({f"block.{n}.weight": torch.ones(1) for n in range(900)}, tmp_path / "a.safetensors")
    with pytest.raises(ModelError, match="prompt_embeds is missing") as refused:
        read_embeds(tmp_path / "a.safetensors", cfg=1)
    assert "and 897 more" in str(refused.value)
    assert len(str(refused.value)) < 300 + len(str(tmp_path))


@pytest.mark.parametrize("content", [b"", b"<html>", b"\x80\x04pickle", b"\xff" * 100])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.safetensors").write_bytes(content)
    with pytest.raises(ModelError, match="cannot be read"):
        read_embeds(tmp_path / "a.safetensors", cfg=1)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be read"):
        read_embeds(tmp_path / "a.safetensors", cfg=1)
    with pytest.raises(ModelError, match="cannot be read"):
        read_embeds(tmp_path, cfg=1)
