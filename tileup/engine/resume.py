"""What is left to do: each job held against the journal, before anything is computed."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from tileup.checkpoints.find import named_model
from tileup.checkpoints.prompted import files_in
from tileup.engine.journal import Fingerprint, Record, fingerprint_of
from tileup.engine.journals import Journals
from tileup.engine.request import REPLACED, Job, Policy, Standing
from tileup.engine.stamp import Stamp, stamp_of
from tileup.errors import (
    ExitCode,
    InputError,
    OutputExistsError,
    RecordedFailureError,
    TileupError,
)
from tileup.images.exif import BROKEN
from tileup.images.formats.format import UnreadableError
from tileup.images.reading import MAX_PIXELS, check_whole, opened
from tileup.settings.values import Settings, parse_weighted
from tileup.storage.copies import given_file
from tileup.storage.remote import is_there
from tileup.storage.urls import is_url
from tileup.tensors.files import files_of
from tileup.text.prompts import prompt_of, prompt_path

_WITHOUT_EFFECT = frozenset(
    {
        *("device", "threads", "runtime", "compile", "batch", "low_memory"),
        *("name", "suffix", "max_input_pixels"),
    }
)
"""Settings that change no picture beyond rounding, or only where it lies."""
_FILES = frozenset(
    {
        *("mask", "denoise_map", "prompt_embeds", "upscaler", "control"),
        *("vae", "clip_l", "clip_g", "t5", "text_encoder", "tokenizer"),
    }
)
"""Settings that name files."""
_PASSING = frozenset({ExitCode.OUT_OF_MEMORY, ExitCode.CANNOT_WRITE})
"""Failures that say nothing about the picture: a rerun tries it again."""
_BLOCK = 1 << 20
_HASH = 16
"""Characters of a hash of settings."""


def run_hash(settings: Settings, model: Path | None) -> str:
    """Hash of all that was asked for, besides the picture and its prompt.

    Settings at their defaults are left out, so that a later version with more of them redoes
    nothing. Files count by their content and not by their names, also those that are named by a
    prompt, or that were found in the folders of models. The seed counts as it was asked
    for, and not as the seed that a picture of a folder gets from it by its path: a picture is the
    same job by whichever form of the command it is reached.
    """
    usual = {field.name: field.default for field in dataclasses.fields(Settings)}
    values: dict[str, object] = {
        name: value
        for name, value in dataclasses.asdict(settings).items()
        if name not in _WITHOUT_EFFECT and value != usual[name]
    }
    for name in _FILES & values.keys():
        values[name] = contents_of(_place_of(str(values[name])))
    if settings.lora:
        pairs = map(parse_weighted, settings.lora)
        values["lora"] = [(contents_of(_place_of(file)), weight) for file, weight in pairs]
    if settings.embedding:
        values["embedding"] = [contents_of(_place_of(file)) for file in settings.embedding]
    if in_prompts := _in_prompts(settings):
        values["in prompts"] = [contents_of(path) for path in in_prompts]
    values["model"] = None if model is None else contents_of(model)
    return _hash(json.dumps(values, sort_keys=True))


def named_files(settings: Settings) -> dict[str, Path]:
    """All files that settings and their prompts name, the model apart: by their paths, or URLs."""
    values = [getattr(settings, name) for name in sorted(_FILES)]
    values += [parse_weighted(each)[0] for each in settings.lora]
    values += settings.embedding
    names = [str(each) for each in values if each]
    places = {name: _place_of(name) for name in names}
    there = {name if is_url(name) else str(path): path for name, path in places.items()}
    return there | {str(path): path for path in _in_prompts(settings)}


def _in_prompts(settings: Settings) -> list[Path]:
    texts = settings.prompt, settings.negative
    return [path for text in texts for path in files_in(text, settings)]


def _place_of(name: str) -> Path:
    """Where a file is that may be named by its path, or by its name in the folders of models."""
    path = given_file(name)
    return path if path.exists() else named_model(name) or path


def _hash(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()


def contents_of(path: Path) -> str:
    """Hash of a file's size and content; of a large one, such as a checkpoint, of some blocks.

    Of a folder or an index of shards that of all files in it, with what PEFT wrote beside a LoRA;
    of what is neither, such as the name of a method, the hash of its name.
    """
    digest = hashlib.blake2b(digest_size=16)
    if not path.is_file() and not path.is_dir():  # nor is a pipe opened, which would wait for ever
        digest.update(os.fsencode(path))
        return digest.hexdigest()
    for file in files_of(path):
        if file != path:
            digest.update(os.fsencode(file.relative_to(path if path.is_dir() else path.parent)))
        _add_blocks(digest, file)
    return digest.hexdigest()


def _add_blocks(digest: hashlib.blake2b, path: Path) -> None:
    with contextlib.suppress(OSError), path.open("rb") as stream:
        size = path.stat().st_size
        digest.update(str(size).encode())
        parts = max(1, min(64, size // _BLOCK))
        for part in range(parts + 1):
            stream.seek(max(0, size - _BLOCK) * part // parts)
            digest.update(stream.read(_BLOCK))


def marked(
    jobs: Sequence[Job], policy: Policy, settings: Settings, model: Path | None
) -> list[Job]:
    """The jobs of a batch with what is known of each.

    Args:
        jobs: of one request.
        policy: what the user wants with outputs that are there.
        settings: of the run.
        model: the checkpoint's file.
    """
    run, journals = run_hash(settings, model), Journals()
    return [with_standing(_identified(job, policy, run, settings), journals) for job in jobs]


def _identified(job: Job, policy: Policy, run: str, settings: Settings) -> Job:
    """A job with the hash of all that was asked for."""
    if job.decided:
        return job
    prompt = _prompt_mark(job.input, settings) if settings.prompt_file else ""
    return replace(job, fingerprint=run + prompt, policy=policy)


def _prompt_mark(picture: Path | None, settings: Settings) -> str:
    """What tells one prompt beside a picture from another: it follows the hash of the settings."""
    path = prompt_path(picture)
    mark = None if path is None else fingerprint_of(path)
    if mark is None:
        return ""
    with contextlib.suppress(InputError):  # said where the picture is drawn
        named = files_in(prompt_of(picture, settings), settings)
        return _hash("".join([mark.digest, *map(contents_of, named)]))
    return _hash(mark.digest)


def _same_but_for_prompt(one: str, other: str) -> bool:
    """Whether two fingerprints differ in the prompts beside the picture alone, as inputs may."""
    return one[:_HASH] == other[:_HASH]


def with_standing(job: Job, journals: Journals) -> Job:
    """The job as it stands now, by the journal, by what the output says and by what it is."""
    if job.output is None or job.decided:
        return job
    journal = journals.of(job)
    record = None if journal is None else journal.latest(job.output)
    standing = _standing(job, job.output, record)
    return replace(
        job,
        standing=standing,
        refusal=_refusal(job, standing, record),
        overwrite=job.policy.overwrite or standing in REPLACED,
    )


def _standing(job: Job, output: Path, record: Record | None) -> Standing:
    if job.policy.overwrite:
        return Standing.NEW
    if not is_there(output):
        return _without_output(job, record)
    if job.policy.skip_existing:
        return Standing.PRESENT
    if record is not None and record.result is not None and record.result.fits(output):
        return _untouched(job, record)
    stamp = stamp_of(output)
    if record is None and stamp is None:
        return Standing.PRESENT if is_whole(output) else Standing.IN_THE_WAY
    if not is_whole(output) or is_cut(output):
        return Standing.DAMAGED
    if stamp is None or (record is not None and _speak_of_one(record, stamp)):
        return Standing.EDITED
    return _stamped(job, stamp)


def _speak_of_one(record: Record, stamp: Stamp) -> bool:
    """Whether a file still says what is on record of it, though it is another one."""
    source = None if record.source is None else record.source.digest
    return (record.settings, source) == (stamp.settings, stamp.input)


def _without_output(job: Job, record: Record | None) -> Standing:
    if record is None or record.settings != job.fingerprint:
        return Standing.NEW
    if not _is_same(record.source, job.input):
        return Standing.CHANGED
    if record.outcome == "done":
        return Standing.MISSING
    again = job.policy.retry_failed or record.code in _PASSING
    return Standing.RETRIED if again else Standing.FAILED


def _untouched(job: Job, record: Record) -> Standing:
    """Of an output that is what its record says."""
    if not _same_but_for_prompt(record.settings, job.fingerprint):
        return Standing.OTHER_SETTINGS
    if record.settings != job.fingerprint or not _is_same(record.source, job.input):
        return Standing.CHANGED
    return Standing.DONE if all(map(is_there, job.targets)) else Standing.MISSING


def _stamped(job: Job, stamp: Stamp) -> Standing:
    """Of an output that is known by its own words only."""
    if not _same_but_for_prompt(stamp.settings, job.fingerprint):
        return Standing.OTHER_SETTINGS
    mark = None if job.input is None else fingerprint_of(job.input)
    if (stamp.settings, stamp.input) != (job.fingerprint, mark and mark.digest):
        return Standing.OTHER_INPUT
    return Standing.DONE if all(map(is_there, job.targets)) else Standing.PRESENT


def _refusal(job: Job, standing: Standing, record: Record | None) -> TileupError | None:
    """Why a picture is not made, where what is there is not what was asked for."""
    if standing is Standing.FAILED and record is not None:
        return RecordedFailureError(f"{record.error} (on record; --retry-failed tries it again)")
    reason = _IN_THE_WAY.get(standing)
    if standing is Standing.PRESENT and not (job.batch or job.policy.skip_existing):
        reason = ""
    if reason is None:
        return None
    return OutputExistsError(
        f"{job.shown_output} is there already{reason}; use --overwrite, or name another output"
    )


_IN_THE_WAY = {
    Standing.OTHER_SETTINGS: ", made with other settings",
    Standing.OTHER_INPUT: ", made from another input",
    Standing.IN_THE_WAY: "",
}


def _is_same(mark: Fingerprint | None, path: Path | None) -> bool:
    if mark is None or path is None:
        return mark is None and (path is None or fingerprint_of(path) is None)
    return mark.fits(path)


def is_whole(path: Path) -> bool:
    """Whether a file is a picture that can be decoded to its end."""
    try:
        with opened(path, MAX_PIXELS) as (found, _):
            check_whole(found, str(path))
    except (InputError, UnreadableError, *BROKEN):
        return False
    return True


def is_cut(path: Path) -> bool:
    """Whether a picture's file lacks its end, which a decoder that has all pixels may not miss.

    What other programs add behind the end cuts nothing.
    """
    try:
        data = path.read_bytes()
    except OSError:
        return True
    if data.startswith(b"\x89PNG"):
        return _PNG_END not in data
    if data.startswith(b"\xff\xd8"):
        # An end before the last scan is that of a thumbnail.
        return data.find(b"\xff\xd9", data.rfind(b"\xff\xda")) < 0
    return data.startswith(b"RIFF") and len(data) < int.from_bytes(data[4:8], "little") + 8


_PNG_END = b"\0\0\0\0IEND\xae\x42\x60\x82"


def counted(jobs: Iterable[Job]) -> str:
    """How many jobs stand how, in words; empty where all are new."""
    counts = Counter(job.standing for job in jobs)
    if set(counts) <= {Standing.NEW}:
        return ""
    return ", ".join(f"{counts[each]} {each.value}" for each in Standing if counts[each])
