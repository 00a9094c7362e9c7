"""Networks of several checkpoints in one: `python -m models.join base:A vivid:B deblock:C -o FILE`.

A part that is not named is left out; there is always a base.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from models.average import chosen
from models.training.files import Parts, read_parts, write_parts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="+", metavar="NETWORK:FILE")
    parser.add_argument("-o", "--out", type=Path, required=True)
    arguments = parser.parse_args()
    named = dict(part.split(":", 1) for part in arguments.parts)
    if "base" not in named:
        raise SystemExit("join: name a base")
    parts = {name: chosen(read_parts(Path(file)), name) for name, file in named.items()}
    write_parts(Parts(**parts), arguments.out)


if __name__ == "__main__":
    main()
