"""Tokenizers and encoders as diffusers' pipelines take them, built apart from tileup.text."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from torch import Tensor, nn

from tileup.text.vocabulary import merges_file, read_vocabulary
from tileup.torchvision_shield import shield_torchvision

shield_torchvision()

import diffusers  # noqa: E402
import transformers  # noqa: E402
from diffusers.loaders.single_file_utils import convert_open_clip_checkpoint  # noqa: E402

HEAD = 64
WORDS = "a photo of the cat on an old stone wall, sharp. blurry dog by river and mountain"


def clip_tokenizer(padding: str) -> Any:  # noqa: ANN401  its class follows the version
    """transformers' tokenizer of CLIP, which fills rows with `padding`."""
    tokens, merges = read_vocabulary(merges_file())
    return transformers.CLIPTokenizer(
        vocab=tokens, merges=merges, pad_token=padding, model_max_length=77
    )


def clip_config(width: int, layers: int, act: str, projection: int) -> transformers.CLIPTextConfig:
    return transformers.CLIPTextConfig(
        hidden_size=width,
        intermediate_size=4 * width,
        projection_dim=projection,
        num_hidden_layers=layers,
        num_attention_heads=width // HEAD,
        hidden_act=act,
    )


def clip_l_model(tensors: Mapping[str, Tensor], layers: int) -> nn.Module:
    """The text encoder of SD 1.5, SDXL (the first) and FLUX."""
    named = {name: tensor for name, tensor in tensors.items() if "position_ids" not in name}
    width = named["text_model.final_layer_norm.weight"].shape[0]
    model = transformers.CLIPTextModel(clip_config(width, layers, "quick_gelu", width))
    if not hasattr(model, "text_model"):  # since transformers 5.6
        named = {name.removeprefix("text_model."): tensor for name, tensor in named.items()}
    model.load_state_dict(named)
    return model.eval()


def clip_l_projected(tensors: Mapping[str, Tensor], layers: int) -> nn.Module:
    """The first text encoder of SD 3, whose projection is the identity where a file has none."""
    named = {name: tensor for name, tensor in tensors.items() if "position_ids" not in name}
    width = named["text_model.final_layer_norm.weight"].shape[0]
    named.setdefault("text_projection.weight", torch.eye(width))
    projection = named["text_projection.weight"].shape[0]
    config = clip_config(width, layers, "quick_gelu", projection)
    model = transformers.CLIPTextModelWithProjection(config)
    model.load_state_dict(named)
    return model.eval()


def open_clip_model(tensors: Mapping[str, Tensor], layers: int) -> nn.Module:
    """The second text encoder of SDXL, converted by diffusers."""
    width, projection = tensors["text_projection"].shape
    model = transformers.CLIPTextModelWithProjection(clip_config(width, layers, "gelu", projection))
    model.load_state_dict(convert_open_clip_checkpoint(model, dict(tensors), prefix=""))
    return model.eval()


def sd2_model(tensors: Mapping[str, Tensor], layers: int) -> nn.Module:
    """The text encoder of SD 2 as diffusers has it: one layer fewer, and no projection."""
    kept = {name: each for name, each in tensors.items() if f".{layers - 1}." not in name}
    width = kept.pop("text_projection").shape[0]
    model = transformers.CLIPTextModel(clip_config(width, layers - 1, "gelu", width))
    named = convert_open_clip_checkpoint(model, kept, prefix="")
    if not hasattr(model, "text_model"):
        named = {name.removeprefix("text_model."): tensor for name, tensor in named.items()}
    model.load_state_dict(named)
    return model.eval()


def t5_model(tensors: Mapping[str, Tensor], layers: int, heads: int) -> nn.Module:
    vocabulary, width = tensors["shared.weight"].shape
    model = transformers.T5EncoderModel(
        transformers.T5Config(
            vocab_size=vocabulary,
            d_model=width,
            d_kv=width // 2,
            d_ff=2 * width,
            num_layers=layers,
            num_heads=heads,
            feed_forward_proj="gated-gelu",
        )
    )
    model.load_state_dict(tensors)
    return model.eval()


def save_t5_tokenizer(path: Path, vocabulary: int = 300) -> Path:
    """Write the tokenizer.json of a small tokenizer of T5's kind."""
    path.write_text(_trained_t5(vocabulary))
    return path


@functools.cache
def _trained_t5(vocabulary: int) -> str:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()]
    )
    trainer = trainers.UnigramTrainer(
        vocab_size=vocabulary,
        special_tokens=["<pad>", "</s>", "<unk>"],
        unk_token="<unk>",
        show_progress=False,
        initial_alphabet=[*"abcdefghijklmnopqrstuvwxyz,.▁"],
    )
    words = WORDS.split()
    lines = [" ".join(words[start::step]) for step in range(1, 6) for start in range(len(words))]
    tokenizer.train_from_iterator(lines, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=["$A", "</s>"], special_tokens=[("</s>", 1)]
    )
    return tokenizer.to_str()


def t5_tokenizer(path: Path) -> Any:  # noqa: ANN401  its class follows the version
    return transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(path), pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )


def scheduler(flow: bool) -> Any:  # noqa: ANN401
    if flow:
        return diffusers.FlowMatchEulerDiscreteScheduler()
    return diffusers.DDIMScheduler(steps_offset=1, clip_sample=False)


CHAT = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    "{% if enable_thinking is defined and enable_thinking is false %}"
    "<think>\n\n</think>\n\n{% endif %}"
)
"""What Qwen3's own template makes of one message: its generation prompt, with or without a
thought of nothing."""
MARKS = (
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>"),
    *("<s>", "<pad>", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[INST]", "[/INST]"),
    "<bos>",
)
"""Qwen's, Mistral's, and Gemma's."""


def save_qwen_tokenizer(folder: Path) -> Path:
    """Train a small tokenizer of Qwen's kind, and write its files as Qwen2's folders have them."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator([WORDS] * 4, trainer)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.model.save(str(folder))
    size = tokenizer.get_vocab_size()
    marks = {mark: size + number for number, mark in enumerate(MARKS)}
    (folder / "added_tokens.json").write_text(json.dumps(marks))
    return folder


def qwen_tokenizer(folder: Path) -> Any:  # noqa: ANN401
    """transformers' tokenizer of Qwen, from the files of `save_qwen_tokenizer`."""
    tokenizer = transformers.Qwen2Tokenizer(
        vocab=json.loads((folder / "vocab.json").read_text()),
        merges=[
            tuple(line.split(" "))
            for line in (folder / "merges.txt").read_text().split("\n")
            if line and not line.startswith("#version")
        ],
        chat_template=CHAT,
    )
    tokenizer.add_tokens([transformers.AddedToken(m, special=True) for m in MARKS])
    return tokenizer


def language_model(tensors: Mapping[str, Tensor], kind: str, **sizes: Any) -> nn.Module:  # noqa: ANN401
    """A whole model of transformers, `Qwen3` or `Qwen2`, with its head."""
    config = getattr(transformers, f"{kind}Config")(
        vocab_size=tensors["model.embed_tokens.weight"].shape[0],
        hidden_size=tensors["model.norm.weight"].shape[0],
        intermediate_size=tensors["model.layers.0.mlp.gate_proj.weight"].shape[0],
        max_position_embeddings=4096,
        tie_word_embeddings=False,
        **sizes,
    )
    model = getattr(transformers, f"{kind}ForCausalLM")(config)
    model.load_state_dict(tensors)
    return model.eval()
