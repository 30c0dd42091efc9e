"""Reads a `multipart/form-data` body incrementally: python_multipart's callbacks as values, without I/O."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeAlias
from urllib.parse import unquote

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

_EXTENDED_NAME: Final = re.compile(r"filename\*=(?:utf-8|UTF-8)''([^;\s]+)")
"""How urllib3 before 2.0 writes a name that is not ASCII."""


class FormError(ValueError):
    """The body is not a valid form."""


@dataclass(frozen=True, slots=True)
class PartBegin:
    """A part begins; `filename` is None where it is a field and no file."""

    field: str
    filename: str | None


@dataclass(frozen=True, slots=True)
class PartData:
    """Some of the part's bytes."""

    data: bytes


@dataclass(frozen=True, slots=True)
class PartEnd:
    """The part is complete."""


Event: TypeAlias = PartBegin | PartData | PartEnd


@dataclass
class FormReader:
    """Reads one `multipart/form-data` body, in chunks cut anywhere."""

    content_type: str
    ended: bool = False
    _events: list[Event] = field(default_factory=list)
    _name: bytes = b""
    _value: bytes = b""
    _disposition: bytes = b""

    def __post_init__(self) -> None:
        """Prepare to read.

        Raises:
            FormError: the content type is not a form, or has no boundary.
        """
        kind, options = parse_options_header(self.content_type)
        boundary = options.get(b"boundary")
        if kind != b"multipart/form-data" or not boundary:
            raise FormError("Content-Type must be multipart/form-data with a boundary")
        try:
            self._parser = MultipartParser(boundary, self._callbacks())
        except FormParserError as e:
            raise FormError(str(e)) from e

    def feed(self, chunk: bytes) -> list[Event]:
        """Return the events in the next bytes.

        Raises:
            FormError: they are not valid.
        """
        try:
            self._parser.write(chunk)
        except FormParserError as e:
            raise FormError(f"the form cannot be read: {e}") from e
        events, self._events = self._events, []
        return events

    def finish(self) -> None:
        """Check that the form is complete.

        Raises:
            FormError: the body ended within the form.
        """
        if not self.ended:
            raise FormError("the form ended early")

    def _callbacks(self) -> MultipartCallbacks:
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._header_name,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_finished,
            "on_part_data": self._data,
            "on_part_end": lambda: self._events.append(PartEnd()),
            "on_end": self._end,
        }

    def _begin(self) -> None:
        self._name = self._value = self._disposition = b""

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        if self._name.lower() == b"content-disposition":
            if self._disposition:
                raise FormError("a part of the form has two names")
            self._disposition = self._value
        self._name = self._value = b""

    def _headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        if b"name" not in options:
            raise FormError("a part of the form has no name")
        given = options.get(b"filename")
        filename = self._extended_name() if given is None else _text(given)
        self._events.append(PartBegin(_text(options[b"name"]), filename))

    def _extended_name(self) -> str | None:
        found = _EXTENDED_NAME.search(self._disposition.decode("latin-1"))
        return unquote(found[1], errors="replace") if found else None

    def _data(self, data: bytes, start: int, end: int) -> None:
        self._events.append(PartData(data[start:end]))

    def _end(self) -> None:
        self.ended = True


def _text(raw: bytes) -> str:
    """Return a name as in records: bytes that are not UTF-8 as surrogate escapes."""
    return raw.decode(errors="surrogateescape")
