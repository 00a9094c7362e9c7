"""From the flags of a command line to settings."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from tileup.cli.options import Options
from tileup.cli.parameters import Given
from tileup.errors import UsageError
from tileup.model_settings import Resolved, resolve_with_model
from tileup.settings.layers import from_flags
from tileup.settings.yaml_files import to_yaml

log = logging.getLogger(__name__)


def resolved(options: Options, given: Given) -> Resolved:
    """Settings from all layers, with the user's flags on top.

    Raises:
        UsageError, ModelError: as `resolve_with_model`.
    """
    sizes = [name for name in ("size", "long_edge", "short_edge") if name in given]
    if sizes and "scale" in given:
        raise UsageError(f"--scale and --{sizes[0].replace('_', '-')} both decide the size")
    found = resolve_with_model(
        preset=options.preset,
        config=options.config,
        environment=os.environ,
        flags=from_flags(given),
        habits=_habits(),
    )
    for note in found.notes:
        log.warning("%s", note)
    return found


def _habits() -> Path | None:
    """The user's own config file, where there is one."""
    from platformdirs import user_config_path

    path = user_config_path("tileup", appauthor=False) / "config.yaml"
    if not os.path.lexists(path):  # what is there and cannot be read shall be said
        return None
    log.info("settings of %s", path)
    return path


def config_text(found: Resolved) -> str:
    """All settings as YAML that `--config` takes."""
    return f"# Settings for {found.spec.name} ({found.spec.family}).\n{to_yaml(found.settings)}"
