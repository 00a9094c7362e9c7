"""Metadata as other programs read it: sd-parsers, A1111's own grammar, and ourselves."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from sd_parsers import ParserManager

from tests.images.pictures import FORMATS, random_picture, some_metadata
from tileup import __version__
from tileup.images import xmp
from tileup.images.metadata import (
    SAMPLER_NAMES,
    Metadata,
    parameters_text,
    read_metadata,
    settings_json,
)
from tileup.images.reading import open_picture
from tileup.images.writing import save_picture

A1111_PAIR = re.compile(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')
"""From A1111's infotext_utils.py."""
AWKWARD = ["v1,2: final", 'the "best"', "a\nb", "x, Seed: 9", "ends with \\", '"', "ümläut ☃"]


def as_a1111_reads(text: str) -> dict[str, str]:
    pairs = A1111_PAIR.findall(text.split("\n")[-1])
    return {
        name: json.loads(value) if value.startswith('"') and value.endswith('"') else value
        for name, value in pairs
    }


def saved(folder: Path, format: str, metadata: Metadata) -> Path:
    path = folder / f"out.{format}"
    save_picture(random_picture(), path, format, metadata=metadata)
    return path


def test_the_text_is_a1111s() -> None:
    assert parameters_text(some_metadata(prompt="a cat\nand a dog", negative="blur")) == (
        "a cat\nand a dog\nNegative prompt: blur\n"
        "Steps: 8, Sampler: Euler, Schedule type: SGM Uniform, CFG scale: 1, Seed: 5, "
        "Size: 33x21, Model hash: 0123456789, Model: tileup-small, Denoising strength: 0.8, "
        "tileup min denoise: 0.2, tileup tiles: 37, Version: tileup " + __version__
    )
    assert parameters_text(some_metadata()).startswith("Steps: 8, ")


def test_every_sampler_of_k_diffusion_has_a_name() -> None:
    assert len(SAMPLER_NAMES) == len(set(SAMPLER_NAMES.values())) == 13


@pytest.mark.parametrize("name", AWKWARD)
def test_awkward_names_come_back_and_do_no_harm(name: str) -> None:
    read = as_a1111_reads(parameters_text(some_metadata(model=name)))
    assert read.pop("Model") == name
    plain = as_a1111_reads(parameters_text(some_metadata()))
    assert plain.pop("Model") == "tileup-small"
    assert read == plain
    assert len(plain) >= 10


@pytest.mark.parametrize("model", ["tileup-small", *AWKWARD])
@pytest.mark.parametrize("format", ["png", "jpg", "webp"])
def test_sd_parsers_reads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format: str, model: str
) -> None:
    # It remembers the last image by its id, which the next image may get as well.
    monkeypatch.setattr("sd_parsers.extractors._jpeg_usercomment._image_id", None)
    metadata = some_metadata(
        prompt="naïve ☃, 𝄞", sampler="dpmpp_2m", scheduler="karras", model=model, cfg=7.5
    )
    info = ParserManager().parse(saved(tmp_path, format, metadata))
    assert info is not None
    assert info.generator.name == "AUTOMATIC1111"
    (sampler,) = info.samplers
    assert sampler.name == "DPM++ 2M"
    assert sampler.parameters == {
        "scheduler": "Karras", "cfg_scale": "7.5", "seed": "5", "steps": "8"
    }  # fmt: skip
    assert [prompt.value for prompt in sampler.prompts] == ["naïve ☃, 𝄞"]
    assert sampler.model is not None
    assert sampler.model.hash == "0123456789"
    name = sampler.model.name
    assert name is not None
    assert (json.loads(name) if name.startswith('"') else name) == model


@pytest.mark.parametrize("format", FORMATS)
def test_what_is_written_is_read(tmp_path: Path, format: str) -> None:
    metadata = some_metadata(prompt="a <b> & c\nsecond ☃", source_parameters="old\nSteps: 3")
    path = saved(tmp_path, format, metadata)
    read = read_metadata(path)
    assert read == {"parameters": parameters_text(metadata), "tileup": settings_json(metadata)}
    content = json.loads(read["tileup"])
    assert content == {"version": __version__, **metadata.settings, "source": "old\nSteps: 3"}
    assert path.read_bytes().count(xmp.SOURCE_TYPE.encode()) == 1
    assert open_picture(path).text["parameters"] == parameters_text(metadata)


@pytest.mark.parametrize("format", FORMATS)
def test_no_metadata_means_none(tmp_path: Path, format: str) -> None:
    path = tmp_path / f"out.{format}"
    text = {"parameters": "old\nSteps: 3", "prompt": "{}", "workflow": "{}"}
    save_picture(random_picture(text=text), path, format)
    assert read_metadata(path) == {}
    assert open_picture(path).text == {}
    assert xmp.SOURCE_TYPE.encode() not in path.read_bytes()


def test_comfyui_chunks_of_the_input_stay_in_a_png(tmp_path: Path) -> None:
    text = {"parameters": "old\nSteps: 3", "prompt": '{"1": "☃"}', "workflow": "{}"}
    path = tmp_path / "out.png"
    save_picture(random_picture(text=text), path, "png", metadata=some_metadata())
    assert open_picture(path).text == text
    assert read_metadata(path)["tileup parameters"] == parameters_text(some_metadata())


def test_lone_surrogates_of_a_command_line_can_be_written(tmp_path: Path) -> None:
    for format in FORMATS:
        path = saved(tmp_path, format, some_metadata(prompt="caf\udce9", model="\udce9"))
        assert read_metadata(path)["parameters"].startswith("caf?\n")
