"""The shape of the package: folders, files, imports and class names."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import clipmod_cli

ROOT = Path(clipmod_cli.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
MAX_FILES = 12
MAX_LINES = 400


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in FILES}
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in MODULES.items()}


def runtime_imports(tree: ast.AST) -> Iterator[str]:
    """Yield every dotted name that a module imports, in function bodies too; not under TYPE_CHECKING."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        yield from runtime_imports(node)


def imported_module(name: str) -> str | None:
    """Return the module of the package that a dotted name is or is defined in."""
    while name and name not in MODULES:
        name = name.rpartition(".")[0]
    return name or None


IMPORTS = {
    name: {found for dotted in runtime_imports(tree) if (found := imported_module(dotted))} - {name}
    for name, tree in TREES.items()
}


def assert_no_circle(graph: dict[str, set[str]]) -> None:
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail("import circle: " + " <- ".join(error.args[1]))


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


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert_no_circle(IMPORTS)


@pytest.mark.parametrize("room", sorted(name for name, path in MODULES.items() if path.name == "__init__.py"))
def test_no_rooms_import_each_other_in_a_circle(room: str) -> None:
    """Each direct child of a room (a module, or a folder taken as a whole) is one node."""
    prefix = f"{room}."

    def child(name: str) -> str | None:
        return name.removeprefix(prefix).split(".")[0] if name.startswith(prefix) else None

    graph: dict[str, set[str]] = defaultdict(set)
    for name, imported in IMPORTS.items():
        if (node := child(name)) is not None:
            graph[node] |= {other for target in imported if (other := child(target)) not in {None, node}}
    assert_no_circle(graph)


def test_a_public_class_name_exists_once() -> None:
    places = defaultdict(list)
    for name, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(name)
    assert {name: found for name, found in places.items() if len(found) > 1} == {}
