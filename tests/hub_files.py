"""The values of the fake hub (`tests.hub`): requests, faults, and files in the hub's own words."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

LFS_FROM = 1000
# Files of at least this many bytes are "large" here; the real hub goes by name and 10 MB.


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it came."""

    method: str
    path: str
    headers: Mapping[str, str]


@dataclass
class Faults:
    """What goes wrong. Each may be changed at any time.

    Attributes:
        cut_after: close the connection after this many bytes of a file's body.
        cuts: how many times to do so; None is always.
        stall_after: send this many bytes of a file's body and then nothing.
        flip: change the last byte of every large file that is sent.
        ignore_range: answer with the whole file whatever is asked.
        gone: these files are 404, though the repository lists them.
        status: answer everything with this status.
        gated: this repository answers 403 with the hub's GatedRepo code.
        html: answer everything with a web page, as a captive portal does.
        elsewhere: redirect large files to this address.
        drip_s: seconds between any two bytes of an API answer.
    """

    cut_after: int | None = None
    cuts: int | None = 1
    stall_after: int | None = None
    flip: bool = False
    ignore_range: bool = False
    gone: set[str] = field(default_factory=set)
    status: int | None = None
    gated: bool = False
    html: bool = False
    elsewhere: str | None = None
    drip_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Commit:
    """A repository's files at one commit."""

    sha: str
    files: Mapping[str, bytes]


@lru_cache(maxsize=64)
def sha256_of(data: bytes) -> str:
    """Return the sha256 in hex."""
    return hashlib.sha256(data).hexdigest()


@lru_cache(maxsize=64)
def git_id(data: bytes) -> str:
    """Return what git names a file with these bytes."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def sibling(name: str, data: bytes) -> dict[str, Any]:
    """Return a file as `/api/models/REPO?blobs=true` describes it."""
    sibling: dict[str, Any] = {"rfilename": name, "size": len(data), "blobId": git_id(data)}
    if len(data) >= LFS_FROM:
        sha256 = sha256_of(data)
        sibling["lfs"] = {"sha256": sha256, "size": len(data), "pointerSize": 134}
    return sibling


def tree_entry(name: str, data: bytes) -> dict[str, Any]:
    """Return a file as `/api/models/REPO/tree/REV` describes it."""
    entry: dict[str, Any] = {"type": "file", "path": name, "size": len(data), "oid": git_id(data)}
    if len(data) >= LFS_FROM:
        sha256 = sha256_of(data)
        entry["lfs"] = {"oid": sha256, "size": len(data), "pointerSize": 134}
    return entry
