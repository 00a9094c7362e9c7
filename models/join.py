"""One checkpoint of two networks: `python -m models.join BASE VIVID -o FILE`.

The first file gives the network that keeps to the source, the second the one that draws texture.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from models.training.files import Parts, read_parts, write_parts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("base", type=Path)
    parser.add_argument("vivid", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True)
    arguments = parser.parse_args()
    vivid = read_parts(arguments.vivid).vivid
    if vivid is None:
        raise SystemExit(f"join: {arguments.vivid} has no network that draws texture")
    write_parts(Parts(read_parts(arguments.base).base, vivid), arguments.out)


if __name__ == "__main__":
    main()
