"""A printed curl command → a request. Knows the options that the documents use, and refuses others."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from urllib.parse import urlsplit

_ONLY_SHOWN = frozenset({"--no-buffer"})
"""How the answer is shown, which asks for nothing else."""


@dataclass
class Curl:
    """What a command asks for.

    Attributes:
        target: path and query, as printed.
        files: (field, file name, type); the type is empty where none is given.
        fields: other form fields.
    """

    method: str = "GET"
    target: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    files: list[tuple[str, str, str]] = field(default_factory=list)
    fields: list[tuple[str, str]] = field(default_factory=list)
    body: str | None = None


def read_curl(command: str) -> Curl:
    """Return the request of a command; raises ValueError for an option that is not known here."""
    words = (word for word in shlex.split(command.replace("\\\n", " ")) if word not in _ONLY_SHOWN)
    if next(words) != "curl":
        raise ValueError(command)
    curl = Curl()
    for word in words:
        match word:
            case "-X" | "--request":
                curl.method = next(words)
            case "-H" | "--header":
                name, _, value = next(words).partition(": ")
                curl.headers[name] = value
            case "-F" | "--form":
                _add_field(curl, next(words))
            case "-d" | "--data":
                curl.body = next(words)
            case _ if word.startswith("-"):
                raise ValueError(f"unknown option {word}")
            case _:
                parts = urlsplit(word)
                curl.target = parts.path + (f"?{parts.query}" if parts.query else "")
    return curl


def _add_field(curl: Curl, text: str) -> None:
    name, _, value = text.partition("=")
    if not value.startswith("@"):
        curl.fields.append((name, value))
        return
    path, _, kind = value[1:].partition(";type=")
    curl.files.append((name, path, kind))
