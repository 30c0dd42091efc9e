"""The shape of the package: folders, files, imports and class names."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

import clipmod_cli

ROOT = Path(clipmod_cli.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
MAX_FILES = 12
MAX_LINES = 420


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in FILES}
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in MODULES.items()}


def test_a_folder_holds_few_files() -> None:
    count: dict[str, int] = defaultdict(int)
    for path in FILES:
        count[str(path.parent.relative_to(ROOT.parent))] += 1
    assert {folder: n for folder, n in count.items() if n > MAX_FILES} == {}


def test_a_file_is_short() -> None:
    lines = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in MODULES.items()}
    assert {name: n for name, n in lines.items() if n > MAX_LINES} == {}


def test_a_folder_and_a_module_say_what_they_hold() -> None:
    folders = {path.parent for path in FILES}
    assert [str(folder) for folder in folders if not (folder / "__init__.py").exists()] == []
    assert [name for name, tree in TREES.items() if not ast.get_docstring(tree)] == []


def test_a_public_class_name_exists_once() -> None:
    places = defaultdict(list)
    for name, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(name)
    assert {name: found for name, found in places.items() if len(found) > 1} == {}
