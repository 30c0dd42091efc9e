"""The same verdicts on a CUDA device as on the CPU: `pytest -m gpu`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from clipmod_cli.assemble import load_ensemble
from clipmod_cli.judge.judging import judge
from clipmod_cli.judge.policy.reading import load_policy
from clipmod_cli.judge.prepare import prepare
from clipmod_cli.types import Verdict
from tests.measuring import infer
from tests.models import backends

pytestmark = pytest.mark.gpu

TINY = Path(__file__).parent.parent / "tiny"


def _scores(device: str, dtype: str, paths: list[Path]) -> list[float]:
    policy = load_policy(str(TINY / "shapes.toml"))
    models = [f"open_clip:local-dir:{TINY / 'models' / name}" for name in ("tiny-l", "tiny-h", "tiny-g")]
    ensemble = load_ensemble(models, policy, device=device, dtype=dtype)
    criteria = prepare(ensemble, policy, threshold=0.5)
    frames = [backends.look_with_views(ensemble.geometries, path, index) for index, path in enumerate(paths)]
    results = list(judge(infer(ensemble, [frames]), criteria))
    assert all(isinstance(one, Verdict) for one in results)
    return [one.deciding.unsafe_score for one in results if isinstance(one, Verdict)]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_a_gpu_agrees_with_the_cpu(dtype: str) -> None:
    paths = sorted((TINY / "pictures").glob("*.png")) + sorted((TINY / "pictures").glob("*.jpg"))
    here = _scores("cpu", "float32", paths)
    there = _scores("cuda", dtype, paths)
    assert np.abs(np.array(here) - np.array(there)).max() < 0.02
