"""The line of each key and list element of a TOML text.

`tomllib` and tomlkit give values without positions; spanned-toml is not maintained, and the tree
of tree-sitter-toml would still have to be resolved (dotted keys, lists of tables) by a walk as long as this.
The text must already have been accepted by `tomllib`: the scanner checks nothing.
"""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_right
from collections.abc import Mapping
from typing import Final, TypeAlias

TomlPath: TypeAlias = tuple[str | int, ...]

MAX_DEPTH: Final = 8
# Deeper paths are not recorded: the deepest of a policy is ("categories", 0, "labels", "nudenet", 0),
# and a key of ten thousand dots must not cost the square of its length.

_BLANK = re.compile(r"(?:[ \t\r\n]+|#[^\n]*)*")
_STRING = re.compile(
    r'"""(?:\\.|[^\\])*?""""{0,2}'  # up to two quotes can precede the closing three
    r"|'''.*?''''{0,2}"
    r'|"(?:\\.|[^"\\])*"'
    r"|'[^']*'",
    re.DOTALL,
)
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_BARE_VALUE = re.compile(r"[^,\]}#\n]+")


def locate(text: str) -> Mapping[TomlPath, int]:
    """Return the line, from 1, of every key and list element of a valid TOML text.

    A path leads to the value in the result of `tomllib.loads`, as `("categories", 0, "name")`.
    A table's line is that of its first header or key.

    Raises:
        ValueError: the text is not valid TOML (not every fault is noticed here).
        RecursionError: lists or tables are nested hundreds deep.
    """
    scanner = _Scanner(text)
    scanner.read()
    return scanner.lines


class _Scanner:
    """Walks the text once, from statement to statement."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.lines: dict[TomlPath, int] = {}
        self._sizes: dict[TomlPath, int] = {}  # how many elements each [[list of tables]] has so far
        self._breaks = [m.start() for m in re.finditer("\n", text)]

    def read(self) -> None:
        """Record every statement."""
        table: TomlPath = ()
        while (sign := self._next()) != "":
            if sign == "[":
                table = self._header()
            else:
                self._pair(table)

    def _header(self) -> TomlPath:
        line = self._line()
        marks = 2 if self.text.startswith("[[", self.at) else 1
        self.at += marks
        keys = self._keys()[: MAX_DEPTH + 1]
        self.at += marks
        path: TomlPath = ()
        for key in keys[:-1]:
            path = self._into((*path, key), line)
        path = (*path, keys[-1])
        if marks == 1:
            return self._into(path, line)
        self._record(path, line)
        self._sizes[path] = self._sizes.get(path, 0) + 1
        return self._into(path, line)

    def _into(self, path: TomlPath, line: int) -> TomlPath:
        """Record a table's path and return it, or that of its last element if it is a list."""
        self._record(path, line)
        if path in self._sizes:
            path = (*path, self._sizes[path] - 1)
            self._record(path, line)
        return path

    def _pair(self, table: TomlPath) -> None:
        line = self._line()
        path = table
        for key in self._keys():
            if len(path) <= MAX_DEPTH:
                path = (*path, key)
                self._record(path, line)
        self.at += 1  # the equals sign
        self._value(path)

    def _keys(self) -> list[str]:
        keys = []
        while True:
            quoted = self._next() in {'"', "'"}
            token = self._take(_STRING if quoted else _BARE_KEY)
            keys.append(next(iter(tomllib.loads(f"{token} = 0"))) if quoted else token)
            if self._next() != ".":
                return keys
            self.at += 1

    def _value(self, path: TomlPath) -> None:
        match self._next():
            case "[":
                self._list(path)
            case "{":
                self._inline(path)
            case '"' | "'":
                self._take(_STRING)
            case _:
                self._take(_BARE_VALUE)

    def _list(self, path: TomlPath) -> None:
        self.at += 1
        index = 0
        while self._next() != "]":
            self._record((*path, index), self._line())
            self._value((*path, index))
            index += 1
            self._skip_comma()
        self.at += 1

    def _inline(self, path: TomlPath) -> None:
        self.at += 1
        while self._next() != "}":
            self._pair(path)
            self._skip_comma()
        self.at += 1

    def _skip_comma(self) -> None:
        if self._next() == ",":
            self.at += 1

    def _next(self) -> str:
        """Skip blanks and comments; return the next character, or "" at the end."""
        blank = _BLANK.match(self.text, self.at)
        self.at = blank.end() if blank else self.at
        return self.text[self.at : self.at + 1]

    def _take(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self.text, self.at)
        if found is None:
            raise ValueError(f"not valid TOML at line {self._line()}")
        self.at = found.end()
        return found.group()

    def _line(self) -> int:
        return bisect_right(self._breaks, self.at - 1) + 1

    def _record(self, path: TomlPath, line: int) -> None:
        if len(path) <= MAX_DEPTH:
            self.lines.setdefault(path, line)
