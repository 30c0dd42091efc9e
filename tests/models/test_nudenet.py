"""The detector by threads: the same findings as in a batch, wrong sizes refused, and nobody told."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from clipmod_cli.errors import SettingsError
from clipmod_cli.models import nudenet
from clipmod_cli.models.onnx import session
from tests.models import backends


def test_threads_find_what_a_batch_finds(pictures: list[Path]) -> None:
    model = backends.load_nudenet()
    frames = [*backends.look(model, pictures), *backends.look(model, pictures, exact=False)] * 2
    assert len({frame.inputs[model.geometry].shape for frame in frames}) > 1
    together = replace(model, _threads=None).infer(frames)
    for one, other in zip(model.infer(frames), together, strict=True):
        assert [d.label for d in one.found] == [d.label for d in other.found]
        assert [d.score for d in one.found] == pytest.approx([d.score for d in other.found], abs=1e-4)


def test_another_size_is_refused(pictures: list[Path]) -> None:
    model = backends.load_nudenet()
    (frame, *_) = backends.look(model, pictures)
    larger = replace(frame, inputs={model.geometry: np.zeros((640, 640, 3), np.uint8)})
    with pytest.raises(ValueError, match="320 pixels"):
        model.infer([frame, larger])
    with pytest.raises(ValueError, match="multiple of 32"):
        model.infer([replace(frame, inputs={model.geometry: np.zeros((320, 200, 3), np.uint8)})])


def test_its_runtime_reports_to_nobody(tmp_path: Path) -> None:
    words = "from clipmod_cli.models import nudenet; nudenet.load(name='x', spec='nudenet', device='cpu')"
    kept = {k: v for k, v in os.environ.items() if k != session.NO_TELEMETRY and not k.startswith("XDG_")}
    subprocess.run(
        [sys.executable, "-c", words], env={**kept, "HOME": str(tmp_path)}, check=True, timeout=120
    )
    assert not list(tmp_path.rglob("*onnxruntime*"))


def test_a_batch_is_looked_at_in_shares(pictures: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    threaded = backends.load_nudenet()
    frames = backends.look(threaded, pictures) * 2
    model = replace(threaded, _threads=None)
    whole = model.infer(frames)
    monkeypatch.setattr(nudenet, "MOST_AT_ONCE", 3)
    for one, other in zip(model.infer(frames), whole, strict=True):
        assert [d.label for d in one.found] == [d.label for d in other.found]
        assert [d.score for d in one.found] == pytest.approx([d.score for d in other.found], abs=1e-4)


def load(device: str, *, alone: bool) -> nudenet.NudeNetModel:
    return nudenet.load(name="nudenet", spec="nudenet", device=device, alone=alone)


@pytest.mark.parametrize("device", ["mps", "cuda", "cuda:1"])
def test_a_device_that_it_cannot_use_is_refused_if_it_was_named(
    device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(SettingsError, match=f"--device {device}: .*use --device cpu or auto"):
        load(device, alone=True)
    # beside models that use it, it does what it can
    assert load(device, alone=False)._threads is not None


@pytest.mark.skipif("CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="it has CUDA")
@pytest.mark.filterwarnings("ignore:Specified provider")
@pytest.mark.parametrize("device", ["auto", "cuda", "cuda:1"])
def test_a_session_that_fell_back_to_the_cpu_is_noticed(
    device: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, pictures: list[Path]
) -> None:
    # What onnxruntime says where CUDA was built in and its libraries are missing: the session is a CPU's.
    providers = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: providers)
    model = load(device, alone=False)
    assert model._threads is not None
    assert model._session.get_session_options().intra_op_num_threads == 1
    assert "the detector does not run on CUDA" in caplog.text
    assert model.infer(backends.look(model, pictures))
    if device != "auto":
        with pytest.raises(SettingsError, match=f"--device {device}"):
            load(device, alone=True)


@pytest.mark.gpu
def test_a_gpu_finds_what_the_cpu_finds(pictures: list[Path]) -> None:
    here, there = load("cpu", alone=True), load("cuda:0", alone=True)
    assert there._threads is None
    assert there._session.get_provider_options()["CUDAExecutionProvider"]["device_id"] == "0"
    frames = backends.look(here, pictures)
    for one, other in zip(here.infer(frames), there.infer(frames), strict=True):
        assert [d.label for d in one.found] == [d.label for d in other.found]
        assert [d.score for d in one.found] == pytest.approx([d.score for d in other.found], abs=1e-2)
