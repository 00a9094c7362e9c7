"""A name that says v of a file that does not is pointed out."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.checkpoints import headers
from tests.checkpoints.headers import save_head
from tests.checkpoints.test_few_steps import notes

MARKS = {"v_pred": (0,), "ztsnr": (0,)}


@pytest.mark.parametrize(
    ("name", "metadata", "word"),
    [
        ("NoobAI-XL-Vpred-v1.0", {}, "vpred"),
        ("noobaiXL_vPred10Version", {}, "vpred"),
        ("myMerge_v-pred_zsnr", {}, "v-pred"),
        ("mine_ZTSNR", {}, "ztsnr"),
        ("mine", {"modelspec.title": "Illustrious, v prediction"}, "v prediction"),
        ("mine", {"modelspec.prediction_type": "epsilon", "modelspec.title": "not vpred"}, None),
        ("noobaiXL_epsilonPred11", {}, None),
        ("prediction_of_v", {}, None),
        ("illustriousXL_v01", {}, None),
    ],
)
def test_a_name_that_says_v_is_pointed_out(
    tmp_path: Path, name: str, metadata: dict[str, str], word: str | None
) -> None:
    path = save_head(tmp_path / f"{name}.safetensors", headers.sdxl_file(), metadata=metadata)
    found = notes(path)
    assert len(found) == (word is not None)
    for note in found:
        assert f"says {word}: --prediction v-zsnr" in note
    assert notes(path, prediction="eps") == notes(path, prediction="v") == ()
    marked = save_head(tmp_path / "m.safetensors", headers.sdxl_file() | MARKS, metadata=metadata)
    assert notes(marked.rename(path)) == ()
