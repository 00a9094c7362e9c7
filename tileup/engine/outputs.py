"""Where each result goes: names by template, folders mirrored, companions beside the output."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from tileup.engine import naming
from tileup.engine.request import AUTO, STREAM, Input, Job, Request, Standing
from tileup.engine.room import check_room
from tileup.errors import InputError, OutputError, TileupError, UsageError
from tileup.images.first_bytes import recognised_name
from tileup.images.formats.known import WRITTEN
from tileup.images.kept import can_be_kept
from tileup.images.reading import check_size, opened
from tileup.images.sizes import check_format_limit, is_reached, output_size, scale_label
from tileup.images.writing import resolve_format
from tileup.settings.values import Settings
from tileup.storage.remote import Remote, place


def make_job(each: Input, request: Request, settings: Settings, many: bool) -> Job:
    """The job of one input: where its files go, and with which seed it is made.

    Args:
        each: the input.
        request: what the user asked for.
        settings: of the run.
        many: whether there are several pictures, so that paths name folders.

    Raises:
        UsageError: a name cannot be made, or no format has its extension.
    """
    seed = naming.seed_of(settings.seed, each.relative) if each.relative else settings.seed
    output = _output(each, request, settings, seed, many)
    if isinstance(output, Remote) and not output.writable:
        raise UsageError(f"{output}: a web address is only read; give -o")
    resolve_format(output, settings.format, None)
    job = Job(
        input=each.path,
        output=output,
        relative=each.relative,
        seed=seed,
        heatmap=_companion(request.heatmap, naming.HEATMAP, each, output, many),
        plan_json=_companion(request.plan_json, naming.PLAN, each, output, many),
        overwrite=request.overwrite,
        batch=many,
    )
    return _decided(job, each, request, settings)


def _decided(job: Job, each: Input, request: Request, settings: Settings) -> Job:
    """The job, and whether its input alone says that nothing is to be made."""
    if each.refusal is not None:
        return replace(job, standing=Standing.IMPOSSIBLE, refusal=each.refusal)
    if each.own:
        return replace(job, standing=Standing.OWN)
    long = next((path for path in job.targets if len(os.fsencode(path.name)) > _LONGEST_NAME), None)
    if long is not None:
        told = OutputError(
            f"{long} has a name of {len(os.fsencode(long.name))} bytes, and disks hold "
            f"{_LONGEST_NAME}; shorten the input's, or give --name or -o"
        )
        return replace(job, standing=Standing.IMPOSSIBLE, refusal=told)
    folder = next((path for path in job.targets if is_local_folder(path)), None)
    if folder is not None:
        told = OutputError(f"{folder} is a folder; name a file in it")
        return replace(job, standing=Standing.IMPOSSIBLE, refusal=told)
    if each.path is not None and not _is_named(request.output, job.batch):
        return replace(job, standing=Standing.LARGE) if is_large(each.path, settings) else job
    return job


def _is_named(output: str | None, many: bool) -> bool:
    """Whether the user waits for one file, or for standard output."""
    return output is not None and (output == STREAM or not is_folder(output, many))


_LONGEST_NAME = 255
"""Bytes of a file's name on the disks in use today."""


def is_large(source: Path, settings: Settings) -> bool:
    """Whether a picture has the wanted size already, where one is wanted and not a factor.

    Args:
        source: a picture; one that cannot be read is not large.
        settings: of the run.
    """
    exact = (settings.size, settings.long_edge, settings.short_edge, settings.max_pixels)
    if all(value is None for value in exact):
        return False
    before = _size(source, settings.max_input_pixels)
    return before is not None and is_reached(*before, settings)


def _output(
    each: Input, request: Request, settings: Settings, seed: int, many: bool
) -> Path | None:
    if request.output == STREAM:
        return None
    if request.output is None:
        return each.path and each.path.parent / _named(each.path, settings, seed)
    if is_folder(request.output, many):
        source = each.path or Path("stdin.png")
        return place(request.output) / each.below / _named(source, settings, seed)
    return place(request.output)


def _companion(
    wanted: str | None, suffix: str, each: Input, output: Path | None, many: bool
) -> Path | None:
    """Where a heatmap or a plan goes."""
    if wanted is None:
        return None
    name = (output.stem if output else "stdout") + suffix
    if wanted == AUTO:
        if output is None:
            raise UsageError("standard output has no place beside it for 'auto'; name a file")
        return output.parent / name
    return place(wanted) / each.below / name if is_folder(wanted, many) else place(wanted)


def is_folder(text: str, many: bool) -> bool:
    """A name without an extension is a folder's, unless there is a file of that name."""
    path = place(text)
    if many or ends_as_folder(text):
        return True
    if isinstance(path, Remote) and path.suffix:  # in a store, a file may share a folder's name
        return False
    return path.is_dir() or not (path.suffix or path.exists())


def is_local_folder(path: Path) -> bool:
    """Whether a folder is where a file is to go. In a store both can have one name."""
    return not isinstance(path, Remote) and path.is_dir()


def ends_as_folder(text: str) -> bool:
    """Whether a path was written so that it can only be a folder."""
    return text.endswith(("/", os.sep))


def _named(source: Path, settings: Settings, seed: int) -> str:
    """Name of one output. The picture's header is read only when the template asks for sizes."""
    template = naming.template_of(settings)
    fields = naming.fields_of(template)
    values = {
        "stem": source.stem,
        "ext": settings.format or _extension(source),
        "seed": str(seed),
        "parent": source.absolute().parent.name,
    }
    if fields & {"scale", "width", "height"}:
        values |= _sizes(source, settings, fields)
    return naming.file_name(template, values)


def _extension(source: Path) -> str:
    """The input's own extension where an output can have it, else that of its format, else png."""
    extension = source.suffix[1:]
    if extension.lower() in WRITTEN:
        return extension
    name = recognised_name(source)
    return name if name in WRITTEN else "png"


def _sizes(source: Path, settings: Settings, fields: frozenset[str]) -> dict[str, str]:
    exact = (settings.size, settings.long_edge, settings.short_edge, settings.max_pixels)
    if not fields & {"width", "height"} and all(value is None for value in exact):
        return {"scale": scale_label(settings.scale)}
    before = _size(source, settings.max_input_pixels)
    if before is None:
        # Reading it will fail later, and then nothing is written under this name.
        return {"scale": scale_label(settings.scale), "width": "0", "height": "0"}
    try:
        width, height = output_size(*before, settings)
    except UsageError:  # as above
        width, height = before
    scale = (width * height / (before[0] * before[1])) ** 0.5
    return {"scale": scale_label(round(scale, 2)), "width": str(width), "height": str(height)}


def foreseen(job: Job, settings: Settings) -> Job:
    """A job with what the header of its input forbids: for a run that only tells.

    A run that makes pictures meets the same when the picture has its turn.
    """
    if job.finished or job.input is None:
        return job
    limit = settings.max_input_pixels
    try:
        with opened(job.input, limit) as (found, where):
            check_size(found, where, limit)
            size = output_size(*found.head.upright, settings)
            format = resolve_format(job.output, settings.format, found.format)
            check_format_limit(*size, format)
            check_room(*size, kept=can_be_kept(job.output, format, *size), output=job.output)
    except TileupError as error:
        return replace(job, standing=Standing.IMPOSSIBLE, refusal=error)
    return job


def output_pixels(job: Job, settings: Settings) -> int | None:
    """How many pixels an output will have, by the header of its input; None where that fails."""
    before = None if job.input is None else _size(job.input, settings.max_input_pixels)
    if before is None:
        return None
    try:
        width, height = output_size(*before, settings)
    except UsageError:
        return None
    return width * height


def _size(source: Path, max_pixels: int) -> tuple[int, int] | None:
    """Upright width and height by the file's header; None where it cannot be read."""
    try:
        with opened(source, max_pixels) as (found, where):
            check_size(found, where, max_pixels)
            return found.head.upright
    except InputError:
        return None
