"""A few seconds of fuzzing for each target. Longer by hand: `python -m tests.fuzz TARGET --seconds 300`."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.targets import TARGETS

ROOT = Path(__file__).parent.parent.parent
SECONDS = 4


@pytest.mark.parametrize("name", TARGETS)
def test_the_seeds_pass(name: str) -> None:
    seeds = TARGETS[name].seeds()
    assert seeds
    for seed in (*seeds, b"", b"\xff", bytes(1000)):
        TARGETS[name].feed(seed)


@pytest.mark.skipif(
    importlib.util.find_spec("atheris") is None, reason="atheris has wheels for Linux on x86-64 only"
)
@pytest.mark.parametrize("name", TARGETS)
def test_nothing_but_what_is_promised_comes_of_any_bytes(name: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.fuzz", name, "--seconds", str(SECONDS)]
    done = subprocess.run(command, capture_output=True, cwd=tmp_path, env=_environment(), timeout=120)
    said = done.stderr.decode(errors="replace")
    assert done.returncode == 0, f"{said[-3000:]}\n{[path.name for path in tmp_path.iterdir()]}"
    tried = re.search(r"number_of_executed_units: (\d+)", said)
    assert tried, said[-1000:]
    assert int(tried[1]) > len(TARGETS[name].seeds())


def _environment() -> dict[str, str]:

    return {**os.environ, "PYTHONPATH": str(ROOT)}
