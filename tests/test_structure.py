"""The shape of the package: folders, files, imports and class names."""

from __future__ import annotations

import ast
from pathlib import Path

import clipmod_cli

ROOT = Path(clipmod_cli.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
MAX_LINES = 420


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in FILES}
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in MODULES.items()}


def test_a_file_is_short() -> None:
    lines = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in MODULES.items()}
    assert {name: n for name, n in lines.items() if n > MAX_LINES} == {}


def test_a_folder_and_a_module_say_what_they_hold() -> None:
    folders = {path.parent for path in FILES}
    assert [str(folder) for folder in folders if not (folder / "__init__.py").exists()] == []
    assert [name for name, tree in TREES.items() if not ast.get_docstring(tree)] == []
