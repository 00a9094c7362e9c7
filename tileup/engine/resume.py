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

from tileup.engine.journal import Journals, Mark, Record, mark_of
from tileup.engine.values import Job, Policy, Standing
from tileup.errors import ExitCode, InputError, RecordedFailureError
from tileup.images.exif import BROKEN
from tileup.images.formats.format import UnreadableError
from tileup.images.reading import MAX_PIXELS, opened
from tileup.settings.values import Settings, parse_weighted
from tileup.text.prompts import prompt_path

_WITHOUT_EFFECT = frozenset(
    {"device", "threads", "batch", "low_memory", "name", "suffix", "max_input_pixels"}
)
"""Settings that change no picture beyond rounding, or only where it lies."""
_FILES = frozenset(
    {
        *("mask", "denoise_map", "prompt_embeds", "upscaler", "control"),
        *("vae", "clip_l", "clip_g", "t5", "tokenizer"),
    }
)
"""Settings that name files."""
_PASSING = frozenset({ExitCode.OUT_OF_MEMORY, ExitCode.CANNOT_WRITE})
"""Failures that say nothing about the picture: a rerun tries it again."""
_BLOCK = 1 << 20


def run_hash(settings: Settings, model: Path | None) -> str:
    """Hash of all that decides what a picture becomes, besides the picture, its seed and prompt.

    Settings at their defaults are left out, so that a later version with more of them redoes
    nothing. Files count by their content and not by their names.
    """
    usual = {field.name: field.default for field in dataclasses.fields(Settings)}
    values: dict[str, object] = {
        name: value
        for name, value in dataclasses.asdict(settings).items()
        if name not in _WITHOUT_EFFECT and value != usual[name]
    }
    for name in _FILES & values.keys():
        values[name] = _sampled(Path(str(values[name])))
    if settings.lora:
        pairs = map(parse_weighted, settings.lora)
        values["lora"] = [(_sampled(Path(file)), weight) for file, weight in pairs]
    values["model"] = None if model is None else _sampled(model)
    values.pop("seed", None)
    return _hash(json.dumps(values, sort_keys=True))


def _hash(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()


def _sampled(path: Path) -> str:
    """Hash of a file's size and content; of a large one, such as a checkpoint, of some blocks.

    Of what is no file, such as a folder or the name of a method, the hash of its name.
    """
    digest = hashlib.blake2b(digest_size=16)
    if not path.is_file():
        digest.update(os.fsencode(path))
    with contextlib.suppress(OSError), path.open("rb") as stream:
        size = path.stat().st_size
        digest.update(str(size).encode())
        parts = max(1, min(64, size // _BLOCK))
        for part in range(parts + 1):
            stream.seek(max(0, size - _BLOCK) * part // parts)
            digest.update(stream.read(_BLOCK))
    return digest.hexdigest()


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
    """A job with the hash of all that decides what it becomes."""
    prompt = _prompt_mark(job.input) if settings.prompt_file else ""
    return replace(job, fingerprint=_hash(f"{run} {job.seed}{prompt}"), policy=policy)


def _prompt_mark(picture: Path | None) -> str:
    """What tells one prompt beside a picture from another."""
    path = prompt_path(picture)
    mark = None if path is None else mark_of(path)
    return "" if mark is None else f" {mark.digest}"


def with_standing(job: Job, journals: Journals) -> Job:
    """The job as it stands now, by the journal and by what lies on the disk."""
    journal = journals.of(job)
    if journal is None or job.output is None:
        return job
    record = journal.latest(job.output)
    standing = _standing(job, job.output, record)
    failed = standing is Standing.FAILED and record is not None
    return replace(
        job,
        standing=standing,
        past_error=record.error if failed else None,
        overwrite=job.policy.overwrite or standing in _REPLACED,
    )


_REPLACED = frozenset(
    {
        Standing.DAMAGED,
        Standing.CHANGED,
        Standing.OTHER_SETTINGS,
        Standing.MISSING,
        Standing.RETRIED,
    }
)
"""Standings whose output is ours to replace."""


def _standing(job: Job, output: Path, record: Record | None) -> Standing:
    if job.policy.overwrite:
        return Standing.NEW
    there = output.exists()
    if job.policy.skip_existing and there:
        return Standing.PRESENT
    if record is not None:
        return _by_record(job, output, record)
    if not there:
        return Standing.NEW
    return Standing.PRESENT if _is_whole(output) else Standing.DAMAGED


def _by_record(job: Job, output: Path, record: Record) -> Standing:
    if record.settings != job.fingerprint:
        return Standing.OTHER_SETTINGS
    if not _is_same(record.source, job.input):
        return Standing.CHANGED
    if record.outcome == "failed":
        again = job.policy.retry_failed or record.code in _PASSING
        return Standing.RETRIED if again else Standing.FAILED
    if not all(path.exists() for path in job.targets):
        return Standing.MISSING
    whole = record.result is not None and record.result.fits(output)
    return Standing.DONE if whole else Standing.DAMAGED


def _is_same(mark: Mark | None, path: Path | None) -> bool:
    if mark is None or path is None:
        return mark is None and (path is None or mark_of(path) is None)
    return mark.fits(path)


def _is_whole(path: Path) -> bool:
    """Whether a file that no journal knows can be decoded to its end."""
    try:
        with opened(path, MAX_PIXELS) as (found, _):
            found.decode()
    except (InputError, UnreadableError, *BROKEN):
        return False
    return True


def failure_of(job: Job) -> RecordedFailureError:
    """The failure that is on record for a job."""
    return RecordedFailureError(f"{job.past_error} (on record; --retry-failed tries it again)")


def counted(jobs: Iterable[Job]) -> str:
    """How many jobs stand how, in words; empty where all are new."""
    counts = Counter(job.standing for job in jobs)
    if set(counts) <= {Standing.NEW}:
        return ""
    return ", ".join(f"{counts[each]} {each.value}" for each in Standing if counts[each])
