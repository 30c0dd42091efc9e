"""The seeds of each target; with `pytest -m slow` a few seconds of fuzzing, each time with other inputs.

Longer by hand: `python -m tests.fuzz TARGET --seconds 300`.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.targets import TARGETS

ROOT = Path(__file__).parent.parent.parent
SECONDS = 3


@pytest.mark.parametrize("name", TARGETS)
def test_the_seeds_pass(name: str) -> None:
    seeds = TARGETS[name].seeds()
    assert seeds
    for seed in (*seeds, b"", b"\xff", bytes(1000)):
        TARGETS[name].feed(seed)


@pytest.fixture(scope="module")
def ends(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, str]]:
    """How each target's fuzzing ended, and what it said."""
    if importlib.util.find_spec("atheris") is None:
        pytest.skip("atheris has wheels for Linux on x86-64 only")
    folder = tmp_path_factory.mktemp("fuzzed")
    command = [sys.executable, "-m", "tests.fuzz", *TARGETS, "--seconds", str(SECONDS)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, cwd=folder, env=environment, timeout=280)
    assert done.stdout, done.stderr.decode(errors="replace")[-3000:]
    print([path.name for path in folder.iterdir()])  # inputs that fail are files beside the logs
    codes: dict[str, int] = json.loads(done.stdout)
    return {
        name: (code, (folder / f"{name}.log").read_text(errors="replace")) for name, code in codes.items()
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
def test_nothing_but_what_is_promised_comes_of_any_bytes(name: str, ends: dict[str, tuple[int, str]]) -> None:
    code, said = ends[name]
    assert code == 0, said[-3000:]
    tried = re.search(r"number_of_executed_units: (\d+)", said)
    assert tried, said[-1000:]
    assert int(tried[1]) > len(TARGETS[name].seeds())
