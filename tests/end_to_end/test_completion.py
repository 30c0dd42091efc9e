"""What Tab offers, asked as shells ask."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.end_to_end.command import TINY, Command

HEAVY = ("duckdb", "numpy", "torch", "PIL", "rich", "onnxruntime", "av")
LISTING = """
import atexit, sys
atexit.register(lambda: print(*sys.modules, file=sys.stderr))
from clipmod_cli.cli.main import run
run()
"""


def offered(clipmod: Command, line: str, cwd: Path | None = None) -> list[str]:
    """Return what bash is offered at the end of a line."""
    words = line.split(" ")
    env = {"_CLIPMOD_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    with clipmod.start((), env=env, stdout=subprocess.PIPE, cwd=cwd) as process:
        stdout, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    return stdout.decode().split()


@pytest.mark.parametrize(
    ("line", "values"),
    [
        ("clipmod sca", ["scan"]),
        ("clipmod scan --sens", ["--sensitivity"]),
        ("clipmod scan --sensitivity ", ["low", "medium", "high", "ultra"]),
        ("clipmod scan --fail-on ", ["nsfw", "review", "error", "new-nsfw"]),
        ("clipmod scan --only s", ["safe"]),
        ("clipmod scan --record ", ["full", "compact"]),
        ("clipmod scan --retry dec", ["decode_error", "decode_timeout"]),
        ("clipmod urls --device ", ["auto", "cpu", "cuda", "cuda:0", "mps"]),
        ("clipmod urls --frames ", ["auto", "key", "dense", "fps=", "max="]),
        ("clipmod serve --unseen ", ["error", "flag", "safe"]),
        ("clipmod scan --models nude", ["nudenet"]),
        ("clipmod scan --models open_nsfw,nude", ["open_nsfw,nudenet"]),
        ("clipmod scan --models on", ["onnx:"]),
        ("clipmod models download ens", ["ensemble"]),
        ("clipmod policies show gen", ["general"]),
        ("clipmod tune he", ["head"]),
        ("clipmod tune head --cat", ["--category"]),
        ("clipmod tune head --policy gen", ["general"]),
        ("clipmod scan -o ", []),
    ],
)
def test_tab(clipmod: Command, line: str, values: list[str]) -> None:
    found = offered(clipmod, line)
    assert set(values) <= set(found) if values else not found
    if values:
        assert all(value.startswith(line.rpartition(" ")[2]) for value in found)


def test_policies_are_built_in_ones_or_files(clipmod: Command) -> None:
    assert {"nsfw", "general", "female-presence"} <= set(offered(clipmod, "clipmod scan --policy "))
    assert offered(clipmod, "clipmod scan --policy ./s", cwd=TINY) == ["./shapes.toml"]
    assert f"{TINY}/shapes.toml" in offered(clipmod, f"clipmod scan --policy {TINY}/")
    assert offered(clipmod, "clipmod scan --policy ./nowhere/") == []


def test_completion_imports_nothing_heavy(clipmod: Command) -> None:
    env = {"_CLIPMOD_COMPLETE": "complete_bash", "COMP_WORDS": "clipmod scan --models ", "COMP_CWORD": "3"}
    run = subprocess.run(
        [sys.executable, "-c", LISTING],
        env={**os.environ, **clipmod.environment, **env},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "ensemble" in run.stdout.split()
    assert not set(HEAVY) & {name.partition(".")[0] for name in run.stderr.split()}
