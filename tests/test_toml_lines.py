"""The scanner against `tomllib`: the same paths, and each on the line where it was written."""

from __future__ import annotations

import tomllib
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipmod_cli.toml_lines import MAX_DEPTH, TomlPath, locate


def paths_of(value: object, path: TomlPath = ()) -> set[TomlPath]:
    """Return every path in what tomllib made of a text."""
    here = {path} if path else set()
    match value:
        case dict():
            return here.union(*(paths_of(inner, (*path, key)) for key, inner in value.items()))
        case list():
            return here.union(*(paths_of(inner, (*path, i)) for i, inner in enumerate(value)))
        case _:
            return here


class Writer:
    """Writes a random document and notes on which line it put what."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.text = ""
        self.lines: dict[TomlPath, int] = {}
        self.count = 0

    def put(self, text: str) -> None:
        self.text += text

    def mark(self, path: TomlPath) -> None:
        self.lines.setdefault(path, self.text.count("\n") + 1)

    def key(self) -> tuple[str, str]:
        """Return a new key and one way to write it."""
        self.count += 1
        bare = f"k-{self.count}"
        odd = f"k. = [{self.count}]#"
        return self.random.choice(
            [(bare, bare), (bare, f'"{bare}"'), (bare, f"'{bare}'"), (odd, f'"{odd}"'), (odd, f"'{odd}'"),
             (f'q"{self.count}', f'"q\\"{self.count}"'), (f"é{self.count}", f'"\\u00e9{self.count}"')]
        )  # fmt: skip

    def blank(self, *, breaks: bool) -> None:
        choices = ["", " ", "\t"] + (["\n", ' # ] } , = [[x]] "\n', "\r\n\n"] if breaks else [])
        self.put(self.random.choice(choices))

    def scalar(self) -> None:
        self.put(
            self.random.choice(
                ["1", "-0.5e3", "true", "inf", "1979-05-27 07:32:00", '""', "''", '"a # [x] \\" = "', "'\\'",
                 '"""\n[[a]]\n"x" \\""""', '"""x"""""', "'''\n]}'\n'''", "'''a''''", '""""""']
            )
        )  # fmt: skip

    def value(self, path: TomlPath, depth: int) -> None:
        kind = self.random.choice(["scalar", "list", "inline"] if depth else ["scalar"])
        if kind == "scalar":
            self.scalar()
        elif kind == "list":
            self.put("[")
            for index in range(self.random.randrange(4)):
                self.blank(breaks=True)
                self.mark((*path, index))
                self.value((*path, index), depth - 1)
                self.blank(breaks=True)
                self.put(",")
            self.blank(breaks=True)
            self.put("]")
        else:
            self.put("{")
            for index in range(self.random.randrange(3)):
                self.put(", " if index else " ")
                self.pair(path, depth - 1)
            self.put(" }")

    def pair(self, table: TomlPath, depth: int) -> None:
        path = table
        for index in range(self.random.randrange(1, 4)):
            if index:
                self.put(self.random.choice([".", " . "]))
            key, written = self.key()
            path = (*path, key)
            self.mark(path)
            self.put(written)
        self.put(self.random.choice(["=", " = "]))
        self.value(path, depth)

    def pairs(self, table: TomlPath) -> None:
        for _ in range(self.random.randrange(3)):
            self.blank(breaks=False)
            self.pair(table, 2)
            self.put(self.random.choice(["\n", "  # [x]\n", "\r\n\n"]))

    def tables(self, parent: TomlPath, written: str, depth: int) -> None:
        for _ in range(self.random.randrange(3)):
            key, token = self.key()
            name = f"{written}{token}"
            if self.random.random() < 0.5:
                self.mark((*parent, key))
                self.put(f"[ {name} ] # x\n")
                self.pairs((*parent, key))
                self.deeper((*parent, key), name, depth)
                continue
            for index in range(self.random.randrange(1, 4)):
                self.mark((*parent, key))
                self.mark((*parent, key, index))
                self.put(f"[[{name}]]\n")
                self.pairs((*parent, key, index))
                self.deeper((*parent, key, index), name, depth)

    def deeper(self, path: TomlPath, name: str, depth: int) -> None:
        if depth:
            self.tables(path, f"{name} . ", depth - 1)


@given(st.randoms(use_true_random=False))
def test_every_path_stands_on_the_line_where_it_was_written(random: Random) -> None:
    writer = Writer(random)
    writer.blank(breaks=True)
    writer.pairs(())
    writer.tables((), "", 1)
    values = tomllib.loads(writer.text)
    found = locate(writer.text)
    assert set(found) == {path for path in paths_of(values) if len(path) <= MAX_DEPTH}
    assert found == {path: line for path, line in writer.lines.items() if len(path) <= MAX_DEPTH}


def test_a_table_stands_on_the_line_of_its_first_header_or_key() -> None:
    text = "[a.b]\nx = 1\n[a]\ny = 2\n[[c]]\n\n[[c]]\n[c.d]\nz.w = 3\n"
    assert locate(text) == {
        ("a",): 1,
        ("a", "b"): 1,
        ("a", "b", "x"): 2,
        ("a", "y"): 4,
        ("c",): 5,
        ("c", 0): 5,
        ("c", 1): 7,
        ("c", 1, "d"): 8,
        ("c", 1, "d", "z"): 9,
        ("c", 1, "d", "z", "w"): 9,
    }


def test_a_key_of_very_many_dots_is_not_kept_whole() -> None:
    text = ".".join("a" * 3000) + " = 1\n[" + ".".join("b" * 3000) + "]\n"
    assert max(len(path) for path in locate(text)) == MAX_DEPTH


@pytest.mark.parametrize("text", ["a", "a = ", "a = [1", "a = {b = 1", "a = 'x", "= 1", "[]", "a.= 1"])
def test_what_is_not_toml_raises_and_never_hangs(text: str) -> None:
    with pytest.raises(tomllib.TOMLDecodeError):
        tomllib.loads(text)
    with pytest.raises(ValueError, match="not valid TOML"):
        locate(text)


def test_values_do_not_matter() -> None:
    assert locate("a = [1, 2]") == locate("a = ['x', {}]") == {("a",): 1, ("a", 0): 1, ("a", 1): 1}
