"""Whatever a file holds, it opens, or is refused in words: never another error."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.checkpoints import headers
from tileup.checkpoints.describe import describe
from tileup.checkpoints.find import identify
from tileup.errors import TileupError

PLAIN = {
    "sd1": headers.sd1_file(width=8),
    "sd2": headers.sd2_file(),
    "sdxl": headers.sdxl_file(depths=(0, 1, 1), middle=1),
    "sd3": headers.sd3_file(),
    "flux": headers.flux(),
    "vae": headers.vae(),
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


def tried(content: bytes, suffix: str = ".safetensors") -> str:
    """The family of a file with this content, or `` where it is refused."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"m{suffix}"
        path.write_bytes(content)
        return looked_at(path)


def looked_at(path: Path) -> str:
    """The family of a file, or `` where it is refused in one line that is not endless."""
    found, message = "", ""
    for look in (describe, identify):
        try:
            found = look(path).family
        except TileupError as error:
            message = str(error)
    assert "\n" not in message
    assert len(message) < 3000
    return found


def packed(header: object) -> bytes:
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text


@given(st.binary(max_size=200), st.sampled_from([".safetensors", ".ckpt", ".index.json"]))
@example(b"\x80\x02", ".ckpt")
@example(b"\x80\x02}q\x00.", ".pt")
@example(b"PK\x03\x04", ".ckpt")
@settings(deadline=None, max_examples=40)
def test_any_bytes(content: bytes, suffix: str) -> None:
    assert tried(content, suffix) == ""


@given(JSON)
@settings(deadline=None, max_examples=40)
def test_any_json_as_a_header(header: object) -> None:
    assert tried(packed(header)) == ""


ENTRY = st.fixed_dictionaries(
    {},
    optional={
        "dtype": JSON | st.sampled_from(["F16", "F32", "F8_E4M3", "Q4"]),
        "shape": JSON | st.lists(st.integers(-2, 5), max_size=5),
        "data_offsets": JSON | st.lists(st.integers(-5, 50), min_size=1, max_size=3),
    },
)


@given(st.dictionaries(st.text() | st.sampled_from([*PLAIN["sd1"]]), ENTRY | JSON), JSON)
@settings(deadline=None, max_examples=60)
def test_any_entries(entries: dict[str, Any], metadata: object) -> None:
    assert tried(packed({"__metadata__": metadata} | entries)) == ""


@given(st.sampled_from([*PLAIN]), st.data())
@settings(deadline=None, max_examples=40)
def test_published_layouts_with_names_left_out_and_shapes_changed(
    name: str, data: st.DataObject
) -> None:
    shapes = dict(PLAIN[name])
    names = sorted(shapes)
    for _ in range(data.draw(st.integers(0, 3))):
        shapes.pop(data.draw(st.sampled_from(names)), None)
    for _ in range(data.draw(st.integers(0, 3))):
        changed = data.draw(st.sampled_from(names))
        shapes[changed] = tuple(data.draw(st.lists(st.integers(0, 3), max_size=5)))
    if data.draw(st.booleans()):
        start = data.draw(st.sampled_from(["input_blocks", "middle", "output_blocks", "joint"]))
        shapes = {key: shape for key, shape in shapes.items() if start not in key}
    with tempfile.TemporaryDirectory() as folder:
        looked_at(headers.save_head(Path(folder) / "m.safetensors", shapes))


def test_the_layouts_that_are_changed_are_known_unchanged(tmp_path: Path) -> None:
    families = [
        describe(headers.save_head(tmp_path / "m.safetensors", shapes)).family
        for shapes in PLAIN.values()
    ]
    assert families == ["sd1", "sd2", "sdxl", "sd3", "flux-dev", ""]
