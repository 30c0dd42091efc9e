"""What a first run of the tiny models leaves in a user's cache, for tests that are about something else.

A test that begins with an empty cache imports open_clip, embeds all prompts and writes towers again: most of
the time that a small service takes to start.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path

import pytest

from clipmod_cli import load_ensemble, load_policy
from clipmod_cli.judge.prepare import prepare
from tests.end_to_end.command import SHAPES, TINY_ENSEMBLE


def warm(cache_home: Path) -> None:
    """Put towers, prompts and hashes of the tiny ensemble under the shapes policy into a cache folder."""
    shutil.copytree(_left(), cache_home, dirs_exist_ok=True)


@cache
def _left() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="clipmod-warm-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    policy = load_policy(str(SHAPES))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        prepare(load_ensemble(TINY_ENSEMBLE, policy, offline=True), policy, threshold=0.5)
    return folder
