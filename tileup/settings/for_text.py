"""What the picture shall show, and the seed of its noise."""

from __future__ import annotations

from dataclasses import dataclass

from tileup.settings import checks
from tileup.settings.checks import one_of, within
from tileup.settings.setting import Panel, setting
from tileup.wording import listed

EMPHASES = ("a1111", "comfyui", "none")
"""Ways of writing that a part of a prompt counts more or less."""


@dataclass(frozen=True, init=False, repr=False, eq=False)
class TextSettings:
    """What the picture shall show, and the seed of its noise."""

    __slots__ = ()

    prompt: str = setting(
        "",
        Panel.TEXT,
        "TEXT",
        "What the picture shows (default: the family's own).",
        names="--prompt -p",
    )
    negative: str = setting("", Panel.TEXT, "TEXT", "What it shall not look like.")
    cfg: float = setting(
        1.0,
        Panel.TEXT,
        "0..30",
        "Classifier-free guidance; 1 leaves it out, at half the cost.",
        within(0, 30),
    )
    guidance: float | None = setting(
        None, Panel.TEXT, "0..30", "What FLUX dev is told (default: 3.5).", within(0, 30)
    )
    cfg_norm: bool = setting(
        False,
        Panel.TEXT,
        "",
        "Guidance turns what a flow predicts and keeps its length in each patch, as Qwen-Image's "
        "authors have it.",
        names="--cfg-norm/--no-cfg-norm",
    )
    prompt_file: bool = setting(
        False,
        Panel.TEXT,
        "",
        "A text file beside a picture, a.txt for a.png, is its prompt.",
        names="--prompt-file/--no-prompt-file",
    )
    prompt_embeds: str | None = setting(
        None,
        Panel.TEXT,
        "FILE",
        "Encoded prompts, so that no text encoder is loaded.",
        loading=True,
    )
    emphasis: str = setting(
        "a1111",
        Panel.TEXT,
        "STYLE",
        f"Whose weights, as in (red:1.3): {listed(EMPHASES, 'or')} (default: {{default}}).",
        one_of(EMPHASES),
        loading=True,
    )
    embedding: tuple[str, ...] = setting(
        (),
        Panel.TEXT,
        "FILE",
        "A textual inversion, which prompts call as its file is called; can be given several "
        "times.",
        loading=True,
    )
    clip_skip: int | None = setting(
        None,
        Panel.TEXT,
        "N",
        "Layer of CLIP from the end whose features count, 1 the last (default: the family's own).",
        within(1, 24),
        loading=True,
    )
    seed: int = setting(
        0,
        Panel.SAMPLING,
        "N",
        "Same seed, settings and picture: same result (default: {default}).",
        checks.seed,
        behind="scheduler",
    )
