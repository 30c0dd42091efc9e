"""The lock file beside the weights: the commit that was downloaded and the sha256 of its files.

Written at the first download; later downloads take that commit only. Reads and writes one JSON file;
`hub.weights` compares the weights with it.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, ValidationError

from clipmod_cli.atomic import atomic_file
from clipmod_cli.errors import MissingModelError

LOCK_NAME = "clipmod-lock.json"
_COMMIT = r"^[0-9a-f]{40}$"
_SHA256 = r"^[0-9a-f]{64}$"
_NAME_IN_FOLDER = r"[A-Za-z0-9_][A-Za-z0-9_.-]*"
_PLAIN_NAME = rf"^{_NAME_IN_FOLDER}(/{_NAME_IN_FOLDER})*$"
# A file's name becomes a path inside the cache and must not lead out of it.


class LockedFile(BaseModel):
    """A file's sha256 in hex and its size in bytes."""

    model_config = ConfigDict(frozen=True, strict=True)

    sha256: str = Field(pattern=_SHA256)
    size: NonNegativeInt


class LockFile(BaseModel):
    """The content of a lock file: one repository at one commit.

    Attributes:
        clipmod_lock: version of the format.
        specs: the models that use these files.
        files: by name in the repository.
    """

    model_config = ConfigDict(frozen=True, strict=True)

    clipmod_lock: Literal[1]
    repo: str
    commit: str = Field(pattern=_COMMIT)
    specs: tuple[str, ...]
    files: dict[Annotated[str, Field(pattern=_PLAIN_NAME)], LockedFile]


def is_commit(text: str) -> bool:
    """Return whether this is a whole git commit id."""
    return bool(re.fullmatch(_COMMIT, text))


def is_sha256(text: str) -> bool:
    """Return whether this is a sha256 in lower-case hex."""
    return bool(re.fullmatch(_SHA256, text))


def read_lock(path: Path) -> LockFile | None:
    """Return the lock file's content, None if it does not exist.

    Raises:
        MissingModelError: it cannot be read or parsed. It is not ignored, because a damaged lock file would
            then allow any weights.
    """
    try:
        return LockFile.model_validate_json(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValidationError) as error:
        problem = error
    first = problem.errors()[0] if isinstance(problem, ValidationError) else None
    why = f"{'.'.join(map(str, first['loc']))}: {first['msg']}" if first else str(problem)
    raise MissingModelError(
        f"the lock file {path} cannot be used ({why}), so the weights beside it cannot be trusted: "
        "delete it and download the model again (clipmod models download)"
    ) from problem


def write_lock(path: Path, lock: LockFile) -> None:
    """Write the lock file, atomically and synced."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path, sync=True) as file:
        file.write(f"{lock.model_dump_json(indent=2)}\n".encode())
