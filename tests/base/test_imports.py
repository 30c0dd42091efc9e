"""The modules that import without any extra: all but those of models on torch."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.base.hidden import NOT_IN_THE_BASE, ROOT, hiding
from tests.test_structure import MODULES

ON_TORCH = {
    "clipmod_cli.models.device.crops",
    "clipmod_cli.models.device.device",
    "clipmod_cli.models.device.machine",
    "clipmod_cli.models.device.transfer",
    "clipmod_cli.models.open_clip.architecture",
    "clipmod_cli.models.open_clip.checkpoint",
    "clipmod_cli.models.open_clip.model",
    "clipmod_cli.models.open_clip.towers",
    "clipmod_cli.models.tower.forward",
    "clipmod_cli.models.tower.layers",
    "clipmod_cli.models.tower.mapped",
    "clipmod_cli.models.tower.model",
    "clipmod_cli.models.tower.precision",
    "clipmod_cli.models.tower.shape",
    "clipmod_cli.models.tower.tower_file",
    "clipmod_cli.models.transformers",
}

SCRIPT = """
import importlib, json, sys
missing = {}
for name in json.loads(sys.argv[1]):
    try:
        importlib.import_module(name)
    except ImportError as error:
        missing[name] = error.name
print(json.dumps({"missing": missing, "loaded": sorted({name.partition(".")[0] for name in sys.modules})}))
"""


@pytest.fixture(scope="module")
def imported() -> dict[str, dict[str, str] | list[str]]:
    names = [name for name in MODULES if not name.endswith("__main__")]  # it runs the command
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(names)],
        env={**os.environ, **hiding()},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr
    found: dict[str, dict[str, str] | list[str]] = json.loads(run.stdout)
    return found


def test_only_models_on_torch_need_more_than_the_base(
    imported: dict[str, dict[str, str] | list[str]],
) -> None:
    missing = imported["missing"]
    assert isinstance(missing, dict)
    assert set(missing) == ON_TORCH
    assert set(missing.values()) == {"torch"}


def test_what_is_hidden_is_not_there(imported: dict[str, dict[str, str] | list[str]]) -> None:
    assert not NOT_IN_THE_BASE & set(imported["loaded"])
    assert "onnxruntime" not in imported["loaded"]  # loaded with the first model
