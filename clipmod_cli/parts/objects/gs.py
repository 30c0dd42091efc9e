"""Conditional writes of Google Cloud Storage: `ifGenerationMatch`, 0 for an object that does not exist."""

from __future__ import annotations

import json
import time
import uuid
from contextlib import suppress
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import IO, Any, Final

from clipmod_cli.parts.objects.base import ABSENT, PIECE_BYTES, WRITER, ObjectHead, Written
from clipmod_cli.sources.stores.errors import changed
from clipmod_cli.sources.stores.objects import GsStore

READS: Final = 8
"""How often an object is read that was replaced meanwhile."""

PIECE_UNIT: Final = 256 * 1024
"""Pieces of an upload are multiples of it, but for the last one."""


class GsBucket:
    """A bucket of Google Cloud Storage, through gcsfs, which sends a request again that was not answered."""

    scheme = "gs"

    def __init__(self, bucket: str) -> None:
        """Load the credentials; send no request yet."""
        self._bucket = bucket
        self.objects = GsStore(bucket, access="read_write")

    def read(self, key: str) -> tuple[bytes, str] | None:
        """Return content and generation."""
        for _ in range(READS):
            if (fields := self._fields(key)) is None:
                return None
            generation: str = fields["generation"]
            try:
                _, content = self.objects.call(
                    "GET", "b/{}/o/{}", self._bucket, key, alt="media", ifGenerationMatch=generation
                )
            except (FileNotFoundError, FileExistsError):  # how gcsfs tells 404 and 412
                continue
            return bytes(content), generation
        raise changed()

    def head(self, key: str) -> ObjectHead | None:
        """Return what the metadata tell."""
        if (fields := self._fields(key)) is None:
            return None
        age_s = fields["now_s"] - datetime.fromisoformat(fields["updated"]).timestamp()
        return ObjectHead(writer=fields.get("metadata", {}).get(WRITER), age_s=max(0.0, age_s))

    def write(self, key: str, content: bytes, *, only_if: str | None = None, writer: str = "") -> Written:
        """Write by an upload with metadata in one request."""
        condition = {} if only_if is None else {"ifGenerationMatch": only_if or "0"}
        boundary = uuid.uuid4().hex
        metadata = json.dumps({"metadata": {WRITER: writer}} if writer else {}).encode()
        body = b"".join(
            b"--%s\r\nContent-Type: %s\r\n\r\n%s\r\n" % (boundary.encode(), kind, part)
            for kind, part in ((b"application/json", metadata), (b"application/octet-stream", content))
        )
        try:
            self.objects.call(
                "POST", self.objects.upload_path, self._bucket, name=key, uploadType="multipart",
                headers={"Content-Type": f"multipart/related; boundary={boundary}"},
                data=body + b"--%s--\r\n" % boundary.encode(), **condition,
            )  # fmt: skip
        except FileExistsError:
            return "no"
        return "yes"

    def upload(self, key: str, file: IO[bytes], size: int) -> None:
        """Write by a resumable upload; what is not completed is removed by the store after a week."""
        headers, _ = self.objects.call(
            "POST", self.objects.upload_path, self._bucket, name=key, uploadType="resumable", json={}
        )
        at, sent = headers["Location"], 0
        while sent < size:
            piece = file.read(PIECE_BYTES // PIECE_UNIT * PIECE_UNIT)
            place = f"bytes {sent}-{sent + len(piece) - 1}/{size}"
            answer, _ = self.objects.call("PUT", at, headers={"Content-Range": place}, data=piece)
            sent += len(piece)
            if sent < size:  # the store may have kept less of it
                kept = answer.get("Range")
                sent = 0 if kept is None else int(kept.rpartition("-")[2]) + 1
                file.seek(sent)

    def delete(self, key: str) -> None:
        """Delete an object."""
        with suppress(FileNotFoundError):
            self.objects.call("DELETE", "b/{}/o/{}", self._bucket, key)

    def condition_name(self, only_if: str) -> str:
        """Return the name of the parameter."""
        return "ifGenerationMatch=0" if only_if == ABSENT else "ifGenerationMatch"

    def _fields(self, key: str) -> dict[str, Any] | None:
        """Return the metadata of an object, and as `now_s` the time of the store in seconds since 1970."""
        try:
            headers, content = self.objects.call("GET", "b/{}/o/{}", self._bucket, key)
        except FileNotFoundError:
            return None
        now = headers.get("Date")
        fields: dict[str, Any] = json.loads(content)
        return {**fields, "now_s": parsedate_to_datetime(now).timestamp() if now else time.time()}
