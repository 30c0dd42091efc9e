"""Conditional writes of S3: `If-None-Match: *`, and `If-Match` with an ETag."""

from __future__ import annotations

import time
from contextlib import suppress
from email.utils import parsedate_to_datetime
from typing import IO, Any, Final

from clipmod_cli.parts.objects.base import ABSENT, PIECE_BYTES, WRITER, ObjectHead, Written
from clipmod_cli.sources.stores.errors import refusal
from clipmod_cli.sources.stores.objects import S3Store

TRIES: Final = 8
"""Of each request, with botocore's growing pauses about a minute: a part took longer to judge."""


class S3Bucket:
    """A bucket of S3 or of a compatible server."""

    scheme = "s3"

    def __init__(self, bucket: str) -> None:
        """Load the credentials; send no request yet."""
        self.objects = S3Store(bucket, tries=TRIES)

    def read(self, key: str) -> tuple[bytes, str] | None:
        """Return content and ETag."""
        try:
            return self.objects.read_all(key)
        except Exception as error:
            refused = refusal(error)
            if refused is not None and refused.status == 404 and refused.reason != "NoSuchBucket":
                return None
            raise

    def head(self, key: str) -> ObjectHead | None:
        """Return what a HEAD tells."""
        try:
            answer = self.objects.call("head_object", Key=key)
        except Exception as error:
            if _status(error) == 404:
                return None
            raise
        now = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
        seconds = parsedate_to_datetime(now).timestamp() if now else time.time()
        age_s = max(0.0, seconds - float(answer["LastModified"].timestamp()))
        return ObjectHead(writer=answer["Metadata"].get(WRITER), age_s=age_s)

    def write(self, key: str, content: bytes, *, only_if: str | None = None, writer: str = "") -> Written:
        """Write by a PUT."""
        condition = {} if only_if is None else {"IfMatch": only_if} if only_if else {"IfNoneMatch": "*"}
        metadata = {"Metadata": {WRITER: writer}} if writer else {}
        try:
            self.objects.call("put_object", Key=key, Body=content, **metadata, **condition)
        except Exception as error:
            refused = refusal(error)
            if refused is None or only_if is None:
                raise
            if refused.status == 409:
                return "conflict"
            # of If-Match also 404, where the object was deleted meanwhile
            if refused.status == 412 or (refused.status == 404 and refused.reason == "NoSuchKey"):
                return "no"
            raise
        return "yes"

    def upload(self, key: str, file: IO[bytes], size: int) -> None:
        """Write by a multipart upload."""
        ids = {"Key": key, "UploadId": self.objects.call("create_multipart_upload", Key=key)["UploadId"]}
        pieces: list[dict[str, Any]] = []
        try:
            while content := file.read(PIECE_BYTES):
                number = len(pieces) + 1
                answer = self.objects.call("upload_part", **ids, PartNumber=number, Body=content)
                pieces.append({"PartNumber": number, "ETag": answer["ETag"]})
            self.objects.call("complete_multipart_upload", **ids, MultipartUpload={"Parts": pieces})
        except BaseException as error:
            if _status(error) == 404 and self.objects.find(key).size == size:
                return  # it was completed, and the answer to that was lost
            with suppress(Exception):  # what is left costs storage, and the first error is the one to tell
                self.objects.call("abort_multipart_upload", **ids)
            raise

    def delete(self, key: str) -> None:
        """Delete an object."""
        self.objects.call("delete_object", Key=key)

    def condition_name(self, only_if: str) -> str:
        """Return the name of the header."""
        return "If-None-Match" if only_if == ABSENT else "If-Match"


def _status(error: BaseException) -> int | None:
    refused = refusal(error)
    return None if refused is None else refused.status
