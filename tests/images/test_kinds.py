"""Files of other programs that were once read wrong, or lost something, without a word."""

from __future__ import annotations

import importlib.util
import itertools
import json
import struct
import zlib
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo
from sd_parsers import ParserManager

from tests.images.pictures import (
    encoded,
    noise,
    png,
    random_picture,
    smooth,
    some_metadata,
    swapped_profile,
)
from tests.images.pictures import srgb_profile as srgb
from tileup.errors import InputError
from tileup.images import xmp
from tileup.images.boxes import box
from tileup.images.calibration import PRIMARIES, as_light, as_srgb, profile_of
from tileup.images.colour import in_srgb, is_neutral
from tileup.images.exif import loaded
from tileup.images.jpegxl_profile import plain_profile, with_profile
from tileup.images.metadata import read_metadata, told_settings
from tileup.images.picture import Picture
from tileup.images.reading import open_picture
from tileup.images.writing import save_picture
from tileup.settings.values import Settings

needs_heif = pytest.mark.skipif(
    importlib.util.find_spec("pi_heif") is None, reason="pi-heif is not installed"
)
needs_libjxl = pytest.mark.skipif(
    importlib.util.find_spec("pylibjxl") is None, reason="pylibjxl is not installed"
)

# --- colours that are given by gamma, tables and primaries -------------------------------------

WIDE = (31270, 32900, 64000, 33000, 21000, 71000, 15000, 6000)
"""White and primaries of Adobe RGB, as cHRM has them."""


def png_of(pixels: np.ndarray, *chunks: tuple[bytes, bytes]) -> bytes:
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    data = (b"IDAT", zlib.compress(rows))
    return png(pixels.shape[1], pixels.shape[0], 8, 2, *chunks, data)


def gama(value: float) -> tuple[bytes, bytes]:
    return b"gAMA", struct.pack(">L", round(value * 100_000))


def test_srgb_tones_are_the_closed_form() -> None:
    numbers = np.linspace(0, 1, 256)
    assert_allclose(as_srgb(as_light(numbers).astype(np.float32)), numbers, atol=1e-6)
    assert as_light(np.array([0.5]))[0] == pytest.approx(0.2140411, abs=1e-6)


@pytest.mark.parametrize("gamma", [1.0, 0.55556, 0.7])
def test_tones_by_gamma_become_those_of_srgb(gamma: float) -> None:
    pixels = smooth(24, 16)
    picture = open_picture(png_of(pixels, gama(gamma)))
    light = (pixels / 255) ** (1 / gamma)
    assert_allclose(picture.pixels, as_srgb(light.astype(np.float32)), atol=1e-5)
    assert picture.icc is None


@pytest.mark.parametrize("chunks", [(gama(0.45455),), (gama(1.0), (b"sRGB", b"\0"))])
def test_usual_tones_stay(chunks: tuple[tuple[bytes, bytes], ...]) -> None:
    pixels = smooth(24, 16)
    picture = open_picture(png_of(pixels, *chunks))
    assert_array_equal(np.rint(picture.pixels * 255), pixels)
    assert picture.icc is None


def test_primaries_become_a_profile_that_littlecms_reads_right() -> None:
    """Red of Adobe RGB, halved, in sRGB, from the matrices of both."""
    pixels = np.full((8, 8, 3), [150, 120, 120], np.uint8)
    picture = open_picture(png_of(pixels, gama(0.45455), (b"cHRM", struct.pack(">8L", *WIDE))))
    assert picture.icc is not None
    assert ImageCms.ImageCmsProfile(BytesIO(picture.icc)).profile.xcolor_space.strip() == "RGB"
    converted = in_srgb(picture)
    assert converted is not None
    light = as_light(pixels[0, 0] / 255)
    matrix = np.array([[1.3984, -0.3984, 0], [0, 1, 0], [0, -0.0429, 1.0429]])
    assert_allclose(converted.pixels[0, 0], as_srgb((matrix @ light).astype(np.float32)), atol=4e-3)
    for format in ("png", "jpg", "webp", "tif", "avif", "jp2"):
        assert saved(picture, format)[0].icc == picture.icc


@pytest.mark.parametrize("points", [(31270, 32900) * 4, (1,) * 8, (2**31,) * 8])
def test_primaries_that_cannot_be_are_none(points: tuple[int, ...]) -> None:
    picture = open_picture(png_of(smooth(24, 16), (b"cHRM", struct.pack(">8L", *points))))
    assert_array_equal(np.rint(picture.pixels * 255), smooth(24, 16))


def test_a_profile_says_more_than_a_gamma() -> None:
    packed = (b"iCCP", b"x\0\0" + zlib.compress(srgb()))
    pixels = smooth(24, 16)
    picture = open_picture(png_of(pixels, gama(1.0), packed))
    assert_array_equal(np.rint(picture.pixels * 255), pixels)
    assert picture.icc == srgb()


def test_tones_by_a_table_of_a_tiff() -> None:
    table = [round(65535 * (at / 255) ** 1.0) for at in range(256)]
    pixels = smooth(24, 16)
    data = encoded(Image.fromarray(pixels), "tif", tiffinfo={301: tuple(table)})
    found = open_picture(data).pixels
    assert_allclose(found, as_srgb(np.float32(pixels) / 255), atol=1e-4)


@pytest.mark.parametrize("gamma", [1.0, 2.2])
def test_tones_of_a_bmp_of_version_4(gamma: float) -> None:
    pixels = smooth(24, 16)
    plain = encoded(Image.fromarray(pixels), "bmp")
    header = bytearray(plain[14:54].ljust(108, b"\0"))
    struct.pack_into("<L", header, 0, 108)
    for at, (x, y) in enumerate([(0.64, 0.33), (0.3, 0.6), (0.15, 0.06)]):
        weight = [0.2126, 0.7152, 0.0722][at] / y
        lights = (round(each * weight * 2**30) for each in (x, y, 1 - x - y))
        struct.pack_into("<3L", header, 60 + 12 * at, *lights)
    struct.pack_into("<3L", header, 96, *[round(gamma * 65536)] * 3)
    file = bytearray(plain[:14]) + header + plain[54:]
    struct.pack_into("<L", file, 10, 14 + 108)
    picture = open_picture(bytes(file))
    expected = as_srgb(np.float32(pixels) / 255) if gamma == 1 else pixels / 255
    assert_allclose(picture.pixels, expected, atol=1e-5)
    assert picture.icc is None


def test_a_large_profile_in_a_small_png() -> None:
    profile = srgb() + noise(1000, 1500, None).tobytes()
    packed = (b"iCCP", b"x\0\0" + zlib.compress(profile))
    assert open_picture(png_of(smooth(24, 16), packed)).icc == profile


@pytest.mark.parametrize("colour", [0, 2])
def test_a_key_colour_of_sixteen_bits(colour: int) -> None:
    words = np.random.default_rng(0).integers(0, 65536, (4, 5, 3 if colour else 1)).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in words)
    key = (b"tRNS", words[1, 2].tobytes())
    picture = open_picture(png(5, 4, 16, colour, key, (b"IDAT", zlib.compress(rows))))
    assert picture.deep
    assert picture.alpha is not None
    assert np.argwhere(picture.alpha == 0).tolist() == [[1, 2]]
    assert_allclose(picture.pixels[..., :1], words[..., :1] / 65535, atol=1e-6)


# --- words of people and of generators ---------------------------------------------------------

A1111 = (
    "a tree with a bird\nNegative prompt: grass\nSteps: 40, Sampler: Euler a, CFG scale: 7, "
    "Seed: 968002204, Size: 48x32, Model: someModel"
)
NOVELAI = {
    "Title": "AI generated image",
    "Description": "a tree",
    "Software": "NovelAI",
    "Source": "Stable Diffusion F1022A28",
    "Comment": json.dumps(
        {"prompt": "a tree", "steps": 28, "scale": 5, "seed": 7, "sampler": "k_euler", "uc": "x"}
    ),
}
COMFY = {
    "prompt": json.dumps(
        {
            "3": {
                "class_type": "KSampler",
                "inputs": {
                    **{"seed": 5, "steps": 20, "cfg": 8.0, "sampler_name": "euler"},
                    **{"scheduler": "normal", "denoise": 1.0, "model": ["4", 0]},
                    **{"positive": ["6", 0], "negative": ["6", 0]},
                },
            },
            "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "m.ckpt"}},
            "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a tree", "clip": ["4", 1]}},
        }
    ),
    "workflow": json.dumps({"nodes": [], "links": []}),
}
INVOKE = {"sd-metadata": json.dumps({"model_weights": "x", "app_version": "2.3.0", "image": {
    "prompt": [{"prompt": "a tree", "weight": 1}], "steps": 30, "cfg_scale": 7, "sampler": "k_lms",
    "seed": 3, "height": 16, "width": 24}})}  # fmt: skip


def saved(picture: Picture, format: str, **options: object) -> tuple[Picture, tuple[str, ...]]:
    stream = BytesIO()
    told = save_picture(picture, stream, format, **options)
    return open_picture(stream.getvalue()), told


def with_texts(texts: dict[str, str]) -> Picture:
    chunks = PngInfo()
    for name, text in texts.items():
        chunks.add_text(name, text)
    return open_picture(encoded(Image.fromarray(smooth(24, 16)), "png", pnginfo=chunks))


@pytest.mark.parametrize(
    ("texts", "generator"),
    [
        ({"parameters": A1111}, "AUTOMATIC1111"),
        (NOVELAI, "NOVELAI"),
        (COMFY, "COMFYUI"),
        (INVOKE, "INVOKEAI"),
    ],
)
def test_a_foreign_prompt_stays_where_readers_look(
    tmp_path: Path, texts: dict[str, str], generator: str
) -> None:
    picture = with_texts(texts)
    path = tmp_path / "out.png"
    (sentence,) = save_picture(picture, path, "png", metadata=some_metadata())
    assert "stands in XMP alone" in sentence
    before, after = tmp_path / "in.png", path
    chunks = PngInfo()
    for name, text in texts.items():
        chunks.add_text(name, text)
    Image.fromarray(smooth(24, 16)).save(before, pnginfo=chunks)
    expected, found = (ParserManager().parse(each) for each in (before, after))
    assert expected is not None
    assert found is not None
    assert expected.generator.name == found.generator.name == generator
    assert repr(found.samplers) == repr(expected.samplers)
    assert "Steps: 8, " in (xmp.found(path.read_text("latin-1"), "parameters") or "")
    assert "scale" in json.loads(read_metadata(path)["tileup"])


@pytest.mark.parametrize("format", ["jpg", "webp"])
def test_a_foreign_prompt_of_a_jpeg(
    tmp_path: Path, format: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sd_parsers.extractors._jpeg_usercomment._image_id", None)
    path = tmp_path / f"out.{format}"
    save_picture(with_texts({"parameters": A1111}), path, format, metadata=some_metadata())
    found = ParserManager().parse(path)
    assert found is not None
    assert [prompt.value for prompt in found.samplers[0].prompts] == ["a tree with a bird"]
    assert read_metadata(path)["tileup parameters"].startswith("Steps: 8, ")
    again = open_picture(path)
    twice = tmp_path / f"twice.{format}"
    save_picture(again, twice, format, metadata=some_metadata(seed=6))
    assert read_metadata(twice)["parameters"] == A1111
    assert "Seed: 6" in read_metadata(twice)["tileup parameters"]


def test_comfyui_finds_its_texts_in_a_webp() -> None:
    again, _ = saved(with_texts(COMFY), "webp", metadata=some_metadata())
    exif = Image.Exif()
    exif.load(again.exif)
    assert exif[0x0110] == f"prompt:{COMFY['prompt']}"
    assert exif[0x010F] == f"workflow:{COMFY['workflow']}"


def test_our_own_text_is_replaced_by_the_next() -> None:
    for format in ("png", "jpg", "webp", "avif"):
        first, told = saved(random_picture(), format, metadata=some_metadata())
        assert told == ()
        second, told = saved(first, format, metadata=some_metadata(seed=6))
        assert told == ()
        assert "Seed: 6" in second.text["parameters"]


def test_without_metadata_prompts_go_and_words_stay() -> None:
    picture = with_texts({"parameters": A1111, "Author": "Ann"})
    again, _ = saved(picture, "png")
    assert again.text == {"Author": "Ann"}


def test_what_is_personal_can_be_left_away() -> None:
    picture = replace(with_texts({"parameters": A1111, "Author": "Ann"}), iptc=b"x", exif=b"x")
    picture = picture.impersonal()
    assert picture.text == {"parameters": A1111}
    assert (picture.iptc, picture.exif, picture.xmp) == (None, None, None)


def test_metadata_tells_names_and_hashes_and_no_folders(tmp_path: Path) -> None:
    folder = tmp_path / "jane.doe" / "secret client"
    folder.mkdir(parents=True)
    mask, lora = folder / "face.png", folder / "style.safetensors"
    mask.write_bytes(b"abc")
    lora.write_bytes(b"abc")
    files = ("model", "mask", "denoise_map", "prompt_embeds", "upscaler", "control")
    parts = ("vae", "clip_l", "clip_g", "t5", "tokenizer")
    paths = {name: str(mask) for name in (*files, *parts)}
    settings = Settings(**paths, lora=(f"{lora}:0.5",), prompt="cats/dogs")  # type: ignore[arg-type]
    told = told_settings(settings)
    text = json.dumps(told)
    assert "jane" not in text
    assert "secret" not in text
    assert told["mask"] == "face.png"
    assert told["lora"] == ["style.safetensors:0.5"]
    assert told["prompt"] == "cats/dogs"
    hashes = told["hashes"]
    assert isinstance(hashes, dict)
    assert hashes["mask"] == "ba7816bf8f", "SHA-256 of abc"
    assert hashes["lora"] == ["ba7816bf8f"]
    assert set(hashes) == {*paths, "lora"}


# --- XMP that is no longer true ----------------------------------------------------------------


def packet(spaces: str, body: str) -> str:
    return (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-'
        f'syntax-ns#"><rdf:Description rdf:about="" xmlns:xmp="http://ns.adobe.com/xap/1.0/" '
        f"{spaces}>{body}<xmp:Rating>4</xmp:Rating></rdf:Description></rdf:RDF></x:xmpmeta>"
    )


GONE = {
    "gain map": ('xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/" hdrgm:Version="1.0"', ""),
    "video": (
        'xmlns:GCamera="http://ns.google.com/photos/1.0/camera/" GCamera:MotionPhoto="1"',
        "<GCamera:MotionPhotoVersion>1</GCamera:MotionPhotoVersion>",
    ),
    "video or gain map": (
        'xmlns:Container="http://ns.google.com/photos/1.0/container/"',
        "<Container:Directory><rdf:Seq><rdf:li/></rdf:Seq></Container:Directory>",
    ),
    "the rest of its XMP": (
        'xmlns:xmpNote="http://ns.adobe.com/xmp/note/" xmpNote:HasExtendedXMP="ABCD"',
        "",
    ),
    "content credentials": (
        'xmlns:dcterms="http://purl.org/dc/terms/" dcterms:provenance="self#jumbf=c2pa"',
        "",
    ),
}


@pytest.mark.parametrize("what", GONE)
def test_what_points_at_something_that_is_gone_goes_too(what: str) -> None:
    spaces, body = GONE[what]
    image = Image.fromarray(smooth(24, 16))
    picture = open_picture(encoded(image, "jpg", xmp=packet(spaces, body).encode()))
    assert what in picture.warnings[0]
    assert "left out" in picture.warnings[0]
    again, _ = saved(picture, "jpg")
    assert again.xmp is not None
    assert "<xmp:Rating>4</xmp:Rating>" in again.xmp
    name = spaces.split("xmlns:")[1].split("=")[0]
    assert f"{name}:" not in again.xmp.replace(f"xmlns:{name}", "")
    assert again.warnings == ()


PANORAMA = packet(
    'xmlns:GPano="http://ns.google.com/photos/1.0/panorama/" GPano:ProjectionType="cylindrical" '
    'GPano:CroppedAreaImageWidthPixels="24" GPano:FullPanoWidthPixels="100"',
    "<GPano:CroppedAreaImageHeightPixels>16</GPano:CroppedAreaImageHeightPixels>"
    "<GPano:CroppedAreaTopPixels>5</GPano:CroppedAreaTopPixels>",
)


def test_a_panorama_is_measured_anew() -> None:
    picture = open_picture(encoded(Image.fromarray(smooth(24, 16)), "jpg", xmp=PANORAMA.encode()))
    large = replace(picture, pixels=np.zeros((48, 72, 3), np.float32))
    again, _ = saved(large, "jpg")
    assert again.xmp is not None
    for expected in (
        'GPano:CroppedAreaImageWidthPixels="72"',
        'GPano:FullPanoWidthPixels="300"',
        "<GPano:CroppedAreaImageHeightPixels>48<",
        "<GPano:CroppedAreaTopPixels>15<",
        'GPano:ProjectionType="cylindrical"',
    ):
        assert expected in again.xmp
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.fromarray(smooth(24, 16))
    turned = open_picture(encoded(image, "jpg", xmp=PANORAMA.encode(), exif=exif))
    assert "its panorama" in turned.warnings[0]
    assert "GPano:C" not in (turned.xmp or "")


def test_regions_are_of_the_new_size_and_other_dimensions_stay() -> None:
    spaces = (
        'xmlns:mwg-rs="http://www.metadataworkinggroup.com/schemas/regions/" '
        'xmlns:stDim="http://ns.adobe.com/xap/1.0/sType/Dimensions#" '
        'xmlns:xmpTPg="http://ns.adobe.com/xap/1.0/t/pg/"'
    )
    body = (
        '<mwg-rs:Regions rdf:parseType="Resource"><mwg-rs:AppliedToDimensions stDim:w="24" '
        'stDim:h="16" stDim:unit="pixel"/></mwg-rs:Regions>'
        '<xmpTPg:MaxPageSize stDim:w="4" stDim:h="3" stDim:unit="inch"/>'
    )
    merged = xmp.merged(packet(spaces, body), 72, 48, None, growth=(3, 3))
    assert merged is not None
    assert 'stDim:w="72" stDim:h="48" stDim:unit="pixel"' in merged
    assert 'stDim:w="4" stDim:h="3" stDim:unit="inch"' in merged


def test_damaged_xmp_is_left_out_and_told() -> None:
    image = Image.fromarray(smooth(24, 16))
    picture = open_picture(encoded(image, "jpg", xmp=b"<rdf:RDF><a></rdf:RDF>"))
    assert picture.xmp is None
    assert "left out is XMP that is damaged" in picture.warnings[0]


def test_a_wholly_made_picture_stays_one() -> None:
    wholly = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
    space = 'xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"'
    text = packet(f'{space} Iptc4xmpExt:DigitalSourceType="{wholly}"', "")
    merged = xmp.merged(text, 8, 8, {})
    assert merged is not None
    assert merged.count("DigitalSourceType") == 2, "one element"
    assert wholly in merged
    assert xmp.SOURCE_TYPE not in merged


def test_places_in_exif_grow_with_the_picture() -> None:
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    exif[0x8769] = {0x9214: (10, 8, 4, 2), 0xA20E: 100.0, 0xA20F: 50.0}
    exif[0x8769][0xA005] = {1: "R03", 2: b"0100"}
    image = Image.fromarray(smooth(24, 16))
    picture = open_picture(encoded(image, "jpg", exif=exif.tobytes()))
    large = replace(picture, pixels=np.zeros((48, 48, 3), np.float32))
    again, _ = saved(large, "jpg")
    found = Image.Exif()
    found.load(again.exif)
    detail = found.get_ifd(0x8769)
    assert detail[0x9214] == (20, 24, 8, 6)
    assert (detail[0xA20E], detail[0xA20F]) == (200, 150)
    assert found.get_ifd(0xA005)[1] == "R03"


# --- kinds of files ----------------------------------------------------------------------------


def tiff(*tags: tuple[int, object]) -> bytes:
    return encoded(Image.fromarray(smooth(24, 16)), "tif", tiffinfo=dict(tags))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (tiff((50706, b"\1\4\0\0")), "camera raw file (DNG)"),
        (tiff((254, 1), (330, 8), (271, "NIKON")), "camera raw file (NIKON)"),
        (tiff((254, 1)), "a reduced copy"),
        (b"II*\0\x10\0\0\0CR\2\0" + bytes(40), "camera raw (CR2)"),
        (b"\0\0\0\x18ftypcrx " + bytes(40), "camera raw (CR3)"),
        (b"FUJIFILMCCD-RAW " + bytes(40), "camera raw (RAF)"),
    ],
)
def test_a_raw_file_is_not_its_thumbnail(data: bytes, words: str) -> None:
    with pytest.raises(InputError) as caught:
        open_picture(data)
    assert words in str(caught.value)


def tiff_of(
    planes: NDArray[np.generic],
    photometric: int,
    extra: tuple[int, ...],
    apart: bool,
    order: str,
    bits: int | None = None,
) -> bytes:
    """An uncompressed TIFF of planes (H, W, channels), chunky or each plane for itself."""
    height, width, channels = planes.shape
    laid = np.moveaxis(planes, -1, 0) if apart else planes
    data = laid.astype(laid.dtype.newbyteorder(order)).tobytes()
    if bits:
        data = rows_of_bits(laid.reshape(-1, width * (1 if apart else channels)), bits)
    strips, length = (channels, len(data) // channels) if apart else (1, len(data))
    shorts, longs = {"<": "<H", ">": ">H"}[order], {"<": "<L", ">": ">L"}[order]
    values: dict[int, tuple[int, list[int]]] = {
        **{
            256: (4, [width]),
            257: (4, [height]),
            258: (3, [bits or planes.dtype.itemsize * 8] * channels),
        },
        **{259: (3, [1]), 262: (3, [photometric]), 273: (4, [0] * strips), 277: (3, [channels])},
        **{278: (4, [height]), 279: (4, [length] * strips), 284: (3, [2 if apart else 1])},
        **({338: (3, [*extra])} if extra else {}),
    }
    packed = {
        tag: b"".join(struct.pack(shorts if kind == 3 else longs, each) for each in numbers)
        for tag, (kind, numbers) in values.items()
    }
    behind = 8 + 2 + 12 * len(values) + 4
    start = behind + sum(len(each) for each in packed.values() if len(each) > 4)
    packed[273] = b"".join(struct.pack(longs, start + n * length) for n in range(strips))
    entries = rest = b""
    for tag, (kind, numbers) in values.items():
        content = packed[tag]
        place = (
            content.ljust(4, b"\0") if len(content) <= 4 else struct.pack(longs, behind + len(rest))
        )
        rest += content if len(content) > 4 else b""
        entries += struct.pack(f"{order}HHL", tag, kind, len(numbers)) + place
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(longs, 8)
    return head + struct.pack(shorts, len(values)) + entries + bytes(4) + rest + data


def rows_of_bits(numbers: NDArray[np.generic], bits: int) -> bytes:
    """Numbers one behind the other, the highest bit first, each row from a whole byte on."""
    text = ["".join(f"{each:0{bits}b}" for each in row) for row in numbers]
    padded = [row.ljust(-(-len(row) // 8) * 8, "0") for row in text]
    return b"".join(int(row, 2).to_bytes(len(row) // 8, "big") for row in padded)


LAYOUTS = [
    *((photometric, extra) for photometric in (0, 1, 2) for extra in ((), (0,), (1,), (2,))),
    *((2, extra) for extra in ((2, 0), (0, 0), (1, 0, 0))),
]


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize(("photometric", "extra"), LAYOUTS)
def test_a_tiff_of_any_layout(
    photometric: int, extra: tuple[int, ...], kind: type, apart: bool, order: str
) -> None:
    """White as zero, alpha that colours are multiplied by, channels that are neither."""
    most, colours = np.iinfo(kind).max, 3 if photometric == 2 else 1
    planes = np.random.default_rng(3).integers(0, most + 1, (16, 24, colours + len(extra)), kind)
    picture = open_picture(tiff_of(planes, photometric, extra, apart, order))
    numbers = planes.astype(np.float64) / most
    shown = 1 - numbers[..., :colours] if photometric == 0 else numbers[..., :colours]
    alpha = numbers[..., colours] if extra[:1] in ((1,), (2,)) else None
    if extra[:1] == (1,):
        shown = np.clip(shown / np.maximum(numbers[..., colours : colours + 1], 1 / most), 0, 1)
    seen = np.ones((16, 24), bool) if alpha is None else alpha > 0
    step = 0.5 / most + 1e-6
    found = picture.pixels[seen]
    assert_allclose(found, np.broadcast_to(shown, picture.pixels.shape)[seen], atol=step)
    assert (picture.alpha is not None) == (alpha is not None)
    if alpha is not None:
        assert_allclose(picture.alpha, alpha, atol=1e-6)
    assert (picture.deep, picture.grey) == (kind is np.uint16, photometric != 2)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize(
    ("bits", "photometric"), [*((b, p) for b in (10, 12, 14) for p in (0, 1, 2)), (4, 2), (5, 2)]
)
def test_a_tiff_whose_channels_end_within_bytes(
    bits: int, photometric: int, apart: bool, order: str
) -> None:
    """As scanners and film write it."""
    colours = 3 if photometric == 2 else 1
    numbers = np.random.default_rng(5).integers(0, 2**bits, (15, 23, colours), np.uint16)
    picture = open_picture(tiff_of(numbers, photometric, (), apart, order, bits))
    shown = numbers / (2**bits - 1)
    shown = 1 - shown if photometric == 0 else shown
    assert_allclose(picture.pixels, np.broadcast_to(shown, picture.pixels.shape), atol=1e-6)
    assert (picture.deep, picture.grey) == (bits > 8, photometric != 2)


PACKINGS = ["jpeg2000", "png", "jpegxr", "jpegxl", "lerc"]


@pytest.mark.parametrize(
    ("packing", "channels", "kind"),
    [*itertools.product(PACKINGS, (1, 3), (np.uint8, np.uint16)), ("webp", 3, np.uint8)],
)
def test_a_tiff_packed_in_a_way_that_libtiff_does_not_know(
    packing: str, channels: int, kind: type, capfd: pytest.CaptureFixture[str]
) -> None:
    """Without loss; microscopes, slides and maps are."""
    numbers = (smooth(24, 16)[..., :channels] * kind(257 if kind is np.uint16 else 1)).astype(kind)
    numbers = numbers[..., 0] if channels == 1 else numbers
    stream = BytesIO()
    tifffile.imwrite(
        stream,
        numbers,
        photometric="minisblack" if channels == 1 else "rgb",
        compression=packing,
        compressionargs={"level": 0, "lossless": True} if packing == "webp" else None,
    )
    picture = open_picture(stream.getvalue())
    shown = numbers.reshape(16, 24, -1) / np.iinfo(kind).max
    assert_allclose(picture.pixels, np.broadcast_to(shown, (16, 24, 3)), atol=1e-6)
    assert (picture.deep, picture.grey) == (kind is np.uint16, channels == 1)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("packing", "photometric"), [(34712, 6), (50001, 6), (65000, 2), (9, 2)])
def test_a_tiff_packed_in_an_unknown_way_is_not_called_broken(
    packing: int, photometric: int
) -> None:
    data = bytearray(tiff_of(np.zeros((16, 24, 3), np.uint8), photometric, (), False, "<"))
    at = data.index(struct.pack("<HHLH", 259, 3, 1, 1)) + 8
    data[at : at + 2] = struct.pack("<H", packing)
    with pytest.raises(InputError, match=rf"packed in a way that is not read .*{packing}"):
        open_picture(bytes(data))


@pytest.mark.parametrize("grey", [False, True])
def test_a_tiff_packed_as_jpeg_keeps_its_colours_beside_alpha(grey: bool) -> None:
    colours = Image.fromarray(smooth(24, 16)).convert("L" if grey else "RGB")
    image = colours.copy()
    image.putalpha(Image.fromarray(smooth(24, 16)[..., 0]))
    picture = open_picture(encoded(image, "tif", compression="jpeg", quality=98))
    assert picture.alpha is not None
    seen = picture.alpha > 0
    assert_allclose(picture.pixels[seen], np.asarray(colours.convert("RGB"))[seen] / 255, atol=0.02)
    assert_allclose(picture.alpha, smooth(24, 16)[..., 0] / 255, atol=0.02)
    assert picture.grey == grey


@pytest.mark.parametrize(
    ("photometric", "kind"), [(8, np.uint16), (5, np.uint16), (1, np.uint32), (2, np.uint32)]
)
def test_a_tiff_that_is_not_read_is_not_called_broken(photometric: int, kind: type) -> None:
    planes = np.zeros((16, 24, {8: 3, 5: 4, 1: 1, 2: 3}[photometric]), kind)
    with pytest.raises(InputError) as caught:
        open_picture(tiff_of(planes, photometric, (), False, "<"))
    assert "convert it to" in str(caught.value)
    assert "broken" not in str(caught.value)


@pytest.mark.parametrize("format", ["PPM", "TGA"])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_ppm_and_tga(format: str, mode: str) -> None:
    image = Image.fromarray(noise(12, 9)).convert(mode)
    stream = BytesIO()
    image.save(stream, format)
    picture = open_picture(stream.getvalue())
    expected = np.asarray(image).reshape(9, 12, -1)
    assert_array_equal(np.rint(picture.pixels * 255), np.broadcast_to(expected, (9, 12, 3)))
    assert picture.format == format.lower()


@pytest.mark.parametrize("most", [1023, 65535])
@pytest.mark.parametrize("channels", [1, 3])
def test_ppm_of_sixteen_bits(most: int, channels: int) -> None:
    numbers = np.random.default_rng(0).integers(0, most + 1, (9, 12, channels))
    head = b"P%d\n# made by hand\n12 9\n%d\n" % (5 if channels == 1 else 6, most)
    picture = open_picture(head + numbers.astype(">u2").tobytes())
    assert picture.deep
    assert_allclose(picture.pixels, np.broadcast_to(numbers / most, (9, 12, 3)), atol=1e-5)
    words = b"P%d 12 9\n%d\n" % (2 if channels == 1 else 3, most)
    words += b" # nine rows\n".join(
        b" ".join(b"%d" % each for each in row.ravel()) for row in numbers
    )
    assert_array_equal(open_picture(words).pixels, picture.pixels)
    with pytest.raises(InputError, match="broken or cut short"):
        open_picture(words[: len(words) // 2])


def jpeg_with(*segments: tuple[int, bytes], behind: bytes = b"") -> bytes:
    data = encoded(Image.fromarray(smooth(24, 16)), "jpg", quality=95)
    made = (bytes([0xFF, kind]) + struct.pack(">H", len(c) + 2) + c for kind, c in segments)
    return data[:2] + b"".join(made) + data[2:] + behind


JUMBF = struct.pack(">L4s", 28, b"jumb") + struct.pack(">L4s", 20, b"jumd") + b"c2pa" + bytes(8)
"""As content credentials begin."""


def riff_with(name: bytes, content: bytes) -> bytes:
    data = encoded(Image.fromarray(smooth(24, 16)), "webp", lossless=True) + name
    data += struct.pack("<L", len(content)) + content
    return data[:4] + struct.pack("<L", len(data) - 8) + data[8:]


def boxed_with(format: str, kind: bytes, content: bytes) -> bytes:
    """With a box before the last one, which may go on to the end."""
    stream = BytesIO()
    save_picture(Picture(np.float32(smooth(24, 16)) / 255), stream, format)
    data = stream.getvalue()
    at = data.index(b"jxlc") - 4 if format == "jxl" else len(data)
    return data[:at] + box(kind, content) + data[at:]


C2PA = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")
SIGNED = {
    "jpg": lambda: jpeg_with((0xEB, b"JP\0\1\0\0\0\1" + JUMBF)),
    "png": lambda: png_of(smooth(24, 16), (b"caBX", JUMBF)),
    "webp": lambda: riff_with(b"C2PA", JUMBF),
    "avif": lambda: boxed_with("avif", b"uuid", C2PA + JUMBF),
    "jxl": lambda: boxed_with("jxl", b"jumb", JUMBF[8:]),
    "tif": lambda: tiff_with((52545, "B", len(JUMBF), JUMBF, True)),
}


@pytest.mark.parametrize("format", SIGNED)
def test_content_credentials_that_are_left_out_are_told(format: str) -> None:
    """They sign the file as it was, and no output."""
    picture = open_picture(SIGNED[format]())
    assert picture.warnings == ("the given data: left out is its content credentials",)
    plain = BytesIO()
    save_picture(picture, plain, format, metadata=some_metadata())
    assert open_picture(plain.getvalue()).warnings == ()


def tiff_with(*tags: tuple, description: str | None = None) -> bytes:
    stream = BytesIO()
    tifffile.imwrite(
        stream,
        smooth(24, 16),
        photometric="rgb",
        extratags=tags,
        description=description,
        metadata=None,
    )
    return stream.getvalue()


OME = '<?xml version="1.0"?><!-- by a microscope -->\n<OME><Pixels SizeX="24" SizeY="16"/></OME>'


@pytest.mark.parametrize(
    "description", [OME, OME[21:], "ImageJ=1.11a\nimages=1\n", '{"shape": [16, 24, 3]}']
)
def test_a_description_of_how_pixels_are_stored_goes(description: str) -> None:
    """By which programs would read a larger picture, and wrongly."""
    picture = open_picture(tiff_with(description=description))
    (told,) = picture.warnings
    assert "its description of how pixels are stored" in told
    again, _ = saved(picture, "tif", metadata=some_metadata())
    assert 0x010E not in loaded(again.exif)


def test_a_persons_words_in_a_tiff_stay() -> None:
    data = tiff_with(
        (269, "s", 0, "Box 4", True), (285, "s", 0, "Slide 12", True), description="OME's cat"
    )
    for format in ("tif", "png", "jpg"):
        again, told = saved(open_picture(data), format, metadata=some_metadata())
        exif = loaded(again.exif)
        assert [exif[tag] for tag in (269, 270, 285)] == [b"Box 4", b"OME's cat", b"Slide 12"]
        assert told == ()


@pytest.mark.parametrize(
    ("tag", "words"),
    [
        ((33550, "d", 3, (10.0, 10.0, 0.0), True), "its place on a map"),
        ((34735, "H", 4, (1, 1, 0, 0), True), "its place on a map"),
        ((37724, "B", 8, b"8BIMLayr", True), "its layers"),
    ],
)
def test_what_a_tiff_measures_or_holds_besides_is_told(tag: tuple, words: str) -> None:
    assert open_picture(tiff_with(tag)).warnings == (f"the given data: left out is {words}",)


def test_comments_and_texts_of_one_name_stay_together() -> None:
    said = (0xFE, b"one"), (0xFE, "zwei ü".encode()), (0xFE, b"one")
    assert open_picture(jpeg_with(*said)).text == {"Comment": "one\nzwei ü"}
    texts = [b"Comment\0one", b"Comment\0two", b"Comment\0two", b"parameters\0a", b"parameters\0b"]
    picture = open_picture(png_of(smooth(24, 16), *((b"tEXt", each) for each in texts)))
    assert picture.text == {"Comment": "one\ntwo", "parameters": "b"}


def test_xmp_of_a_gif_is_read() -> None:
    stream = BytesIO()
    Image.fromarray(smooth(24, 16)[..., 0]).save(stream, "GIF")
    data = stream.getvalue()
    trailer = b"\x01" + bytes(range(255, -1, -1)) + b"\0"
    said = PANORAMA.encode()
    at = 13 + 3 * 2 ** ((data[10] & 7) + 1)  # behind the palette
    data = data[:at] + b"!\xff\x0bXMP DataXMP" + said + trailer + data[at:]
    assert Image.open(BytesIO(data)).size == (24, 16)
    assert open_picture(data).xmp == open_picture(jpeg_with((0xE1, XMP_MARK + said))).xmp


XMP_MARK = b"http://ns.adobe.com/xap/1.0/\0"


@pytest.mark.parametrize("smaller", [False, True])
def test_other_pictures_of_a_jpeg_are_told(smaller: bool) -> None:
    """Of a stereo camera or a burst; smaller copies that cameras put there are none."""
    stream, image = BytesIO(), Image.fromarray(smooth(24, 16))
    image.save(stream, "MPO", save_all=True, append_images=[image])
    data = stream.getvalue()
    if smaller:
        index = data.index(b"MPF\0") + 4
        at = data.index(struct.pack("<HHL", 0xB002, 7, 32), index) + 8
        at = index + struct.unpack_from("<L", data, at)[0] + 16  # the second of the entries
        data = data[:at] + struct.pack("<L", 0x010001) + data[at + 4 :]
    told = open_picture(data).warnings
    assert told == (() if smaller else ("the given data holds 2 pictures; the first one is taken",))


def test_a_gain_map_is_told_whoever_writes_it() -> None:
    iso = jpeg_with((0xE2, b"urn:iso:std:iso:ts:21496:-1\0" + bytes(4)))
    assert open_picture(iso).warnings == ("the given data: left out is its gain map",)


SAMPLES = Path(__file__).parent / "samples"
"""HEIC made with pillow-heif, whose encoder is no part of what the tests install; JPEG XL with cjxl
0.7, of `smooth(24, 16)`."""


@needs_libjxl
@pytest.mark.parametrize(
    ("name", "grey", "deep", "near"),
    [("deep", False, True, 1e-6), ("grey", True, False, 1e-6), ("jpeg", False, False, 0.05)],
)
def test_a_jpeg_xl_of_another_program_has_its_profile(
    name: str, grey: bool, deep: bool, near: float
) -> None:
    """Without loss, and a JPEG that was packed again."""
    picture = open_picture(SAMPLES / f"{name}_profile.jxl")
    profile = bytes(imagecodecs.cms_profile("gray", gamma=1.8)) if grey else swapped_profile()
    assert picture.icc is not None
    made = slice(24, 36)  # the time
    assert picture.icc[: made.start] == profile[: made.start]
    assert picture.icc[made.stop :] == profile[made.stop :]
    expected = np.float32(smooth(24, 16)) / 255
    expected = np.repeat(expected[..., :1], 3, axis=2) if grey else expected
    assert_allclose(picture.pixels, expected, atol=near)
    assert (picture.grey, picture.deep, picture.lossless) == (grey, deep, name != "jpeg")
    assert picture.warnings == ()


@pytest.mark.parametrize("read", [pytest.param(True, marks=needs_libjxl), False])
@pytest.mark.parametrize("name", ["primaries", "profile"])
def test_a_jpeg_xl_with_loss_has_the_colours_that_its_profile_gives_it(
    name: str, read: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By what littlecms makes of the source; primaries that no number names stay a profile, and so
    does a profile that can be read."""
    if not read:
        monkeypatch.setitem(__import__("sys").modules, "pylibjxl", None)
    picture = open_picture(SAMPLES / f"lossy_{name}.jxl")
    source = Picture(np.float32(smooth(24, 16)) / 255)
    profile = wide_profile() if name == "profile" else swapped_profile()
    expected = in_srgb(replace(source, icc=profile))
    shown = picture if picture.icc is None else in_srgb(picture)
    assert expected is not None
    assert shown is not None
    assert np.abs(shown.pixels - expected.pixels).mean() < 0.015
    assert np.abs(source.pixels - expected.pixels).mean() > 0.03, "there is nothing to convert"
    assert not picture.deep
    cut = name == "profile" and not read
    assert [words in " ".join(picture.warnings) for words in ("sRGB", "cut")] == [cut] * 2
    assert (picture.icc is None) == cut
    if not cut:
        assert np.abs(picture.pixels - source.pixels).mean() < 0.015


def wide_profile() -> bytes:
    """Of primaries beyond those of sRGB, and tones that no number names."""
    return profile_of(PRIMARIES[12], np.linspace(0, 1, 1024) ** 1.9)


@needs_libjxl
@pytest.mark.parametrize("quality", [95, 100])
@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize("kind", ["wide", "grey", "grey by RGB"])
def test_a_profile_stays_in_a_jpeg_xl(kind: str, alpha: bool, deep: bool, quality: int) -> None:
    """As libjxl reads it, with the colours that littlecms gives the source."""
    most = 65535 if deep else 255
    pixels = np.rint(np.float32(smooth(64, 48)) / 255 * most) / np.float32(most)
    pixels = pixels if kind == "wide" else np.repeat(pixels[..., :1], 3, axis=2)
    icc = bytes(imagecodecs.cms_profile("gray", gamma=1.8)) if kind == "grey" else wide_profile()
    clear = np.rint(pixels[..., 0] * 200) / np.float32(255) if alpha else None
    picture = Picture(pixels, alpha=clear, deep=deep, grey=kind != "wide", icc=icc)
    stream = BytesIO()
    assert save_picture(picture, stream, "jxl", quality=quality) == ()
    assert pylibjxl_profile(stream.getvalue()) == icc
    again = open_picture(stream.getvalue())
    assert (again.icc, again.warnings) == (icc, ())
    assert (again.deep, again.lossless, again.grey) == (deep, quality == 100, kind == "grey")
    assert np.abs(again.pixels - pixels).mean() < (1e-6 if quality == 100 else 0.01)
    if clear is not None:
        assert again.alpha is not None
        assert_allclose(again.alpha, clear, atol=1e-6 if quality == 100 else 0.01)


def pylibjxl_profile(data: bytes) -> bytes:
    return __import__("pylibjxl").decode(data, metadata=True)[1]["icc"]


@needs_libjxl
def test_colours_beyond_srgb_stay_in_a_jpeg_xl_with_loss() -> None:
    """Which the numbers of sRGB do not reach."""
    pixels = np.full((32, 32, 3), [0.02, 0.9, 0.05], np.float32)
    picture = Picture(pixels, icc=wide_profile())
    again, _ = saved(picture, "jxl", quality=95)
    assert_allclose(again.pixels, pixels, atol=0.02)
    cut = in_srgb(picture)
    assert cut is not None
    assert cut.pixels.min() == 0


@needs_libjxl
@pytest.mark.parametrize("size", [0, 1, 40, 41, 100, 300, 70_000])
def test_profiles_of_any_size_are_packed_as_libjxl_unpacks_them(size: int) -> None:
    """Of any maker and platform, the lengths of all fields included."""
    import pylibjxl

    plain = imagecodecs.jpegxl_encode(np.zeros((8, 8, 3), np.uint8), lossless=True)
    for platform in (b"APPL", b"MSFT", b"SGI ", b"SUNW", b"SOME", bytes(4)):
        own = wide_profile()
        icc = own[:40] + platform + own[44:] + bytes(range(256)) * (size // 256) + bytes(size % 256)
        made = with_profile(bytes(plain), icc, 8)
        assert pylibjxl.decode(made, metadata=True)[1]["icc"] == icc
        assert plain_profile(made) == icc


def test_a_profile_that_was_packed_otherwise_is_told_apart() -> None:
    """Of cjxl, of none, and of one that is cut short."""
    for name in ("deep_profile", "grey_profile", "lossy_profile", "lossy_primaries"):
        data = (SAMPLES / f"{name}.jxl").read_bytes()
        at = data.find(b"jxlc") + 4 if data.startswith(bytes(4)[:3]) else 0
        assert plain_profile(data[at:]) is None
    plain = imagecodecs.jpegxl_encode(np.zeros((8, 8, 3), np.uint8), lossless=True)
    made = with_profile(bytes(plain), wide_profile(), 8)
    assert plain_profile(made) == wide_profile()
    assert plain_profile(made[:3000]) is None
    assert plain_profile(bytes(plain)) is None


@pytest.mark.parametrize("quality", [95, 100])
def test_a_profile_that_we_wrote_needs_no_library(
    quality: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pylibjxl", None)
    picture = Picture(np.full((32, 32, 3), [0.2, 0.6, 0.3], np.float32), icc=wide_profile())
    again, told = saved(picture, "jxl", quality=quality)
    assert (again.icc, again.warnings, told) == (picture.icc, (), ())
    assert_allclose(again.pixels, picture.pixels, atol=0.02)


@pytest.mark.parametrize("icc", [b"", b"abc" * 200, bytes(imagecodecs.cms_profile("xyz"))])
@pytest.mark.parametrize("quality", [95, 100])
def test_what_is_no_profile_for_the_picture_is_told(icc: bytes, quality: int) -> None:
    picture = Picture(np.full((8, 8, 3), 0.5, np.float32), icc=icc)
    again, told = saved(picture, "jxl", quality=quality)
    assert again.icc is None
    assert_allclose(again.pixels, picture.pixels, atol=0.01)
    assert "this colour profile (colours may be off)" in told[0]


def test_profiles_of_jpeg_xl_without_their_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without loss, they say how to get it."""
    monkeypatch.setitem(__import__("sys").modules, "pylibjxl", None)
    with pytest.raises(InputError, match=r"has a colour profile.*tileup\[jxl\]"):
        open_picture(SAMPLES / "jpeg_profile.jxl")


@needs_libjxl
def test_a_jpeg_xl_of_inks_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    inks = {"icc": bytes(16) + b"CMYK" + bytes(108)}
    monkeypatch.setattr("pylibjxl.decode", lambda data, metadata: (None, inks))
    with pytest.raises(InputError, match="is a CMYK picture"):
        open_picture(SAMPLES / "deep_profile.jxl")


def test_jpeg_xl_of_other_programs() -> None:
    """In a box and bare, of 8 to 16 bits, with the header that libjxl writes."""
    for bits in (8, 10, 12, 16):
        kind = np.uint8 if bits == 8 else np.uint16
        for channels in (1, 2, 3, 4):
            shape = (21, 33) if channels == 1 else (21, 33, channels)
            given = np.random.default_rng(0).integers(0, 2**bits, shape).astype(kind)
            options = {"lossless": True, "bitspersample": bits, "usecontainer": bits == 12}
            picture = open_picture(imagecodecs.jpegxl_encode(given, **options))
            planes = given.reshape(21, 33, -1) / (2**bits - 1)
            colours = planes[..., :1] if channels < 3 else planes[..., :3]
            linear = bits > 8  # so imagecodecs calls them
            colours = as_srgb(colours.astype(np.float32)) if linear else colours
            assert_allclose(picture.pixels, np.broadcast_to(colours, (21, 33, 3)), atol=1e-5)
            assert (picture.alpha is not None) == (channels in (2, 4))
            assert (picture.deep, picture.lossless) == (bits > 8, True)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("quality", [90, 100])
def test_jpeg_xl_of_sixteen_bits_is_in_srgb(quality: int, channels: int) -> None:
    """Also for a decoder that is told of it by the file alone, as libjxl is."""
    numbers = np.float32(smooth(64, 48)) / 255
    grey = channels == 1
    pixels = np.repeat(numbers[..., :1], 3, axis=2) if grey else numbers
    alpha = numbers[..., 0] * 0.5 + 0.4 if channels == 4 else None
    picture = Picture(pixels=pixels, alpha=alpha, deep=True, grey=grey)
    stream = BytesIO()
    save_picture(picture, stream, "jxl", quality=quality)
    data = stream.getvalue()
    decoded = imagecodecs.jpegxl_decode(data).reshape(48, 64, -1) / 65535
    if quality == 100:
        expected, near = pixels, 1e-5
    else:  # what the encoder makes of the same picture of 8 bits, which it takes for sRGB
        stream = BytesIO()
        save_picture(replace(picture, deep=False), stream, "jxl", quality=quality)
        expected, near = open_picture(stream.getvalue()).pixels, 0.02
    assert_allclose(decoded[..., :1], expected[..., :1], atol=near)
    again = open_picture(data)
    assert_allclose(again.pixels, expected, atol=near)
    assert again.deep
    assert (again.cicp, again.icc) == (None, None)


def test_jpeg_xl_of_linear_light_is_converted() -> None:
    """As imagecodecs writes 16 bits."""
    given = smooth(64, 48).astype(np.uint16) * 257
    picture = open_picture(imagecodecs.jpegxl_encode(given, lossless=True))
    assert_allclose(picture.pixels, as_srgb(np.float32(given) / 65535), atol=1e-5)


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (256, 256), (300, 7), (17, 513)])
def test_the_header_of_jpeg_xl_is_that_of_the_pixels(size: tuple[int, int]) -> None:
    picture = Picture(pixels=np.zeros((size[1], size[0], 3), np.float32))
    again, _ = saved(picture, "jxl")
    assert (again.width, again.height) == size


def test_heic_without_its_library_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pi_heif", None)
    with pytest.raises(InputError, match=r"is a HEIC file.*tileup\[heic\]"):
        open_picture(b"\0\0\0\x18ftypheic" + bytes(200))


@needs_heif
def test_heic_of_eight_bits_is_turned_once() -> None:
    """The box says that it is turned, and the EXIF says so too."""
    picture = open_picture(SAMPLES / "turned.heic")
    assert (picture.width, picture.height, picture.deep) == (32, 48, False)
    assert_allclose(picture.pixels, np.rot90(smooth(48, 32), -1) / 255, atol=0.08)
    assert picture.exif is not None
    assert picture.xmp is not None
    assert saved(picture, "jpg")[0].width == 32


@needs_heif
def test_heic_of_ten_bits() -> None:
    picture = open_picture(SAMPLES / "ten_bits.heic")
    assert picture.deep
    assert_allclose(picture.pixels, smooth(48, 32) / 255, atol=0.08)
    assert picture.pixels.max() > 0.99


@needs_heif
def test_a_broken_heic_is_a_sentence() -> None:
    with pytest.raises(InputError, match="broken or cut short"):
        open_picture(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(200))


# --- grey ----------------------------------------------------------------------------------------


def test_greyness_is_told_by_pixels() -> None:
    grey = np.repeat(smooth(70, 130)[..., :1], 3, axis=2)
    assert open_picture(encoded(Image.fromarray(grey), "png")).neutral
    assert open_picture(encoded(Image.fromarray(grey), "jpg")).neutral
    assert not open_picture(encoded(Image.fromarray(grey), "png")).grey, "stored as it was"
    tinted = grey.copy()
    tinted[129, 69] = [100, 100, 103]
    picture = open_picture(encoded(Image.fromarray(tinted), "png"))
    assert not picture.neutral
    alpha = np.ones((130, 70), np.float32)
    alpha[129, 69] = 0
    assert is_neutral(picture.pixels, alpha), "what cannot be seen does not count"
