"""The lock file beside the weights: the commit that was downloaded and the sha256 of its files.

Written at the first download; later downloads take that commit only. Reads and writes one JSON file;
`hub.weights` compares the weights with it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clipmod_cli.atomic import atomic_file
from clipmod_cli.errors import MissingModelError

LOCK_NAME = "clipmod-lock.json"
_FORMAT = 1
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedFile:
    """A file's sha256 in hex and its size in bytes."""

    sha256: str
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LockFile:
    """The content of a lock file: one repository at one commit.

    Attributes:
        files: by name in the repository.
        specs: the models that use these files.
    """

    repo: str
    commit: str
    files: Mapping[str, LockedFile]
    specs: tuple[str, ...]


def is_commit(text: str) -> bool:
    """Return whether this is a whole git commit id."""
    return bool(_COMMIT.fullmatch(text))


def is_sha256(text: str) -> bool:
    """Return whether this is a sha256 in lower-case hex."""
    return bool(_SHA256.fullmatch(text))


def read_lock(path: Path) -> LockFile | None:
    """Return the lock file's content, None if it does not exist.

    Raises:
        MissingModelError: it cannot be read or parsed. It is not ignored, because a damaged lock file would
            then allow any weights.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise _unusable(path, str(error)) from error
    try:
        return _parse(json.loads(text))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise _unusable(path, f"{type(error).__name__}: {error}") from error


def write_lock(path: Path, lock: LockFile) -> None:
    """Write the lock file atomically (a new file, synced, then renamed)."""
    document = {
        "clipmod_lock": _FORMAT,
        "repo": lock.repo,
        "commit": lock.commit,
        "specs": list(lock.specs),
        "files": {
            name: {"sha256": file.sha256, "size": file.size} for name, file in sorted(lock.files.items())
        },
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path, sync=True) as file:
        file.write((json.dumps(document, indent=2) + "\n").encode())


def _parse(document: Any) -> LockFile:
    if document["clipmod_lock"] != _FORMAT:
        raise ValueError(f"format {document['clipmod_lock']!r} is not supported by this version")
    files = {_name(name): _file(value) for name, value in document["files"].items()}
    commit, specs = document["commit"], document["specs"]
    if not is_commit(commit):
        raise ValueError(f"{commit!r} is not a commit")
    if not isinstance(specs, list) or not all(isinstance(spec, str) for spec in specs):
        raise ValueError("specs is not a list of names")
    return LockFile(repo=str(document["repo"]), commit=commit, files=files, specs=tuple(specs))


def _name(name: str) -> str:
    # The name becomes a path inside the cache and must not lead out of it.
    if not _PLAIN_NAME.fullmatch(name):
        raise ValueError(f"{name!r} is not a plain file name")
    return name


def _file(value: Any) -> LockedFile:
    sha256, size = value["sha256"], value["size"]
    if not is_sha256(sha256) or not isinstance(size, int) or size < 0:
        raise ValueError(f"{value!r} is not a sha256 and a size")
    return LockedFile(sha256=sha256, size=size)


def _unusable(path: Path, why: str) -> MissingModelError:
    return MissingModelError(
        f"the lock file {path} cannot be used ({why}), so the weights beside it cannot be trusted: "
        "delete it and download the model again (clipmod models download)"
    )
