"""Prompts as people write them: the table of what each way of writing means, in both styles."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tileup.text.chunks import BACKTRACK, COMMA, LARGE, Group, chunks_of
from tileup.text.emphasis import Break, EmbeddingRef, Piece, WeightedText, read_prompt, tags_of
from tileup.text.recipes import clip_l
from tileup.text.tokens import CHUNK, CLIP_END, CLIP_START, clip_ids

# Written, what a1111 makes of it, what comfyui makes of it where that is something else. Numbers
# are the weights of those programs' documents: 1.1 for parentheses, 1 / 1.1 for brackets, a number
# as it is; where they lie in one another a1111 multiplies, comfyui takes the inner number.
TABLE: list[tuple[str, list[object], list[object] | None]] = [
    ("a cat", ["a cat"], None),
    ("", [""], None),
    ("a (cat) sat", ["a ", ("cat", 1.1), " sat"], None),
    ("((cat))", [("cat", 1.1**2)], None),
    ("(red:1.3) cat", [("red", 1.3), " cat"], None),
    ("(red :  1.3 ) cat", [("red ", 1.3), " cat"], None),
    ("(red:.5)", [("red", 0.5)], None),
    ("(red:-1)", [("red", -1.0)], None),
    ("(red:0)", [("red", 0.0)], None),
    ("[blue] sky", [("blue", 1 / 1.1), " sky"], ["[blue] sky"]),
    ("[[blue]]", [("blue", 1.1**-2)], ["[[blue]]"]),
    ("([both])", ["both"], [("[both]", 1.1)]),
    (
        "(a (b:1.5) c)",
        [("a ", 1.1), ("b", 1.65), (" c", 1.1)],
        [("a ", 1.1), ("b", 1.5), (" c", 1.1)],
    ),
    ("(a (b) c:2)", [("a ", 2.0), ("b", 2.2), (" c", 2.0)], None),
    (r"a \(film\) still", ["a (film) still"], None),
    (r"(\(film\):1.2)", [("(film)", 1.2)], None),
    (r"a \[b\] \\ c", ["a [b] \\ c"], [r"a \[b\] \\ c"]),
    ("a:b", ["a:b"], None),
    ("at 10:30", ["at 10:30"], None),
    ("(time 10:30)", [("time 10", 30.0)], None),
    ("(a:b)", [("a:b", 1.1)], None),
    ("(a:b:1.2)", [("a:b", 1.2)], None),
    ("a [cat:dog:0.5] b", ["a dog b"], ["a [cat:dog:0.5] b"]),
    ("[dog:5] b", ["dog b"], ["[dog:5] b"]),
    ("a[, cat::0.5]", ["a"], ["a[, cat::0.5]"]),
    ("[(cat:1.2):dog:0.5]", ["dog"], ["[", ("cat", 1.2), ":dog:0.5]"]),
    ("[[cat:dog:3]:bird:0.5]", ["bird"], ["[[cat:dog:3]:bird:0.5]"]),
    ("[cat|dog] x", ["cat x"], ["[cat|dog] x"]),
    (r"\[a:b:0.5\]", ["[a:b:0.5]"], [r"\[a:b:0.5\]"]),
    ("a) b", ["a) b"], None),
    ("a:1.2) b", ["a:1.2) b"], None),
    ("(a b", [("a b", 1.1)], ["(a b"]),
    ("((a) b", [("a", 1.1**2), (" b", 1.1)], ["(", ("a", 1.1), " b"]),
    ("()", [""], None),
    ("a BREAK b", ["a", Break(), "b"], None),
    ("a BREAKFAST", ["a BREAKFAST"], None),
    ("a break b", ["a break b"], None),
    ("a,BREAK,b", ["a,", Break(), ",b"], None),
    ("(a BREAK b:1.2)", [("a", 1.2), Break(), ("b", 1.2)], None),
    ("a <lora:x:0.8> b", ["a  b"], None),
    ("(a <lora:x:0.8>:1.2)", [("a ", 1.2)], None),
    ("embedding:bad-hands", [EmbeddingRef("bad-hands")], None),
    ("a (embedding:x.v2:1.2), b", ["a ", EmbeddingRef("x.v2", 1.2), ", b"], None),
    ("embedding:x, embedding:y", [EmbeddingRef("x"), ", ", EmbeddingRef("y")], None),
    ("a easyneg", ["a ", EmbeddingRef("easyneg")], ["a easyneg"]),
    ("(EasyNeg:1.2)", [EmbeddingRef("EasyNeg", 1.2)], [("EasyNeg", 1.2)]),
    ("not-easyneg easynegs", ["not-easyneg easynegs"], None),
]  # fmt: skip


def pieces(wanted: list[object]) -> list[object]:
    """Texts and pairs as pieces."""
    return [
        WeightedText(each)
        if isinstance(each, str)
        else WeightedText(*each)
        if isinstance(each, tuple)
        else each
        for each in wanted
    ]


def same(first: Piece, second: object) -> bool:
    if isinstance(first, Break):
        return first == second
    assert isinstance(second, WeightedText | EmbeddingRef)
    named = (first.text if isinstance(first, WeightedText) else first.name) == (
        second.text if isinstance(second, WeightedText) else second.name
    )
    return type(first) is type(second) and named and first.weight == pytest.approx(second.weight)


@pytest.mark.parametrize(("text", "a1111", "comfyui"), TABLE, ids=[row[0] for row in TABLE])
def test_the_table(text: str, a1111: list[object], comfyui: list[object] | None) -> None:
    for style, wanted in (("a1111", a1111), ("comfyui", a1111 if comfyui is None else comfyui)):
        found = read_prompt(text, style, ["easyneg"]).pieces
        expected = [each for each in pieces(wanted) if each != WeightedText("") or len(wanted) == 1]
        if not found:
            assert expected == [WeightedText("")], (style, found)
        else:
            assert len(found) == len(expected), (style, found)
            assert all(map(same, found, expected)), (style, found)


def test_without_a_style_brackets_are_text() -> None:
    text = r"(a:1.2) [b] \(c\) BREAK"
    assert read_prompt(text, "none").pieces == (WeightedText(text),)
    assert read_prompt("a embedding:x", "none").pieces == (WeightedText("a "), EmbeddingRef("x"))


@pytest.mark.parametrize(
    ("text", "kind", "name", "weight"),
    [
        ("<lora:add detail:0.8>", "lora", "add detail", 0.8),
        ("<lora:x>", "lora", "x", 1.0),
        ("<lora:x:-.5>", "lora", "x", -0.5),
        ("<LoRA:x:1:0>", "lora", "x", 1.0),
        ("<lora:x:te=0.5:unet=0.6>", "lora", "x", 0.5),
        ("<lora:x:0.7:lbw=OUTALL>", "lora", "x", 0.7),
        ("<hypernet:y:1>", "hypernet", "y", 1.0),
        ("<lyco:z:1>", "lyco", "z", 1.0),
    ],
)
def test_tags(text: str, kind: str, name: str, weight: float) -> None:
    (tag,) = tags_of(f"a {text} b")
    assert (tag.kind, tag.name, tag.weight, tag.text) == (kind, name, weight, text)


def test_what_is_no_tag_is_text() -> None:
    for text in ("a <b> c", "<lora:>", "<lora>", "1 < 2 > 0", "<segment:x:1>"):
        assert tags_of(text) == ()
        assert read_prompt(text, "comfyui").plain == text


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("a (red:1.3) cat, ((b))", "a red cat, b"),
        ("a BREAK b", "a b"),
        ("a <lora:x:1>, embedding:y b", "a , b"),
        (" kept  as\nit is ", " kept  as\nit is "),
        (r"a \(b\)", "a (b)"),
    ],
)
def test_plain_text(text: str, plain: str) -> None:
    assert read_prompt(text, "a1111").plain == plain


@given(st.text("ab :.1(){}[]\\<>,BREAK\n", max_size=40), st.sampled_from(["a1111", "comfyui"]))
def test_no_letter_is_lost_and_none_comes_in(text: str, style: str) -> None:
    """Whatever the brackets: the letters of the words are those of the text, in order."""
    read = read_prompt(text, style)
    words = "".join(each.text for each in read.pieces if isinstance(each, WeightedText))
    kept = re.sub(r"\s*\bBREAK\b\s*", "", "".join(re.findall(r"[abBREAK]", text)))
    assert re.sub("BREAK", "", re.sub(r"[^abBREAK]", "", words)) == re.sub("BREAK", "", kept)


@pytest.mark.parametrize("style", ["a1111", "comfyui"])
def test_any_depth_of_brackets_is_read(style: str) -> None:
    deep = read_prompt("(" * 4000 + "a:0.5" + ")" * 4000, style).pieces
    assert [each.text for each in deep if isinstance(each, WeightedText)] == ["a"]
    open_only = read_prompt("(" * 4000 + "a", style)
    assert open_only.plain.lstrip("(") == "a"


USE = clip_l(skip=0, normed=True)


def filled(groups: list[Group | None], style: str) -> list[tuple[int, ...]]:
    """Tokens of each line without marks and padding."""
    lines = chunks_of(groups, USE, style)
    for line in lines:
        assert len(line.ids) == len(line.weights) == CHUNK + 2
        assert line.ids[0] == CLIP_START
        assert line.weights[0] == 1
    ends = [line.ids.index(CLIP_END) for line in lines]
    return [line.ids[1:end] for line, end in zip(lines, ends, strict=True)]


def tokens(count: int, first: int = 1000) -> tuple[int, ...]:
    return tuple(range(first, first + count))


@pytest.mark.parametrize("style", ["a1111", "comfyui", "none"])
@pytest.mark.parametrize("count", [0, 1, 74, 75, 76, 150, 151])
def test_plain_text_is_cut_at_75(style: str, count: int) -> None:
    ids = tokens(count)
    cut = filled([Group(ids)], style)
    assert [len(line) for line in cut] == [
        min(CHUNK, count - start) for start in range(0, max(count, 1), CHUNK)
    ]
    assert sum(cut, ()) == ids


@pytest.mark.parametrize(
    ("behind", "moved"), [(1, True), (BACKTRACK - 1, True), (BACKTRACK, False)]
)
def test_a1111_takes_over_what_stands_behind_a_comma(behind: int, moved: bool) -> None:
    """Where the comma is among the last 20 tokens of a full line, and more is to come."""
    before = (*tokens(CHUNK - 1 - behind), COMMA)
    phrase = tokens(behind, 2000)
    more = tokens(5, 3000)
    assert filled([Group(before + phrase)], "a1111") == [before + phrase]
    wanted = [before, phrase + more] if moved else [before + phrase, more]
    assert filled([Group(before + phrase + more)], "a1111") == wanted
    assert filled([Group(before + phrase + more)], "comfyui") == [before + phrase, more]


@pytest.mark.parametrize("count", [LARGE - 1, LARGE])
def test_comfyui_takes_over_a_short_part_that_does_not_fit(count: int) -> None:
    groups = [Group(tokens(73)), Group(tokens(count, 2000), 1.2)]
    cut = filled(groups, "comfyui")
    first = groups[0].ids
    part = groups[1].ids
    assert cut == ([first, part] if count < LARGE else [first + part[:2], part[2:]])
    assert filled(groups, "a1111") == [first + part[:2], part[2:]]


@pytest.mark.parametrize("style", ["a1111", "comfyui"])
def test_break_begins_a_line(style: str) -> None:
    groups = [Group(tokens(3)), None, Group(tokens(2, 2000))]
    assert filled(groups, style) == [tokens(3), tokens(2, 2000)]
    assert filled([None, *groups], style) == [(), tokens(3), tokens(2, 2000)]


def test_vectors_of_an_embedding_stand_in_one_line() -> None:
    groups = [Group(tokens(70)), Group(tokens(8, 50000), whole=True), Group(tokens(2))]
    assert filled(groups, "a1111") == [tokens(70), tokens(8, 50000) + tokens(2)]


def test_weights_stand_at_their_tokens() -> None:
    words = [Group(tuple(clip_ids("a red")), 1.0), Group(tuple(clip_ids("cat")), 1.3)]
    (line,) = chunks_of(words, USE, "a1111")
    assert line.ids[:5] == (CLIP_START, *clip_ids("a red cat"), CLIP_END)
    assert line.weights == (1, 1, 1, 1.3, *[1] * 73)
    assert line.weighted
