"""The sources of open_clip models in folders."""

from __future__ import annotations

from pathlib import Path

from clipmod_cli.models.backend import ModelSpec
from clipmod_cli.models.hub.weights import locate
from clipmod_cli.models.open_clip.source import OpenClipSource, source_of
from clipmod_cli.models.registry import BACKENDS


def folder_source(folder: Path) -> OpenClipSource:
    """Return the source of the model in a folder."""
    spec = ModelSpec(backend=BACKENDS["open_clip"], spec=f"open_clip:local-dir:{folder}", path=folder)
    files = locate(spec)
    assert files is not None
    return source_of(spec, files)
