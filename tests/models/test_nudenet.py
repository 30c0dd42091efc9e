"""The detector by threads: the same findings as in a batch, wrong sizes refused, and nobody told."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from clipmod_cli.models import nudenet
from tests.models import backends


def test_threads_find_what_a_batch_finds(pictures: list[Path]) -> None:
    model = backends.load_nudenet()
    frames = backends.look(model, pictures) * 3
    together = replace(model, _threads=None).measure(frames)
    for one, other in zip(model.measure(frames), together, strict=True):
        assert [d.label for d in one.found] == [d.label for d in other.found]
        assert [d.score for d in one.found] == pytest.approx([d.score for d in other.found], abs=1e-4)


def test_another_size_is_refused(pictures: list[Path]) -> None:
    model = backends.load_nudenet()
    (frame, *_) = backends.look(model, pictures)
    larger = replace(frame, views={model.view: np.zeros((640, 640, 3), np.uint8)})
    with pytest.raises(ValueError, match="320 x 320"):
        model.measure([frame, larger])


def test_its_runtime_reports_to_nobody(tmp_path: Path) -> None:
    words = "from clipmod_cli.models import nudenet; nudenet.load(name='x', spec='nudenet', device='cpu')"
    kept = {k: v for k, v in os.environ.items() if k != nudenet.NO_TELEMETRY and not k.startswith("XDG_")}
    subprocess.run(
        [sys.executable, "-c", words], env={**kept, "HOME": str(tmp_path)}, check=True, timeout=120
    )
    assert not list(tmp_path.rglob("*onnxruntime*"))
