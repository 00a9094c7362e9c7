"""Weights, rows, clip-skip and embeddings in features, held against transformers' own networks.

The formulas are those that A1111 ("Original") and ComfyUI state, written down anew here:

    a1111:   z' = w z * mean(z) / mean(w z), over all of a row of 77
    comfyui: z' = e + w (z - e), with e of the row of an empty text
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.checkpoints.layouts.text import clip_l, open_clip
from tests.text import references
from tests.text.test_families import CLIP_G, CLIP_L, LAYERS, PARTS, RECIPES, T5, give
from tileup.contracts import Encoded
from tileup.errors import ModelError
from tileup.text.embeddings import Embedding
from tileup.text.encoder import TextEncoder, load_text
from tileup.text.prompt_context import PromptContext
from tileup.text.tokens import CLIP_END, CLIP_START, clip_ids

STYLES = ("a1111", "comfyui")


def encoder(family: str, style: str = "a1111", **more: Any) -> TextEncoder:  # noqa: ANN401
    return load_text(RECIPES[family], PARTS, context=PromptContext(style, **more))


def row(parts: Sequence[tuple[str, float]], padding: int) -> tuple[list[int], list[float]]:
    """Tokens and weights of one row of 77."""
    ids, weights = [CLIP_START], [1.0]
    for text, weight in parts:
        new = clip_ids(text)
        ids += new
        weights += [weight] * len(new)
    ids += [CLIP_END] + [padding] * (76 - len(ids))
    return ids, weights + [1.0] * (77 - len(weights))


def features(
    model: nn.Module, rows: Sequence[Sequence[int]], layer: int, *, normed: bool
) -> Tensor:
    with torch.no_grad():
        output = model(torch.tensor(rows), output_hidden_states=True)
    hidden = output.hidden_states[-layer]
    if not normed:
        return hidden
    inner = getattr(model, "text_model", model)
    with torch.no_grad():
        return inner.final_layer_norm(hidden)


def weighted(style: str, z: Tensor, weights: Sequence[float], empty: Tensor) -> Tensor:
    w = torch.tensor(weights)[:, None]
    if style == "comfyui":
        return empty + w * (z - empty)
    return z * w * z.mean() / (z * w).mean()


PROMPTS: dict[str, dict[str, list[list[tuple[str, float]]]]] = {
    "a (red:1.3) cat": {style: [[("a ", 1), ("red", 1.3), (" cat", 1)]] for style in STYLES},
    "((cat)) sat": {style: [[("cat", 1.21), (" sat", 1)]] for style in STYLES},
    "[blue] sky": {
        "a1111": [[("blue", 1 / 1.1), (" sky", 1)]],
        "comfyui": [[("[blue] sky", 1)]],
    },
    r"a \(film\) (still:0.7)": {style: [[("a (film) ", 1), ("still", 0.7)]] for style in STYLES},
    "(a (b:1.5):1.2)": {
        "a1111": [[("a ", 1.2), ("b", 1.8)]],
        "comfyui": [[("a ", 1.2), ("b", 1.5)]],
    },
    "a (cat:1.2) BREAK (a dog:0.8)": {
        style: [[("a ", 1), ("cat", 1.2)], [("a dog", 0.8)]] for style in STYLES
    },
}


def expected(
    model: nn.Module, style: str, rows: list[list[tuple[str, float]]], padding: int, layer: int,
    *, normed: bool,
) -> Tensor:  # fmt: skip
    empty = features(model, [row([], padding)[0]], layer, normed=normed)[0]
    made = []
    for parts in rows:
        ids, weights = row(parts, padding)
        made.append(
            weighted(style, features(model, [ids], layer, normed=normed)[0], weights, empty)
        )
    return torch.cat(made)


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("prompt", PROMPTS)
def test_prompts_of_sd1_are_weighted_as_each_program_does(prompt: str, style: str) -> None:
    wanted = expected(
        references.clip_l_model(CLIP_L, LAYERS), style, PROMPTS[prompt][style], CLIP_END, 1,
        normed=True,
    )  # fmt: skip
    found, _ = encoder("sd1", style).encode(prompt)
    assert found.tokens.shape == (1, *wanted.shape)
    assert (found.tokens[0] - wanted).abs().max() < 1e-4 * wanted.abs().max()
    if style != "comfyui" or "[" not in prompt:
        plain, _ = load_text(RECIPES["sd1"], PARTS, context=PromptContext("none")).encode(prompt)
        assert plain.tokens.shape != wanted[None].shape or (
            (plain.tokens[0] - wanted).norm() / wanted.norm() > 0.05
        )


@pytest.mark.parametrize("style", STYLES)
def test_both_encoders_of_sdxl_are_weighted_each_by_itself(style: str) -> None:
    prompt = "a (red:1.3) cat"
    rows = PROMPTS[prompt][style]
    first = references.clip_l_model(CLIP_L, LAYERS)
    second = references.open_clip_model(CLIP_G, LAYERS)
    wanted = torch.cat(
        [
            expected(first, style, rows, CLIP_END, 2, normed=False),
            expected(second, style, rows, 0, 2, normed=False),
        ],
        dim=1,
    )
    found, _ = encoder("sdxl", style).encode(prompt)
    assert (found.tokens[0] - wanted).abs().max() < 1e-4 * wanted.abs().max()
    plain, _ = encoder("sdxl", style).encode("a red cat")
    assert found.pooled is not None
    assert plain.pooled is not None
    assert torch.equal(found.pooled, plain.pooled)  # weights leave the whole text alone


def same(first: Encoded, second: Encoded) -> bool:
    return torch.equal(first.tokens, second.tokens)


@pytest.mark.parametrize("style", STYLES)
def test_weights_of_one_change_nothing(style: str) -> None:
    one = encoder("sd1", style)
    assert same(one.encode("a (red:1) cat")[0], one.encode("a red cat")[0])
    assert same(one.encode(r"a \(red\) cat")[0], encoder("sd1", "none").encode("a (red) cat")[0])


@pytest.mark.parametrize("style", STYLES)
def test_negative_prompts_are_weighted_too_and_rows_are_made_equal(style: str) -> None:
    one = encoder("sd1", style)
    prompt, negative = one.encode("a cat BREAK a dog", "(blurry:1.4)")
    assert negative is not None
    assert prompt.tokens.shape == negative.tokens.shape == (1, 154, 64)
    alone, _ = one.encode("(blurry:1.4)")
    assert torch.equal(negative.tokens[:, :77], alone.tokens)
    assert torch.equal(negative.tokens[:, 77:], one.encode("")[0].tokens)


def test_what_is_read_plainly_is_told_once(caplog: pytest.LogCaptureFixture, tmp_path: Any) -> None:  # noqa: ANN401
    tokenizer = references.save_t5_tokenizer(tmp_path / "tokenizer.json")
    parts = {**PARTS, "t5": give(T5)}
    one = load_text(RECIPES["flux-dev"], parts, tokenizer=tokenizer)
    plain, _ = one.encode("a red cat")
    assert caplog.messages == []
    found, _ = one.encode("a (red:1.3) cat", "[a (cat)]")
    assert caplog.messages == [
        "weights in a prompt, as in (red:1.3), are left out where T5 or a language model"
        " reads it: these take plain text"
    ]
    assert same(plain, found)
    assert torch.equal(plain.pooled, found.pooled)  # type: ignore[arg-type]


def test_networks_that_a_prompt_asks_for_are_no_text(caplog: pytest.LogCaptureFixture) -> None:
    one = encoder("sd1", loras=frozenset({"known"}))
    plain, _ = one.encode("a cat")
    assert same(one.encode("a <lora:known:1> cat")[0], plain)
    assert caplog.messages == []
    for _ in range(2):
        assert same(one.encode("a <lora:other:1> cat")[0], plain)
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith("<lora:other:1> in a prompt is left out")
    one.encode("a cat <hypernet:known:1>")
    assert len(caplog.messages) == 2


def test_what_would_change_on_the_way_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    one = encoder("sd1")
    for _ in range(2):
        assert same(one.encode("a [cat:dog:0.5]")[0], one.encode("a dog")[0])
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith("[cat:dog:0.5] in a prompt would change on the way")


@pytest.mark.parametrize(("skip", "layer"), [(1, 1), (2, 2), (3, 3), (None, 1)])
def test_clip_skip_counts_layers_from_the_end(skip: int | None, layer: int) -> None:
    """1 is the last layer, 2 the one before it, as A1111 and ComfyUI (-1, -2) count."""
    model = references.clip_l_model(CLIP_L, LAYERS)
    ids, _ = row([("a cat", 1)], CLIP_END)
    wanted = features(model, [ids], layer, normed=True)
    found, _ = encoder("sd1", clip_skip=skip).encode("a cat")
    assert (found.tokens - wanted).abs().max() < 1e-5


def test_clip_skip_is_that_of_diffusers_and_leaves_the_whole_text_alone() -> None:
    """diffusers counts layers that are left out beside what SDXL leaves out itself."""
    pipe = references.diffusers.StableDiffusionXLPipeline(
        text_encoder=references.clip_l_model(CLIP_L, LAYERS),
        text_encoder_2=references.open_clip_model(CLIP_G, LAYERS),
        tokenizer=references.clip_tokenizer("<|endoftext|>"),
        tokenizer_2=references.clip_tokenizer("!"),
        scheduler=references.scheduler(flow=False),
        add_watermarker=False,
        vae=None,
        unet=None,
    )
    with torch.no_grad():
        tokens, _, pooled, _ = pipe.encode_prompt(
            "a cat", device="cpu", clip_skip=1, do_classifier_free_guidance=False
        )
    found, _ = encoder("sdxl", clip_skip=3).encode("a cat")
    assert found.pooled is not None
    assert (found.tokens - tokens).abs().max() < 1e-5
    assert (found.pooled - pooled).abs().max() < 1e-5
    usual, _ = encoder("sdxl").encode("a cat")
    assert same(usual, encoder("sdxl", clip_skip=2).encode("a cat")[0])
    assert not same(usual, found)


def test_clip_skip_in_sd2_with_and_without_its_last_layer() -> None:
    original = open_clip(128, LAYERS, seed=5)
    folder = references.sd2_model(original, LAYERS).state_dict()

    def made(tensors: Mapping[str, Tensor], skip: int) -> Tensor:
        parts = {"clip_h": give(tensors)}
        one = load_text(RECIPES["sd2"], parts, context=PromptContext(clip_skip=skip))
        return one.encode("a cat")[0].tokens

    for skip in (2, 3):
        assert (made(original, skip) - made(folder, skip)).abs().max() < 1e-5
    with pytest.raises(ModelError, match=r"clip-skip 1 cannot be: .* without its last one"):
        made(folder, 1)


def test_layers_that_are_not_there_are_refused() -> None:
    with pytest.raises(ModelError, match=r"clip-skip 4 cannot be: .* but 3 in all"):
        encoder("sd1", clip_skip=LAYERS + 1).encode("a cat")


def test_clip_skip_of_flux_is_said_to_do_nothing(
    caplog: pytest.LogCaptureFixture,
    tmp_path: Any,  # noqa: ANN401
) -> None:
    tokenizer = references.save_t5_tokenizer(tmp_path / "tokenizer.json")
    load_text(RECIPES["flux-dev"], PARTS, tokenizer=tokenizer, context=PromptContext(clip_skip=2))
    assert "clip-skip has no effect" in caplog.text


def with_vectors(tensors: Mapping[str, Tensor], vectors: Tensor) -> dict[str, Tensor]:
    """CLIP-L with further tokens at the end of its table."""
    name = "text_model.embeddings.token_embedding.weight"
    return {**tensors, name: torch.cat([tensors[name], vectors])}


def enlarged(vectors: Tensor) -> nn.Module:
    """transformers' CLIP-L with a larger vocabulary."""
    tensors = with_vectors(CLIP_L, vectors)
    width = tensors["text_model.final_layer_norm.weight"].shape[0]
    config = references.clip_config(width, LAYERS, "quick_gelu", width)
    config.vocab_size = 49408 + len(vectors)
    model = references.transformers.CLIPTextModel(config)
    named = {name: each for name, each in tensors.items() if "position_ids" not in name}
    if not hasattr(model, "text_model"):
        named = {name.removeprefix("text_model."): each for name, each in named.items()}
    model.load_state_dict(named)
    return model.eval()


VECTORS = torch.randn(3, 64, generator=torch.Generator().manual_seed(7))
CAT = Embedding("My-Cat", {"": VECTORS})


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("weight", [1.0, 1.3])
def test_an_embedding_stands_for_its_vectors(style: str, weight: float) -> None:
    """As if its vectors were tokens of a larger vocabulary, in transformers' own network."""
    ids = [CLIP_START, *clip_ids("a photo of"), 49408, 49409, 49410, *clip_ids(", sharp")]
    weights = [1.0] * 4 + [weight] * 3 + [1.0] * 70
    ids += [CLIP_END] * (77 - len(ids))
    model = enlarged(VECTORS)
    empty = features(model, [row([], CLIP_END)[0]], 1, normed=True)[0]
    plain = features(model, [ids], 1, normed=True)[0]
    wanted = weighted(style, plain, weights, empty) if weight != 1 else plain
    one = encoder("sd1", style, embeddings={"my-cat": CAT})
    found, _ = one.encode(f"a photo of (embedding:my-cat:{weight}), sharp")
    assert (found.tokens[0] - wanted).abs().max() < 1e-4 * wanted.abs().max()
    bare, _ = one.encode(f"a photo of (My-Cat:{weight}), sharp")
    assert same(bare, found) == (style == "a1111")


def test_an_embedding_that_only_a_prompt_names_is_looked_up(
    caplog: pytest.LogCaptureFixture,
) -> None:
    asked: list[str] = []

    def find(name: str) -> Embedding | None:
        asked.append(name)
        return CAT if name == "cat.v2" else None

    one = encoder("sd1", find=find)
    found, _ = one.encode("a embedding:cat.v2")
    given, _ = encoder("sd1", embeddings={"my-cat": CAT}).encode("a my-cat")
    assert same(found, given)
    assert caplog.messages == []
    for _ in range(2):
        assert same(one.encode("a embedding:gone")[0], one.encode("a ")[0])
    assert caplog.messages == [
        "embedding:gone is left out: no folder of TILEUP_MODELS holds its file"
    ]


def test_an_embedding_of_sdxl_has_vectors_for_each_encoder(
    caplog: pytest.LogCaptureFixture,
) -> None:
    wide = torch.randn(3, 128, generator=torch.Generator().manual_seed(8))
    both = Embedding("x", {"clip_l": VECTORS, "clip_g": wide})
    found, _ = encoder("sdxl", embeddings={"x": both}).encode("a x")
    plain, _ = encoder("sdxl").encode("a ")
    assert caplog.messages == []
    sides = found.tokens.split([64, 128], dim=-1)
    halves = plain.tokens.split([64, 128], dim=-1)
    # and one for the first encoder alone acts there alone, which is said
    one, _ = encoder("sdxl", embeddings={"x": CAT}).encode("a embedding:x")
    assert "embedding:x has nothing for CLIP-G: its vectors are 64 wide" in caplog.text
    assert torch.equal(one.tokens[..., :64], sides[0])
    assert torch.equal(one.tokens[..., 64:], halves[1])
    assert not torch.equal(sides[0], halves[0])
    assert not torch.equal(sides[1], halves[1])


def test_an_embedding_of_another_model_is_refused() -> None:
    other = Embedding("x", {"": torch.zeros(2, 1280)})
    with pytest.raises(ModelError, match="x belongs to another model: its vectors are 1280 wide"):
        encoder("sd1", embeddings={"x": other})


def test_an_embedding_works_in_half_precision_and_twice() -> None:
    one = load_text(
        RECIPES["sd1"],
        PARTS,
        dtype=torch.bfloat16,
        context=PromptContext(embeddings={"my-cat": CAT}),
    )
    first, _ = one.encode("a my-cat")
    again, _ = one.encode("a dog and a my-cat")
    exact, _ = encoder("sd1", embeddings={"my-cat": CAT}).encode("a my-cat")
    assert 0 < (first.tokens - exact.tokens).norm() / exact.tokens.norm() < 0.05
    assert not same(first, again)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_embedding_stands_beside_words_of_8_bits(dtype: torch.dtype) -> None:
    """It keeps its own precision, whatever the file's is."""
    matrices = {name: each.ndim == 2 for name, each in CLIP_L.items()}
    eight = {
        name: each.to(torch.float8_e4m3fn) if matrices[name] and "position" not in name else each
        for name, each in CLIP_L.items()
    }
    wide = {
        name: each.float() if each.is_floating_point() else each for name, each in eight.items()
    }
    made = [
        load_text(
            RECIPES["sd1"], {"clip_l": give(each)}, dtype=dtype,
            context=PromptContext(embeddings={"my-cat": CAT}),
        ).encode("a (my-cat:1.2)")[0].tokens
        for each in (eight, wide)
    ]  # fmt: skip
    assert (made[0] - made[1]).norm() < 0.03 * made[1].norm()


def test_the_vocabulary_of_the_file_stays_as_it_is() -> None:
    tensors = clip_l(64, LAYERS)
    before = {name: each.clone() for name, each in tensors.items()}
    parts = {"clip_l": give(tensors)}
    load_text(RECIPES["sd1"], parts, context=PromptContext(embeddings={"my-cat": CAT})).encode(
        "my-cat"
    )
    assert all(torch.equal(before[name], each) for name, each in tensors.items())
