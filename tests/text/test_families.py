"""What each family takes, held against the text part of its own pipeline in diffusers."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.checkpoints.layouts.text import clip_l, open_clip, t5
from tests.text import references
from tileup.contracts import Encoded
from tileup.errors import ModelError
from tileup.families.table import FAMILIES
from tileup.text import encoder as encoder_module
from tileup.text.encoder import ReadTensors, TextEncoder, load_text
from tileup.text.tokens import clip_ids

diffusers: Any = references.diffusers
"""Its types want more than its pipelines need."""
PROMPT = "A photo of a cat, sharp"
NEGATIVE = "blurry dog"
LAYERS = 3
RECIPES = {family.name: family.text for family in FAMILIES}
CLIP_L = clip_l(64, LAYERS)
CLIP_G = open_clip(128, LAYERS)
T5 = t5(width=256, layers=2, heads=2)


def close(ours: Tensor | None, theirs: Tensor) -> None:
    assert ours is not None
    assert ours.shape == theirs.shape
    assert theirs.std() > 0.1
    assert (ours - theirs).abs().max() <= 1e-5


def give(tensors: Mapping[str, Tensor]) -> ReadTensors:
    return lambda: tensors


PARTS = {"clip_l": give(CLIP_L), "clip_g": give(CLIP_G), "t5": give(T5)}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return references.save_t5_tokenizer(tmp_path_factory.mktemp("t5") / "tokenizer.json")


def components(names: str) -> dict[str, Any]:
    """Arguments of a pipeline that has no network and no VAE."""
    return dict.fromkeys(names.split())


def sd_pipeline(text_encoder: Any, padding: str) -> Any:  # noqa: ANN401
    return diffusers.StableDiffusionPipeline(
        text_encoder=text_encoder,
        tokenizer=references.clip_tokenizer(padding),
        scheduler=references.scheduler(flow=False),
        requires_safety_checker=False,
        **components("vae unet safety_checker feature_extractor"),
    )


def test_sd1() -> None:
    pipe = sd_pipeline(references.clip_l_model(CLIP_L, LAYERS), "<|endoftext|>")
    with torch.no_grad():
        theirs = pipe.encode_prompt(PROMPT, "cpu", 1, True, NEGATIVE)
    prompt, negative = load_text(RECIPES["sd1"], PARTS).encode(PROMPT, NEGATIVE)
    assert negative is not None
    close(prompt.tokens, theirs[0])
    close(negative.tokens, theirs[1])
    assert prompt.pooled is None


def test_sd2() -> None:
    original = open_clip(128, LAYERS, seed=5)
    pipe = sd_pipeline(references.sd2_model(original, LAYERS), "!")
    with torch.no_grad():
        theirs = pipe.encode_prompt(PROMPT, "cpu", 1, True, NEGATIVE)
    prompt, negative = load_text(RECIPES["sd2"], {"clip_h": give(original)}).encode(
        PROMPT, NEGATIVE
    )
    assert negative is not None
    close(prompt.tokens, theirs[0])
    close(negative.tokens, theirs[1])
    assert prompt.pooled is None


def test_sd2_from_a_folder_lacks_the_last_layer_already() -> None:
    original = open_clip(128, LAYERS, seed=5)
    folder = references.sd2_model(original, LAYERS).state_dict()
    parts = {"clip_h": give(original)}, {"clip_h": give(folder)}
    first, second = (load_text(RECIPES["sd2"], each).encode(PROMPT)[0] for each in parts)
    assert (first.tokens - second.tokens).abs().max() < 1e-5


@pytest.mark.parametrize("refiner", [False, True])
def test_sdxl(refiner: bool) -> None:
    pipe = diffusers.StableDiffusionXLPipeline(
        text_encoder=None if refiner else references.clip_l_model(CLIP_L, LAYERS),
        text_encoder_2=references.open_clip_model(CLIP_G, LAYERS),
        tokenizer=None if refiner else references.clip_tokenizer("<|endoftext|>"),
        tokenizer_2=references.clip_tokenizer("!"),
        scheduler=references.scheduler(flow=False),
        add_watermarker=False,
        **components("vae unet"),
    )
    arguments: dict[str, Any] = {"negative_prompt": NEGATIVE, "device": "cpu"}
    with torch.no_grad():
        theirs = pipe.encode_prompt(PROMPT, **arguments)
    family = "sdxl-refiner" if refiner else "sdxl"
    prompt, negative = load_text(RECIPES[family], PARTS).encode(PROMPT, NEGATIVE)
    assert negative is not None
    close(prompt.tokens, theirs[0])
    close(negative.tokens, theirs[1])
    close(prompt.pooled, theirs[2])
    close(negative.pooled, theirs[3])
    assert prompt.tokens.shape == (1, 77, 128 if refiner else 192)


@pytest.mark.parametrize("with_t5", [True, False])
@pytest.mark.parametrize("projection", [None, 96])
def test_sd3(tokenizer: Path, with_t5: bool, projection: int | None) -> None:
    """A projection in CLIP-L's file is not applied: in SD 3's own folder it is the identity."""
    small = clip_l(64, LAYERS, projection=projection)
    plain = {name: each for name, each in small.items() if name != "text_projection.weight"}
    pipe = diffusers.StableDiffusion3Pipeline(
        text_encoder=references.clip_l_projected(plain, LAYERS),
        text_encoder_2=references.open_clip_model(CLIP_G, LAYERS),
        text_encoder_3=references.t5_model(T5, 2, 2) if with_t5 else None,
        tokenizer=references.clip_tokenizer("<|endoftext|>"),
        tokenizer_2=references.clip_tokenizer("!"),
        tokenizer_3=references.t5_tokenizer(tokenizer) if with_t5 else None,
        transformer=diffusers.SD3Transformer2DModel(
            sample_size=8, num_layers=1, attention_head_dim=8, num_attention_heads=1,
            joint_attention_dim=256, caption_projection_dim=8, pooled_projection_dim=8,
        ),
        scheduler=references.scheduler(flow=True),
        vae=None,
    )  # fmt: skip
    with torch.no_grad():
        theirs = pipe.encode_prompt(PROMPT, None, None, negative_prompt=NEGATIVE, device="cpu")
    parts = PARTS | {"clip_l": give(small)}
    if not with_t5:
        del parts["t5"]
    encoder = load_text(
        RECIPES["sd3"], parts, tokenizer=tokenizer if with_t5 else None, features=256
    )
    prompt, negative = encoder.encode(PROMPT, NEGATIVE)
    assert negative is not None
    close(prompt.tokens, theirs[0])
    close(negative.tokens, theirs[1])
    close(prompt.pooled, theirs[2])
    close(negative.pooled, theirs[3])
    assert prompt.tokens.shape == (1, 77 + 256, 256)
    assert with_t5 == bool(prompt.tokens[0, 77:].any())
    assert not torch.equal(prompt.tokens, negative.tokens)


@pytest.mark.parametrize(("family", "length"), [("flux-dev", 512), ("flux-schnell", 256)])
def test_flux(tokenizer: Path, family: str, length: int) -> None:
    pipe = diffusers.FluxPipeline(
        text_encoder=references.clip_l_model(CLIP_L, LAYERS),
        text_encoder_2=references.t5_model(T5, 2, 2),
        tokenizer=references.clip_tokenizer("<|endoftext|>"),
        tokenizer_2=references.t5_tokenizer(tokenizer),
        scheduler=references.scheduler(flow=True),
        **components("vae transformer"),
    )
    with torch.no_grad():
        tokens, pooled, _ = pipe.encode_prompt(
            PROMPT, None, device="cpu", max_sequence_length=length
        )
    prompt, negative = load_text(RECIPES[family], PARTS, tokenizer=tokenizer).encode(PROMPT)
    assert negative is None
    close(prompt.tokens, tokens)
    close(prompt.pooled, pooled)
    assert prompt.tokens.shape == (1, length, 256)


def sd1(**options: Any) -> TextEncoder:  # noqa: ANN401
    return load_text(RECIPES["sd1"], PARTS, **options)


def words(count: int, word: str = "cat") -> str:
    text = " ".join([word] * count)
    assert len(clip_ids(text)) == count
    return text


@pytest.mark.parametrize(
    ("prompt", "negative", "rows"),
    [(0, 0, 1), (75, 0, 1), (76, 0, 2), (0, 76, 2), (150, 3, 2), (151, 76, 3), (10, 151, 3)],
)
def test_prompt_and_negative_are_of_one_length(prompt: int, negative: int, rows: int) -> None:
    encoder = sd1()
    both = encoder.encode(words(prompt), words(negative, "dog"))
    assert both[1] is not None
    assert both[0].tokens.shape == both[1].tokens.shape == (1, 77 * rows, 64)
    alone = {text: encoder.encode(text)[0].tokens for text in ("", words(1), words(75))}
    if prompt > 75:  # the first piece of a long text is read as if it were alone
        assert torch.equal(both[0].tokens[:, :77], alone[words(75)])
    if prompt in (76, 151):
        assert torch.equal(both[0].tokens[:, -77:], alone[words(1)])
    if prompt < 75 < negative:
        assert torch.equal(both[0].tokens[:, 77:154], alone[""])


def test_pooled_is_that_of_the_first_piece() -> None:
    encoder = load_text(RECIPES["sdxl"], PARTS)
    long, short = encoder.encode(words(80))[0], encoder.encode(words(75))[0]
    assert long.tokens.shape == (1, 154, 192)
    assert long.pooled is not None
    assert short.pooled is not None
    assert torch.equal(long.pooled, short.pooled)
    assert not torch.equal(long.pooled, encoder.encode(words(74))[0].pooled)  # type: ignore[arg-type]


@pytest.mark.parametrize("family", ["sd3", "flux-schnell"])
def test_what_does_not_fit_is_cut_and_said_once(
    tokenizer: Path, caplog: pytest.LogCaptureFixture, family: str
) -> None:
    encoder = load_text(RECIPES[family], PARTS, tokenizer=tokenizer)
    encoder.encode(words(60))
    assert caplog.messages == []
    long = encoder.encode(words(1000), words(999, "dog"))
    assert len(caplog.messages) == 2
    assert "longer than CLIP reads: its first 75 tokens count, of 1000" in caplog.text
    assert "longer than T5 reads: its first 255 tokens count, of " in caplog.text
    assert long[0].tokens.shape == encoder.encode("")[0].tokens.shape
    assert long[1] is not None
    assert long[0].pooled is not None
    cut = encoder.encode(words(75))[0].pooled
    assert cut is not None
    assert torch.equal(long[0].pooled, cut)


class Counted:
    """Parts that count how often they are read."""

    def __init__(self, parts: Mapping[str, ReadTensors]) -> None:
        self.read: list[str] = []
        self.parts = {name: self._counting(name, part) for name, part in parts.items()}

    def _counting(self, name: str, part: ReadTensors) -> ReadTensors:
        def read() -> Mapping[str, Tensor]:
            self.read.append(name)
            return part()

        return read


def equal(first: Encoded | None, second: Encoded | None) -> bool:
    if first is None or second is None:
        return first is second
    same = torch.equal(first.tokens, second.tokens)
    if first.pooled is None or second.pooled is None:
        return same and first.pooled is second.pooled
    return same and torch.equal(first.pooled, second.pooled)


def test_each_encoder_is_read_once_for_many_texts(tokenizer: Path) -> None:
    counted = Counted(PARTS)
    encoder = load_text(RECIPES["sd3"], counted.parts, tokenizer=tokenizer)
    assert counted.read == []
    pairs = [("a cat", "bad"), ("a dog", "bad"), ("a cat", None), ("a cat", "bad")]
    results = encoder.encode_all(pairs)
    assert counted.read == ["clip_l", "clip_g", "t5"]
    again = [encoder.encode(*pair) for pair in pairs]
    assert counted.read == ["clip_l", "clip_g", "t5"]
    alone = [load_text(RECIPES["sd3"], PARTS, tokenizer=tokenizer).encode(*pair) for pair in pairs]
    for first, second, third in zip(results, again, alone, strict=True):
        assert all(map(equal, first, second))
        assert all(map(equal, first, third))
    assert not equal(results[0][0], results[1][0])
    encoder.encode("something new")
    assert counted.read == ["clip_l", "clip_g", "t5"] * 2


def test_no_texts_read_nothing() -> None:
    counted = Counted(PARTS)
    assert load_text(RECIPES["sd1"], counted.parts).encode_all([]) == []
    assert counted.read == []


def test_encoders_are_freed_after_encoding(
    tokenizer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    networks: list[weakref.ref[Any]] = []
    for name in ("load_clip", "load_t5"):
        load = getattr(encoder_module, name)

        def watched(*args: Any, load: Any = load, **options: Any) -> Any:  # noqa: ANN401
            made = load(*args, **options)
            networks.append(weakref.ref(made.network))
            return made

        monkeypatch.setattr(encoder_module, name, watched)
    encoder = load_text(RECIPES["flux-dev"], PARTS, tokenizer=tokenizer)
    encoder.encode("a cat")
    gc.collect()
    assert len(networks) == 2
    assert [network() for network in networks] == [None, None]


@pytest.mark.parametrize(
    ("family", "parts", "message"),
    [
        ("sd1", "", "CLIP-L is missing; give it with --clip-l"),
        ("sd2", "clip_l", "CLIP-H is missing$"),
        ("sdxl", "clip_l", "CLIP-G is missing; give it with --clip-g"),
        ("sd3", "clip_g", "CLIP-L is missing"),
        ("flux-dev", "clip_l", "T5 is missing; give it with --t5"),
    ],
)
def test_what_is_missing_is_named_before_anything_is_read(
    family: str, parts: str, message: str
) -> None:
    counted = Counted({name: give({}) for name in parts.split()})
    with pytest.raises(ModelError, match=message):
        load_text(RECIPES[family], counted.parts)
    assert counted.read == []


def test_encoders_of_another_model_are_refused(tokenizer: Path) -> None:
    with pytest.raises(ModelError, match="64 wide, the network takes 768"):
        sd1(features=768).encode("a cat")
    wide = PARTS | {"clip_g": give(open_clip(256, 1))}
    with pytest.raises(ModelError, match="320 wide, more than the 256 of T5's"):
        load_text(RECIPES["sd3"], wide, tokenizer=tokenizer).encode("a cat")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_lower_precision_is_near(tokenizer: Path, dtype: torch.dtype) -> None:
    exact, _ = load_text(RECIPES["sd3"], PARTS, tokenizer=tokenizer).encode(PROMPT)
    rounded, _ = load_text(RECIPES["sd3"], PARTS, tokenizer=tokenizer, dtype=dtype).encode(PROMPT)
    assert rounded.tokens.dtype == torch.float32
    difference = (rounded.tokens - exact.tokens).norm() / exact.tokens.norm()
    assert 0 < difference < 16 * torch.finfo(dtype).eps
