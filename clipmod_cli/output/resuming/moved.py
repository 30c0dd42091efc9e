"""What `clipmod apply` moved away: `OUT.moved.jsonl` beside an output names the manifests that tell it."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from clipmod_cli.errors import ClipmodError, OutputError
from clipmod_cli.output.moves import Move, read_lines
from clipmod_cli.output.resuming.files import beside
from clipmod_cli.records import read_name, write_name

SCHEMA: Final = "clipmod-moved/1"

log = logging.getLogger(__name__)


def moved_path(output: Path) -> Path:
    """Return where the manifests of what was moved are named."""
    return beside(output, ".moved.jsonl")


def name_manifest(output: Path, manifest: Path) -> None:
    """Name a manifest beside an output, unless it is named already; it is on the disk when this returns.

    Raises:
        OutputError: it cannot be written.
    """
    path = moved_path(output)
    if manifest in _manifests(output):
        return
    text, encoded = write_name(str(manifest))
    line = json.dumps({"schema": SCHEMA, "manifest": text, "manifest_b64": encoded}, ensure_ascii=False)
    try:
        with path.open("ab") as file:
            file.write(b"\n" * _is_torn(path) + line.encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}") from error


@dataclass(slots=True)
class MovedFiles:
    """The files that were moved or deleted and not given back, by hashes of their names and contents."""

    _destinations: dict[bytes, str] = field(default_factory=dict)

    @classmethod
    def beside(cls, *outputs: Path) -> Self:
        """Return what was moved of the inputs of outputs; a manifest that cannot be read tells nothing."""
        moved = cls()
        for manifest in dict.fromkeys(path for output in outputs for path in _manifests(output)):
            try:
                moved._add(manifest)
            except ClipmodError as error:
                log.warning("%s. What was moved there is counted as gone", error)
        return moved

    def find(self, name: str, sha256: str | None) -> str | None:
        """Return where a file was moved; None if it was not.

        Args:
            name: absolute, links in its folders resolved (`InputNames.resolve`).
            sha256: of the bytes that were judged.
        """
        return None if sha256 is None else self._destinations.get(_key(name, sha256))

    def _add(self, manifest: Path) -> None:
        found: dict[int, tuple[bytes, str]] = {}
        for line in read_lines(manifest):
            if not isinstance(line, Move):
                if line.state in {"left", "undone"}:
                    found.pop(line.number, None)
            elif line.action != "copy":
                destination = os.path.join(manifest.parent, line.destination)  # noqa: PTH118 - any byte
                found[line.number] = _key(line.source, line.sha256), destination
        self._destinations.update(found.values())


def _key(name: str, sha256: str) -> bytes:
    text = f"{name}\0{sha256}".encode(errors="surrogatepass")  # a list may hold half a UTF-16 pair
    return hashlib.blake2b(text, digest_size=16).digest()


def _manifests(output: Path) -> list[Path]:
    """Return the manifests that are named beside an output; lines that name none are left out."""
    try:
        lines = moved_path(output).read_bytes().splitlines()
    except OSError:
        return []
    found: dict[Path, None] = {}
    for line in lines:
        try:
            fields = json.loads(line)
            if fields["schema"] == SCHEMA:
                found[Path(read_name(fields["manifest"], fields["manifest_b64"]))] = None
        except (ValueError, KeyError, TypeError):
            continue
    return list(found)


def _is_torn(path: Path) -> bool:
    content = path.read_bytes()
    return bool(content) and not content.endswith(b"\n")
