"""Which files a path stands for: one, the shards of an index, or all of a folder. No torch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tileup.errors import ModelError
from tileup.storage.beside import BESIDE
from tileup.tensors.checkpoint import is_index, shard_names


def files_of(path: Path) -> list[Path]:
    """All files of a checkpoint, a LoRA or what else a path names, in an order of its own.

    Args:
        path: a file or a folder that is there.
    """
    if path.is_dir():
        return sorted(each for each in path.rglob("*") if each.is_file())
    return [path, *(each for each in _beside(path) if each.is_file())]


def _beside(path: Path) -> Iterator[Path]:
    if path.stem in BESIDE:
        yield path.parent / BESIDE[path.stem]
    if is_index(path):
        try:
            yield from (path.parent / name for name in shard_names(path))
        except ModelError:
            return  # said where it is opened
