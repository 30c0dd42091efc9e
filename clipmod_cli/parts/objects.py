"""The folder of a run in an S3 bucket, as a `PartStore`. Plans nothing and judges nothing.

That only one of several writers creates a name rests on conditional writes: `If-None-Match: *`, and
`If-Match` with an ETag. A server that ignores them answers 200 to both writers, so before its first
conditional write each store object tests the server, and refuses one that fails the test.
"""

from __future__ import annotations

import os
import random
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import IO, Any, Final, Self

from clipmod_cli.errors import ItemError, OutputError, UsageError
from clipmod_cli.sources.spill import SpillFolder
from clipmod_cli.sources.stores.errors import Refusal, refusal, translate
from clipmod_cli.sources.stores.fetch import read_chunks, spill
from clipmod_cli.sources.stores.objects import S3Store

TRIES: Final = 8
"""Of each request, with botocore's growing pauses about a minute: a part took longer to judge."""

CONFLICTS: Final = 8
"""How often a write is sent that S3 answers with 409, since another write of the name was in progress."""

PIECE_BYTES: Final = 64_000_000
"""Of a multipart upload, and the largest file of a single request: a piece is in memory while it is sent."""

WRITER: Final = "clipmod-writer"
"""The object metadata that tells who has sent a conditional write."""

_NO_ETAG: Final = '"00000000000000000000000000000000"'
_TEMPORARY_FOLDER = SpillFolder()


class S3PartStore:
    """One folder of a bucket, thread-safe; every method blocks.

    Every method raises OutputError if the store refuses or does not answer. After that it is not known
    whether a write took place: what it refers to must not be deleted.

    Attributes:
        name: the folder as the user named it, with a slash at its end.
    """

    def __init__(self, bucket: str, prefix: str = "", *, tries: int = TRIES) -> None:
        """Load the credentials; send no request yet. The prefix is empty or ends in a slash."""
        self.name = f"s3://{bucket}/{prefix}"
        self._prefix = prefix
        self._lock = threading.Lock()
        self._is_tested = False
        with self._errors(""):
            self._bucket = S3Store(bucket, tries=tries)

    @classmethod
    def open(cls, name: str) -> Self:
        """Return the store of `s3://bucket/prefix/`, with or without the last slash.

        Raises:
            UsageError: no bucket is named.
        """
        bucket, _, key = name.removeprefix("s3://").partition("/")
        if not bucket:
            raise UsageError(f"{name} names no bucket. Give s3://BUCKET/FOLDER/")
        return cls(bucket, key if not key or key.endswith("/") else key + "/")

    def read(self, name: str) -> bytes | None:
        """Return the whole content of a name, None if there is none."""
        found = self._read(name)
        return None if found is None else found[0]

    def create(self, name: str, content: bytes) -> bool:
        """Create a name; return False if it exists, and leave that as it is."""
        self._test()
        return self._write_if(name, content, IfNoneMatch="*")

    def replace(self, name: str, old: bytes, new: bytes) -> bool:
        """Replace the content of a name if it is `old`; return whether it was."""
        self._test()
        found = self._read(name)
        return found is not None and found[0] == old and self._write_if(name, new, IfMatch=found[1])

    def put(self, name: str, path: Path) -> None:
        """Move a local file to this name, whole or not at all; replaces what is there."""
        with path.open("rb") as file, self._errors(name):
            size = os.fstat(file.fileno()).st_size
            if size <= PIECE_BYTES:
                self._bucket.call("put_object", Key=self._key(name), Body=file.read())
            else:
                self._put_in_pieces(name, file, size)
        path.unlink(missing_ok=True)

    @contextmanager
    def get(self, name: str) -> Iterator[Path]:
        """Give a temporary file with the content.

        Raises:
            OutputError: there is no such file.
        """
        with self._errors(name):
            entry = self._bucket.find(self._key(name))
            path = Path(spill(read_chunks(self._bucket, entry), _TEMPORARY_FOLDER))
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)

    def list(self, folder: str) -> Iterator[str]:
        """Yield the names of all files under a folder, sorted by bytes; none if it does not exist."""
        below = f"{folder.strip('/')}/" if folder else ""
        with self._errors(folder):
            found = [
                entry.key.removeprefix(self._prefix)
                for page in self._bucket.pages(self._prefix + below)
                for entry in page
            ]
        yield from sorted(found, key=str.encode)  # directory buckets list in no order

    def delete(self, name: str) -> None:
        """Delete a name; no error if there is none."""
        with self._errors(name):
            self._bucket.call("delete_object", Key=self._key(name))

    def remove_unfinished(self) -> None:
        """Delete nothing: uploads that were not completed are removed by a lifecycle rule of the bucket."""

    def age_s(self, name: str) -> float | None:
        """Return how long ago a name was written, in seconds by the store's clock; None if there is none."""
        with self._errors(name):
            head = self._head(name)
        if head is None:
            return None
        now = head["ResponseMetadata"]["HTTPHeaders"].get("date")
        seconds = parsedate_to_datetime(now).timestamp() if now else time.time()
        return max(0.0, seconds - float(head["LastModified"].timestamp()))

    def _key(self, name: str) -> str:
        return self._prefix + name

    def _read(self, name: str) -> tuple[bytes, str] | None:
        """Return content and ETag of a name."""
        with self._errors(name):
            try:
                return self._bucket.read_all(self._key(name))
            except Exception as error:
                refused = refusal(error)
                if refused is not None and refused.status == 404 and refused.reason != "NoSuchBucket":
                    return None
                raise

    def _head(self, name: str) -> dict[str, Any] | None:
        try:
            return self._bucket.call("head_object", Key=self._key(name))
        except Exception as error:
            if _status(error) == 404:
                return None
            raise

    def _write_if(self, name: str, content: bytes, **condition: str) -> bool:
        """Write a name if the condition holds; return whether it did.

        The client sends a request again if its answer was lost, also unseen. The second one finds what the
        first has written, so each write carries a random name.
        """
        writer = uuid.uuid4().hex
        request = {"Key": self._key(name), "Body": content, "Metadata": {WRITER: writer}, **condition}
        with self._errors(name):
            for conflicts in range(CONFLICTS):
                try:
                    self._bucket.call("put_object", **request)
                except Exception as error:
                    refused = refusal(error)
                    if refused is None or not _is_not_written(refused):
                        raise
                    if refused.status != 409:
                        found = self._head(name)
                        return found is not None and found["Metadata"].get(WRITER) == writer
                    time.sleep(random.uniform(0, 0.1 * 2**conflicts))  # noqa: S311 - no secret
                else:
                    return True
            raise ItemError("read_error", "other writers were in the way again and again")

    def _put_in_pieces(self, name: str, file: IO[bytes], size: int) -> None:
        key = self._key(name)
        ids = {"Key": key, "UploadId": self._bucket.call("create_multipart_upload", Key=key)["UploadId"]}
        pieces: list[dict[str, Any]] = []
        try:
            while content := file.read(PIECE_BYTES):
                number = len(pieces) + 1
                answer = self._bucket.call("upload_part", **ids, PartNumber=number, Body=content)
                pieces.append({"PartNumber": number, "ETag": answer["ETag"]})
            self._bucket.call("complete_multipart_upload", **ids, MultipartUpload={"Parts": pieces})
        except BaseException as error:
            if _status(error) == 404 and self._bucket.find(key).size == size:
                return  # it was completed, and the answer to that was lost
            with suppress(Exception):  # what is left costs storage, and the first error is the one to tell
                self._bucket.call("abort_multipart_upload", **ids)
            raise

    def _test(self) -> None:
        """Check once that the server keeps conditions.

        Raises:
            UsageError: it does not.
        """
        with self._lock:
            if self._is_tested:
                return
            name = f"probes/{uuid.uuid4().hex}"
            self._put_of_test(name, IfNoneMatch="*")
            try:
                for condition, value in (("IfNoneMatch", "*"), ("IfMatch", _NO_ETAG)):
                    if self._put_of_test(name, **{condition: value}):
                        raise self._unsafe(condition)
            finally:
                with suppress(OutputError):
                    self.delete(name)
            self._is_tested = True

    def _put_of_test(self, name: str, **condition: str) -> bool:
        """Write the probe under a condition; return whether the server did."""
        with self._errors(name):
            try:
                self._bucket.call("put_object", Key=self._key(name), Body=b"", **condition)
            except Exception as error:
                status = _status(error)
                if status == 412:
                    return False
                if status == 501:
                    raise self._unsafe(*condition) from error
                raise
            return True

    def _unsafe(self, condition: str) -> UsageError:
        header = {"IfNoneMatch": "If-None-Match", "IfMatch": "If-Match"}[condition]
        return UsageError(
            f"{self.name} cannot hold the output of several machines: its server does not keep the condition "
            f"{header} of a write, so two of them could commit the same part. Use a server with conditional "
            "writes, or a shared folder"
        )

    @contextmanager
    def _errors(self, name: str) -> Iterator[None]:
        """Raise whatever the client raises in the block as an OutputError."""
        try:
            yield
        except (OutputError, UsageError):
            raise
        except Exception as error:
            told = error if isinstance(error, ItemError) else translate(error)
            raise OutputError(f"{self.name}{name}: {told.message}") from error


def _is_not_written(refused: Refusal) -> bool:
    """Return whether an answer to a conditional write says that the condition was not met, or may not be.

    404 is `If-Match` for a name that was deleted; 409 that another write of the name was in progress.
    """
    return refused.status in {409, 412} or (refused.status == 404 and refused.reason == "NoSuchKey")


def _status(error: BaseException) -> int | None:
    refused = refusal(error)
    return None if refused is None else refused.status
