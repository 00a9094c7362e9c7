"""Prompts as people write them: how much each part counts, what is no text, and where a row ends.

Two ways are in use, those of A1111's web interface and of ComfyUI:

    | written      | a1111                      | comfyui                               |
    | (cat)        | counts 1.1 times as much   | the same                              |
    | [cat]        | counts 1 / 1.1 times       | brackets are text                     |
    | (cat:1.3)    | 1.3 times what is around   | 1.3, whatever is around               |
    | \\( \\)        | parentheses are text       | the same; also \\[ \\] and \\\\ in a1111 |
    | ( unclosed   | counts up to the end       | is text                               |

In both, BREAK begins a new row of tokens, `embedding:name` stands for learned vectors, and
`<lora:name:1>` is no text.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

MORE = 1.1
"""How many times as much counts what stands in parentheses without a number."""
NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)"


@dataclass(frozen=True, slots=True)
class WeightedText:
    """A part of a prompt."""

    text: str
    weight: float = 1.0
    """How much it counts; 1 is plain."""


@dataclass(frozen=True, slots=True)
class EmbeddingRef:
    """A place at which learned vectors stand for words."""

    name: str
    """Of the embedding."""
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Break:
    """What follows begins a new row of tokens."""


Piece = WeightedText | EmbeddingRef | Break


@dataclass(frozen=True, slots=True)
class Tag:
    """A network that a prompt asks for, as in `<lora:name:0.8>`."""

    kind: str
    """lora, lyco or hypernet."""
    name: str
    weight: float
    """The first number behind the name; 1 without one."""
    text: str
    """As it was written."""


@dataclass(frozen=True, slots=True)
class ParsedPrompt:
    """A prompt, read."""

    pieces: tuple[Piece, ...]
    tags: tuple[Tag, ...]
    changing: tuple[str, ...] = ()
    """What A1111 would change on the way, as it was written: `[cat:dog:0.5]`. It is read as what
    it becomes in the end, and `[cat|dog]` as its first word."""

    @property
    def weighted(self) -> bool:
        """Whether some part counts more or less than plain text."""
        return any(not isinstance(each, Break) and each.weight != 1 for each in self.pieces)

    @property
    def plain(self) -> str:
        """The words alone, for encoders that read plain text."""
        if len(self.pieces) == 1 and isinstance(self.pieces[0], WeightedText):
            return self.pieces[0].text
        texts = (each.text if isinstance(each, WeightedText) else " " for each in self.pieces)
        return re.sub(r"\s+", " ", "".join(texts)).strip()


def read_prompt(text: str, style: str, embeddings: Collection[str] = ()) -> ParsedPrompt:
    """A prompt in its parts.

    Args:
        text: as somebody wrote it.
        style: a1111, comfyui, or none: then parentheses, brackets and BREAK are text.
        embeddings: names, in small letters, that stand for embeddings also without `embedding:`
            before them, except in the style comfyui.
    """
    text, tags = _without_tags(text)
    text, changing = _settled(text) if style == "a1111" else (text, ())
    named = _names(() if style == "comfyui" else embeddings)
    pieces: list[Piece] = []
    for words in _merged(_READERS[style](text)):
        pieces += _pieces(words, named, breaks=style != "none")
    return ParsedPrompt(tuple(pieces), tags, changing)


def tags_of(text: str) -> tuple[Tag, ...]:
    """The networks that a prompt asks for."""
    return _without_tags(text)[1]


_TAG = re.compile(r"<(lora|lyco|hypernet):([^:<>]+)((?::[^<>]*)?)>", re.IGNORECASE)


def _without_tags(text: str) -> tuple[str, tuple[Tag, ...]]:
    tags = tuple(
        Tag(each[1].lower(), each[2].strip(), _first_number(each[3]), each[0])
        for each in _TAG.finditer(text)
    )
    return _TAG.sub("", text), tags


def _first_number(arguments: str) -> float:
    match = re.search(rf"(?::|=)\s*({NUMBER})\s*(?=:|$)", arguments)
    return float(match[1]) if match else 1.0


_PART = r"(?:[^\[\]\\:|()]|\([^()\[\]]*\))*"
_CHANGING = re.compile(
    rf"(?<!\\)\[(?:(?P<to>{_PART})|{_PART}:(?P<then>{_PART})):\s*{NUMBER}\s*\]"
    rf"|(?<!\\)\[(?P<first>{_PART})(?:\|{_PART})+\]"
)
"""`[to:when]`, `[from:to:when]` and `[one|other]`, with nothing of the kind inside."""


def _settled(text: str) -> tuple[str, tuple[str, ...]]:
    """A text without what changes on the way, and what that was, the innermost first."""
    found: list[str] = []

    def settle(match: re.Match[str]) -> str:
        found.append(match[0])
        return next(each for each in match.group("to", "then", "first") if each is not None)

    while (settled := _CHANGING.sub(settle, text)) != text:
        text = settled
    return text, tuple(found)


_MARKS = re.compile(rf"\\[()\[\]\\]|\\|[()\[\]]|:\s*({NUMBER})\s*\)|[^\\()\[\]:]+|:")


def _a1111(text: str) -> Iterator[WeightedText]:
    """By A1111's rules: each closed bracket multiplies the weight of all that it holds."""
    found: list[tuple[str, float]] = []
    opened: dict[str, list[int]] = {"(": [], "[": []}

    def close(kind: str, factor: float) -> None:
        start = opened[kind].pop()
        found[start:] = [(each, weight * factor) for each, weight in found[start:]]

    for mark in _MARKS.finditer(text):
        token, number = mark[0], mark[1]
        if token in opened:
            opened[token].append(len(found))
        elif number is not None and opened["("]:
            close("(", float(number))
        elif token == ")" and opened["("]:
            close("(", MORE)
        elif token == "]" and opened["["]:
            close("[", 1 / MORE)
        else:
            found.append((token.removeprefix("\\"), 1.0))
    for kind, factor in (("(", MORE), ("[", 1 / MORE)):
        while opened[kind]:
            close(kind, factor)
    return (WeightedText(each, weight) for each, weight in found)


def _comfyui(text: str) -> Iterator[WeightedText]:
    """By ComfyUI's rules: a number says what its parentheses count, whatever is around them."""
    hidden = text.replace("\\(", _ESCAPED[0]).replace("\\)", _ESCAPED[1])
    for words in _nested(hidden):
        shown = words.text.replace(_ESCAPED[0], "(").replace(_ESCAPED[1], ")")
        yield WeightedText(shown, words.weight)


_ESCAPED = ("\ue000", "\ue001")
"""What stands for parentheses that are text; two of Unicode's private characters."""


def _nested(text: str) -> Iterator[WeightedText]:
    closed = dict(_closed(text))
    weights, ends = [1.0], [(len(text), len(text))]
    start = 0
    for place in range(len(text)):
        if place < start:
            continue
        if place in closed:
            yield WeightedText(text[start:place], weights[-1])
            start, stop = place + 1, closed[place]
            colon = text.rfind(":", start + 1, stop)
            if colon >= 0 and re.fullmatch(rf"\s*{NUMBER}\s*", text[colon + 1 : stop]):
                weights.append(float(text[colon + 1 : stop]))
                ends.append((colon, stop + 1))
            else:
                weights.append(weights[-1] * MORE)
                ends.append((stop, stop + 1))
        elif place == ends[-1][0]:
            yield WeightedText(text[start:place], weights.pop())
            start = ends.pop()[1]
    yield WeightedText(text[start:], weights[-1])


def _closed(text: str) -> Iterator[tuple[int, int]]:
    """Where the parentheses stand that are closed, and where they are."""
    opened: list[int] = []
    for place, character in enumerate(text):
        if character == "(":
            opened.append(place)
        elif character == ")" and opened:
            yield opened.pop(), place


def _plain(text: str) -> Iterator[WeightedText]:
    """All of it is text."""
    yield WeightedText(text)


_READERS = {"a1111": _a1111, "comfyui": _comfyui, "none": _plain}


def _merged(found: Iterator[WeightedText]) -> list[WeightedText]:
    """Neighbours of one weight as one text, so that words are not cut where a mark was."""
    merged: list[WeightedText] = []
    for each in found:
        if merged and merged[-1].weight == each.weight:
            merged[-1] = WeightedText(merged[-1].text + each.text, each.weight)
        elif each.text:
            merged.append(each)
    return merged or [WeightedText("")]


def _names(embeddings: Collection[str]) -> re.Pattern[str]:
    """Finds embeddings in a text, by `embedding:` before any name or by the names themselves."""
    known = sorted(map(re.escape, embeddings), key=len, reverse=True)
    bare = f"|(?<![\\w-])({'|'.join(known)})(?![\\w-])" if known else "|(?!)()"
    return re.compile(rf"\bembedding:([^\s,:<>()\[\]]+){bare}", re.IGNORECASE)


def _pieces(words: WeightedText, named: re.Pattern[str], *, breaks: bool) -> Iterator[Piece]:
    rows = re.split(r"\s*\bBREAK\b\s*", words.text) if breaks else [words.text]
    for number, row in enumerate(rows):
        if number:
            yield Break()
        yield from _with_embeddings(WeightedText(row, words.weight), named)


def _with_embeddings(words: WeightedText, named: re.Pattern[str]) -> Sequence[Piece]:
    pieces: list[Piece] = []
    done = 0
    for match in named.finditer(words.text):
        pieces.append(WeightedText(words.text[done : match.start()], words.weight))
        pieces.append(EmbeddingRef(match[1] or match[2], words.weight))
        done = match.end()
    pieces.append(WeightedText(words.text[done:], words.weight))
    return [each for each in pieces if not (isinstance(each, WeightedText) and not each.text)]
