"""Texts of programs that make pictures: which they are, and whose."""

from __future__ import annotations

from collections.abc import Mapping

PARAMETERS = "parameters"
"""Keyword of A1111's text, and of ours."""
OWN = "tileup"
"""Keyword of our settings."""
_KEYWORDS = frozenset(
    {
        *(PARAMETERS, "prompt", "workflow"),  # A1111, Fooocus, ComfyUI
        *("invokeai_metadata", "invokeai_graph", "invokeai_workflow", "sd-metadata", "Dream"),
        *("fooocus_scheme", "generation_data", "generation_info", "extras", "postprocessing"),
    }
)
_NOVELAI = frozenset({"Title", "Description", "Software", "Source", "Comment", "Generation time"})


def keywords_of_generators(text: Mapping[str, str]) -> frozenset[str]:
    """The keywords among these texts under which a generator wrote."""
    novel = _NOVELAI if text.get("Software", "").startswith("NovelAI") else frozenset[str]()
    return (_KEYWORDS | novel) & text.keys()


def is_ours(parameters: str) -> bool:
    """Whether tileup wrote a text."""
    return "Version: tileup " in parameters


def foreign(text: Mapping[str, str]) -> dict[str, str]:
    """What other generators than tileup wrote."""
    found = keywords_of_generators(text)
    return {
        name: each
        for name, each in text.items()
        if name in found and not (name == PARAMETERS and is_ours(each))
    }


def personal(text: Mapping[str, str]) -> dict[str, str]:
    """What no generator wrote."""
    left = {*keywords_of_generators(text), OWN}
    return {name: each for name, each in text.items() if name not in left}
