"""The entries of a bank file: lines of SHA-256 or PDQ, a table, or the formats of ThreatExchange.

A hash of another kind cannot be compared; it is counted by its kind.
"""

from __future__ import annotations

import csv
import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import IO, Any, Final, Literal, TypeAlias

from clipmod_cli.errors import BankError

BankKind: TypeAlias = Literal["deny", "allow"]

HASH_BYTES: Final = 32
"""Of a SHA-256, and of a PDQ hash."""
SHA256: Final = "SHA256"
PDQ: Final = "PDQ"

OWN_HASH: Final = "sha256"
"""The column of a table of SHA-256, beside which `type` and `note` say what an entry is."""

_INDICATORS: Final = ("indicator", "signal_str", "signal")
_KINDS: Final = ("type", "signal_type", "indicator_type")
_OPINIONS: Final = ("status", "category")
"""Columns of ThreatExchange: of its API, and of `threatexchange dataset --print-signals --csv`."""

_GOOD: Final = frozenset({"NON_MALICIOUS", "NEGATIVE_CLASS"})
"""Opinions by which an entry is no reason to deny, and the only ones by which it is one to allow."""

_BLOCK_BYTES: Final = 1 << 20

_LINE: Final = re.compile(r"(?:(?P<kind>[A-Za-z][\w-]*):)?(?P<hash>[0-9A-Fa-f]+)(?:[ \t]+\S.*)?")
"""A hash, perhaps with its kind before it, or a file's name behind it as `sha256sum` writes it."""

Label: TypeAlias = tuple[str | None, str | None]
"""(type, note) of an entry."""

Entry: TypeAlias = tuple[str, bytes, Label]
"""(`SHA256` or `PDQ`, the hash as 32 bytes, label); several, one after the other, may share a label."""

NO_LABEL: Final[Label] = (None, None)


@dataclass(slots=True)
class EntryReader:
    """Reads the entries of one bank file.

    Attributes:
        kind: of the bank: of ThreatExchange, what an entry is said to be decides whether it counts.
        kinds: of the hashes that are compared; the first is that of a hash without a kind.
        not_compared: entries without a hash that counts, by kind of hash or by the reason.
    """

    path: Path
    kind: BankKind
    kinds: tuple[str, ...] = (SHA256,)
    not_compared: Counter[str] = field(default_factory=Counter)
    has_header: bool = False
    _digest: Any = field(default_factory=hashlib.sha256, repr=False)

    @property
    def sha256(self) -> str:
        """The SHA-256 of the file, once all entries were read."""
        return str(self._digest.hexdigest())

    def read(self) -> Iterator[Entry]:
        """Yield the entries in their order, each with a hash that is compared.

        Raises:
            BankError: the file cannot be read, or a line is no entry.
        """
        try:
            with self.path.open("rb") as file:
                yield from self._read(file)
        except OSError as e:
            raise BankError(f"the bank {self.path} cannot be read: {e.strerror or e}") from e

    def _read(self, file: IO[bytes]) -> Iterator[Entry]:
        lines = self._lines(file)
        first = next((line for line in lines if _is_meant(line[1])), None)
        if first is None:
            return
        number, text = first
        if text.lstrip().startswith(("{", "[")):
            yield from self._documents(first, lines)
        elif separator := _separator_of(text):
            self.has_header = True
            yield from self._table(number, separator, chain([text], (line for _, line in lines)))
        else:
            yield from self._plain([first])
            yield from self._plain_blocks(file, number + 1)

    def _lines(self, lines: Iterable[bytes], number: int = 1) -> Iterator[tuple[int, str]]:
        for at, line in enumerate(lines, number):
            self._digest.update(line)
            try:
                # editors on Windows write a byte order mark
                text = line.decode("utf-8-sig" if at == 1 else "utf-8")
            except UnicodeDecodeError as e:
                raise self._fault(at, "is not UTF-8 text") from e
            yield at, text

    def _plain(self, lines: Iterable[tuple[int, str]]) -> Iterator[Entry]:
        for number, line in lines:
            text = line.strip()
            if not _is_meant(text):
                continue
            found = _LINE.fullmatch(text)
            if found is None:
                raise self._fault(number, "is no SHA-256: 64 hexadecimal digits")
            kind = _kind_of(found["kind"] or self.kinds[0])
            if kind not in self.kinds:
                self.not_compared[found["kind"].upper()] += 1
                continue
            yield kind, self._hash_of(found["hash"], number), NO_LABEL

    def _plain_blocks(self, file: IO[bytes], number: int) -> Iterator[Entry]:
        """Yield the entries of lines from this one on, many at a time where they are hashes and no more."""
        while lines := file.readlines(_BLOCK_BYTES):
            if packed := _packed(lines):
                self._digest.update(b"".join(lines))
                yield self.kinds[0], packed, NO_LABEL
            else:
                yield from self._plain(self._lines(lines, number))
            number += len(lines)

    def _table(self, number: int, separator: str, lines: Iterable[str]) -> Iterator[Entry]:
        """Yield the entries of CSV; `number` is that of the line with the names of the columns."""
        rows = csv.reader(lines, delimiter=separator, strict=True)
        try:
            names = [name.strip().lower() for name in next(rows)]
            for row in rows:
                if is_comment(row, names):
                    continue
                place = f"line {number - 1 + rows.line_num}"
                if len(row) > len(names):
                    raise self._fault(place, f"has {len(row)} values, and there are {len(names)} columns")
                yield from self._entry(dict(zip(names, row, strict=False)), place)
        except csv.Error as e:
            raise self._fault(f"line {number - 1 + rows.line_num}", f"is no row of a table ({e})") from e

    def _documents(self, first: tuple[int, str], lines: Iterator[tuple[int, str]]) -> Iterator[Entry]:
        """Yield the entries of JSON: one object a line, a list, or `data` of an answer of ThreatExchange."""
        number, text = first
        if _is_entry(text):
            for at, line in chain([first], lines):
                if line.strip():
                    yield from self._entry(self._parse(line.strip(), at), f"line {at}")
            return
        document = self._parse(text + "".join(line for _, line in lines), number)
        found = document.get("data") if isinstance(document, dict) else document
        for at, fields in enumerate(found if isinstance(found, list) else [document], 1):
            yield from self._entry(fields, f"entry {at}")

    def _parse(self, text: str, number: int) -> Any:
        try:
            return json.loads(text)
        except (ValueError, RecursionError) as e:
            line = number - 1 + getattr(e, "lineno", 1)
            raise self._fault(f"line {line}", f"is no JSON ({getattr(e, 'msg', e)})") from e

    def _entry(self, fields: Any, place: str) -> Iterator[Entry]:
        if not isinstance(fields, Mapping):
            raise self._fault(place, "is no object with the fields of an entry")
        if OWN_HASH in fields:
            yield from self._own(fields, place)
        else:
            yield from self._exchanged(fields, place)

    def _own(self, fields: Mapping[str, Any], place: str) -> Iterator[Entry]:
        found = _text(fields, OWN_HASH)
        if found is None:
            self.not_compared["no sha256"] += 1
            return
        yield SHA256, self._hash_of(found, place), (_text(fields, "type"), _text(fields, "note"))

    def _exchanged(self, fields: Mapping[str, Any], place: str) -> Iterator[Entry]:
        found = next((text for name in _INDICATORS if (text := _text(fields, name))), None)
        if found is None:
            raise self._fault(place, f"has neither {OWN_HASH} nor {_INDICATORS[0]}")
        kind = next((text for name in _KINDS if (text := _text(fields, name))), None)
        reason = self._reason_to_skip(fields, kind)
        if reason is not None:
            self.not_compared[reason] += 1
            return
        label = (_text(fields, "tags"), _text(fields, "description") or _text(fields, "note"))
        yield _kind_of(kind or SHA256), self._hash_of(found, place), label

    def _reason_to_skip(self, fields: Mapping[str, Any], kind: str | None) -> str | None:
        if kind is None:
            return "no type"
        if _kind_of(kind) not in self.kinds:
            return kind.upper()
        if str(fields.get("should_delete")).lower() in {"true", "1"}:
            return "should_delete"
        opinion = next((text.upper() for name in _OPINIONS if (text := _text(fields, name))), None)
        if (opinion in _GOOD) == (self.kind == "allow"):
            return None
        return opinion or "no status"

    def _hash_of(self, text: str, place: str | int) -> bytes:
        try:
            found = bytes.fromhex(text)
        except ValueError:
            found = b""
        if len(found) != HASH_BYTES or len(text) != 2 * HASH_BYTES:
            raise self._fault(place, f"is no SHA-256: 64 hexadecimal digits, not {len(text)} characters")
        return found

    def _fault(self, place: str | int, message: str) -> BankError:
        """Return the error; it never shows the line, which may hold a hash. A number is that of a line."""
        where = f"line {place}" if isinstance(place, int) else place
        return BankError(f"the bank {self.path}, {where}: it {message}. Nothing was judged by it")


def _is_entry(text: str) -> bool:
    """Return whether a line alone is an entry in JSON."""
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(fields, dict) and "data" not in fields


def _packed(lines: Sequence[bytes]) -> bytes:
    """Return the hashes of lines that have nothing else; nothing if one does."""
    if any(len(line) != 2 * HASH_BYTES + 1 or not line.endswith(b"\n") for line in lines):
        return b""
    try:
        packed = bytes.fromhex(b"".join(lines).decode("ascii"))
    except ValueError:
        return b""
    return packed if len(packed) == HASH_BYTES * len(lines) else b""  # it passes over blanks


def is_comment(row: Sequence[str], columns: Sequence[str]) -> bool:
    """Return whether a row of a table is blank or a comment: begins with `#`, which a note may do as well.

    Args:
        row: the values.
        columns: names in lower case; where the hash is in a later column than the first, a row that has one
            is no comment.
    """
    if not row:
        return True
    if not row[0].startswith("#"):
        return False
    return not any(
        name in {OWN_HASH, *_INDICATORS} and value.strip()
        for name, value in list(zip(columns, row, strict=False))[1:]
    )


def _is_meant(line: str) -> bool:
    """Return whether a line is neither blank nor a comment."""
    text = line.strip()
    return bool(text) and not text.startswith("#")


def _separator_of(line: str) -> str | None:
    """Return what separates the columns if a line names them; None if it does not."""
    for separator in ("\t", ";", ","):
        names = [name.strip().strip('"').lower() for name in line.split(separator)]
        if OWN_HASH in names or any(name in _INDICATORS for name in names):
            return separator
    return None


def _kind_of(text: str) -> str:
    """Return a kind of hash in one spelling: `SHA256` for `HASH_SHA256`, `sha-256` and `sha256`."""
    return text.upper().removeprefix("HASH_").replace("-", "").replace("_", "")


def _text(fields: Mapping[str, Any], name: str) -> str | None:
    """Return a field as text; None if it is missing or blank. Lists are joined."""
    value = fields.get(name)
    if isinstance(value, Mapping):  # tags of the API: {"data": [{"text": ...}]}
        value = [one.get("text") if isinstance(one, Mapping) else one for one in value.get("data") or ()]
    if isinstance(value, list):
        value = " ".join(str(one) for one in value if one)
    return None if value is None else str(value).strip() or None
