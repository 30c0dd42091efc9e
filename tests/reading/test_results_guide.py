"""The guide to results: its shell and Python blocks run, on the records of a real scan."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from clipmod_cli.output.export import table_columns
from tests.end_to_end.command import SHAPE_OPTIONS, TINY, Command

ROOT = Path(__file__).parent.parent.parent
GUIDE = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
TOOLS = {"jq"}


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", GUIDE, flags=re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for a scan that serves all tests."""
    return tmp_path_factory.mktemp("whole")


@pytest.fixture
def scanned(clipmod: Command, whole: Path, tmp_path: Path) -> Path:
    """A folder with the output of a scan."""
    output = whole / "results.jsonl"
    if not output.exists():
        assert clipmod("scan", TINY / "pictures", *SHAPE_OPTIONS, "-o", output).code == 0
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    return tmp_path


@pytest.fixture
def environment(clipmod: Command, tmp_path: Path) -> dict[str, str]:
    """Variables with `clipmod` in the path."""
    programs = tmp_path / "programs"
    programs.mkdir()
    command = programs / "clipmod"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m clipmod_cli "$@"\n', encoding="utf-8")
    command.chmod(0o755)
    path = f"{programs}:{clipmod.environment['PATH']}"
    return {**clipmod.environment, "PATH": path, "PYTHONPATH": str(ROOT)}


@pytest.mark.parametrize("block", blocks("sh"), ids=lambda block: block.split("\n")[0][:40])
def test_the_shell_blocks_run(block: str, scanned: Path, environment: dict[str, str]) -> None:
    for tool in TOOLS:
        if re.search(rf"\b{tool}\b", block) and shutil.which(tool) is None:
            pytest.skip(f"no {tool} on this machine")
    run = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block],
        cwd=scanned,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr
    made = re.findall(r"(?:-o|-p) (\S+)", block)
    assert run.stdout or made
    for name in made:
        assert (scanned / name).stat().st_size > 0


@pytest.mark.parametrize("block", blocks("python"), ids=["duckdb", "pandas"])
def test_the_python_blocks_run(block: str, scanned: Path) -> None:
    package = block.split("\n", maxsplit=1)[0].removeprefix("import ")
    compile(block, "results.md", "exec")
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"no {package} here")
    run = subprocess.run(
        [sys.executable, "-c", block], cwd=scanned, capture_output=True, timeout=120, env={**os.environ}
    )
    assert run.returncode == 0, run.stderr
    assert b"red-circle" in run.stdout


def test_the_fields_that_are_named_exist() -> None:
    names = set(re.findall(r"`(error_\w+|\w+_score|\w+_ms|source\w*|\w+_reasons|\w+_category)`", GUIDE))
    assert len(names) > 8
    assert names - set(table_columns()) == set()
