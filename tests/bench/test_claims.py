"""What strength shall show, judged on figures made up for the purpose."""

from __future__ import annotations

import importlib.util

import pytest

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("skimage") is None, reason="the extra bench is not installed"
)


def figures() -> dict[str, dict[str, float]]:
    """All that is promised, with a little to spare."""
    from bench.methods import QUADTREE, STRENGTHS, uniform

    energies = dict(zip(STRENGTHS, (0.70, 0.80, 0.90, 0.93), strict=True))
    found = {
        uniform(strength): {
            "PSNR": 30.2,
            "SSIMULACRA2": 61.0,
            "NIQE": 9.0 - 3 * strength,
            "texture distance": 0.30 - 0.2 * strength,
            "gradient energy": energy,
            "energy, busy": energy,
            "grain, flat": 10.0,
        }
        for strength, energy in energies.items()
    }
    found[QUADTREE] = {"SSIMULACRA2": 62.5, "energy, busy": 0.90, "grain, flat": 10.5}
    return found


def test_what_holds_is_said_to_hold() -> None:
    from bench.texture import claims

    found = list(claims(figures()))
    assert len(found) == 10
    assert [str(each) for each in found if not each.holds] == []


@pytest.mark.parametrize(
    ("name", "figure", "value", "text"),
    [
        ("tileup, uniform 0.8", "gradient energy", 0.91, "gradient energy of 0.8"),
        ("tileup, uniform 0.6", "gradient energy", 0.79, "smallest rise"),
        ("tileup, uniform 0.8", "NIQE", 7.1, "NIQE of 0.8,"),
        ("tileup, uniform 0.8", "texture distance", 0.24, "texture distance"),
        ("tileup, uniform 0.8", "SSIMULACRA2", 59.9, "SSIMULACRA2 of 0.8"),
        ("tileup, quadtree 0.2 to 0.8", "SSIMULACRA2", 61.9, "SSIMULACRA2 of the quadtree"),
        ("tileup, uniform 0.2", "PSNR", 30.05, "PSNR of 0.2"),
        ("tileup, quadtree 0.2 to 0.8", "energy, busy", 0.85, "busy quarter"),
        ("tileup, quadtree 0.2 to 0.8", "grain, flat", 11.1, "flat half"),
    ],
)
def test_what_falls_short_is_said_and_nothing_else(
    name: str, figure: str, value: float, text: str
) -> None:
    from bench.texture import claims

    changed = figures()
    changed[name][figure] = value
    missed = [str(each) for each in claims(changed) if not each.holds]
    assert len(missed) == 1
    assert missed[0].startswith("NOT ")
    assert text.rstrip(",") in missed[0]
