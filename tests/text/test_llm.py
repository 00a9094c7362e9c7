"""Language models as text encoders: their tokenizers, and files that do not fit."""

from __future__ import annotations

import itertools
import json
import unicodedata
from dataclasses import replace
from pathlib import Path

import pytest
import regex
import torch
from torch import Tensor

from tests.checkpoints.layouts.llm import language_model
from tests.text import references
from tileup.errors import ModelError
from tileup.families.qwen_image import BEFORE
from tileup.text.llm import load_llm
from tileup.text.llm_tokens import load_llm_tokenizer, tokenizer_of
from tileup.text.qwen_vocabulary import WORDS, qwen_merges
from tileup.text.recipes import LlmUse
from tileup.text.vocabulary import byte_symbols

USE = LlmUse("qwen3", "Qwen3 4B", "<|im_start|>", "<|im_end|>", 512, (-2,))
TEXTS = (
    "a photo of the cat",
    "IT'S  two   blanks\n\nand 12 345 numbers, don't!\t\r\n tail ",
    "naïve café, Å vs A\u030a, 猫, 👍🏽 \u200b",
    "<|im_start|>marks <think> inside</think> <|endoftext|>",
    "",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return references.save_qwen_tokenizer(tmp_path_factory.mktemp("qwen"))


def test_three_files_and_one_give_the_tokens_of_transformers(folder: Path, tmp_path: Path) -> None:
    theirs = references.qwen_tokenizer(folder)
    theirs.backend_tokenizer.save(str(tmp_path / "tokenizer.json"))
    for path in (folder, tmp_path, tmp_path / "tokenizer.json"):
        ours = load_llm_tokenizer(path)
        for text in TEXTS:
            assert ours.ids(text) == theirs(text, add_special_tokens=False)["input_ids"], text
        assert ours.id("<|im_end|>") == theirs.convert_tokens_to_ids("<|im_end|>")
    inside = tmp_path / "model"
    (inside / "tokenizer").mkdir(parents=True)
    (tmp_path / "tokenizer.json").rename(inside / "tokenizer" / "tokenizer.json")
    assert load_llm_tokenizer(inside).ids("cat") == load_llm_tokenizer(folder).ids("cat")


KNOWN = {
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n": [
        *(151644, 8948, 198, 2610, 525, 264, 10950, 17847, 13, 151645, 198, 151644, 872, 198),
    ],
    "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n": [
        *(151645, 198, 151644, 77091, 198, 151667, 271, 151668, 271),
    ],
}
"""As Qwen3's own tokenizer has them."""


def test_qwens_tokenizer_comes_with_tileup() -> None:
    """Its numbers are published ones; what Qwen-Image leaves out is 34 tokens in its pipeline."""
    three, two = tokenizer_of(USE, None), tokenizer_of(replace(USE, model="qwen2"), None)
    for text, ids in KNOWN.items():
        assert three.ids(text) == ids
    assert len(two.ids(BEFORE)) == 34
    assert two.ids("<think>") != [151667]
    assert (three.id("</think>"), two.id("<|file_sep|>")) == (151668, 151664)
    with pytest.raises(ModelError, match="needs its tokenizer: give tokenizer"):
        tokenizer_of(replace(USE, model="mistral"), None)


@pytest.mark.parametrize("text", [text for text in TEXTS if "<|" not in text])
def test_the_shipped_tokenizer_joins_the_pair_that_comes_first(text: str) -> None:
    """Written down anew: of all neighbours the pair with the lowest number, until none is left."""
    rank = {pair: number for number, pair in enumerate(qwen_merges())}
    symbols = byte_symbols()
    # Bytes in the order in which these stand for them.
    order = [ord(each) for each in symbols if ord(each) < 256]
    order += [byte for byte in range(256) if byte not in order]
    shown = dict(zip(order, symbols, strict=True))
    tokens = [*symbols, *(a + b for a, b in qwen_merges())]
    number = {token: index for index, token in enumerate(tokens)}
    normal = unicodedata.normalize("NFC", text)
    expected: list[int] = []
    for word in regex.findall(WORDS, normal):
        parts = [shown[byte] for byte in word.encode()]
        while pairs := [pair for pair in itertools.pairwise(parts) if pair in rank]:
            best = min(pairs, key=rank.__getitem__)
            at = [*itertools.pairwise(parts)].index(best)
            parts[at : at + 2] = ["".join(best)]
        expected += [number[part] for part in parts]
    assert tokenizer_of(USE, None).ids(text) == expected


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("vocab.json", "[]"),
        ("vocab.json", "{"),
        ("merges.txt", "one two three"),
        ("merges.txt", "nowhere known"),
        ("added_tokens.json", '{"<|im_start|>": 7000}'),
        ("added_tokens.json", '{"<|im_start|>": "x"}'),
    ],
)
def test_a_damaged_tokenizer_is_refused(
    folder: Path, tmp_path: Path, name: str, content: str
) -> None:
    for each in folder.iterdir():
        (tmp_path / each.name).write_bytes(each.read_bytes())
    load_llm_tokenizer(tmp_path)
    (tmp_path / name).write_text(content)
    with pytest.raises(ModelError, match=r"is damaged, or its files differ; give tokenizer\.json"):
        load_llm_tokenizer(tmp_path)


def test_what_is_no_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="holds no tokenizer"):
        load_llm_tokenizer(tmp_path)
    with pytest.raises(ModelError, match="is not there"):
        load_llm_tokenizer(tmp_path / "none.json")
    t5 = references.save_t5_tokenizer(tmp_path / "tokenizer.json")
    with pytest.raises(ModelError, match="not a language model's tokenizer"):
        load_llm_tokenizer(t5)
    (tmp_path / "odd.json").write_text(json.dumps({"model": {"type": "BPE"}}))
    with pytest.raises(ModelError, match="not a language model's tokenizer"):
        load_llm_tokenizer(tmp_path / "odd.json")
    with pytest.raises(ModelError, match="has no <nothing>"):
        load_llm_tokenizer(references.save_qwen_tokenizer(tmp_path / "q")).id("<nothing>")


def tensors(**options: int | bool) -> dict[str, Tensor]:
    whole = language_model(**options)  # type: ignore[arg-type]
    return {name.removeprefix("model."): each for name, each in whole.items()}


def test_only_the_layers_that_are_read_are_needed() -> None:
    whole = tensors(layers=4)
    row = [5, 6, 7]
    use = LlmUse("qwen3", "Qwen3", "", "", 512, (1, 2))
    found = load_llm(whole, use, dtype=torch.float32, device="cpu")
    pruned = {n: each for n, each in whole.items() if not n.startswith(("layers.2", "layers.3"))}
    del pruned["lm_head.weight"], pruned["norm.weight"]
    again = load_llm(pruned, use, dtype=torch.float32, device="cpu")
    assert torch.equal(found(row), again(row))
    assert found(row).shape == (3, 128)
    last = LlmUse("qwen3", "Qwen3", "", "", 512, (-1,), normed=True)
    normed = load_llm(whole, last, dtype=torch.float32, device="cpu")(row)
    gain = whole["norm.weight"]
    assert torch.allclose((normed / gain).square().mean(-1), torch.ones(3), atol=1e-4)
    with pytest.raises(ModelError, match="of its 2 layers 3 are to be read"):
        load_llm(
            pruned, LlmUse("qwen3", "Qwen3", "", "", 512, (3,)), dtype=torch.float32, device="cpu"
        )


def test_files_that_do_not_fit_are_named() -> None:
    with pytest.raises(ModelError, match="the text encoder is not Qwen3"):
        load_llm(tensors(normed=False), USE, dtype=torch.float32, device="cpu")
    lacking = tensors()
    del lacking["layers.1.mlp.up_proj.weight"]
    with pytest.raises(ModelError, match=r"layers\.1\.mlp\.up_proj\.weight"):
        load_llm(lacking, USE, dtype=torch.float32, device="cpu")
    llm = load_llm(tensors(), USE, dtype=torch.float32, device="cpu")
    with pytest.raises(ModelError, match="knows 420 tokens, but its tokenizer gave number 420"):
        llm([420])
