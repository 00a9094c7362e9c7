"""Tables in documents that benches write, so that no figure is typed by hand."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table; the first column is text, the others are figures."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def write(document: str, name: str, text: str) -> None:
    """Replace what stands between `<!-- name -->` and `<!-- /name -->` in a document.

    Raises:
        SystemExit: the document has no such place.
    """
    path = ROOT / document
    content = path.read_text(encoding="utf-8")
    start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    if start not in content or end not in content:
        raise SystemExit(f"{document} has no place {start} … {end}")
    before, rest = content.split(start, 1)
    after = rest.split(end, 1)[1]
    path.write_text(f"{before}{start}\n{text}\n{end}{after}", encoding="utf-8")


def commit() -> str:
    """The commit that is measured, in short."""
    asked = ["git", "rev-parse", "--short", "HEAD"]
    done = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def read(document: str, name: str) -> list[list[str]]:
    """The rows of a table between the same marks, without its head; none where it is empty."""
    content = (ROOT / document).read_text(encoding="utf-8")
    inside = content.partition(f"<!-- {name} -->")[2].partition(f"<!-- /{name} -->")[0]
    lines = [line for line in inside.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def pictures(data: Path, folder: str, pattern: str) -> list[Path]:
    """Pictures of a folder of the bench data, in order.

    Raises:
        SystemExit: there are none; says what to do.
    """
    found = sorted((data / folder).glob(pattern))
    if not found:
        raise SystemExit(
            f"bench: no {pattern} in {data / folder}.\n"
            "  Point DATA at the folder of test pictures, for example make bench DATA=/path/to/data"
        )
    return found
