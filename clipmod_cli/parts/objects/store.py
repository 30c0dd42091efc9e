"""The folder of a run in an object store, as a `PartStore`. Plans nothing and judges nothing.

That only one of several writers creates a name rests on conditional writes. A server that ignores the
condition says yes to both writers, so before its first conditional write each store object tests the server,
and refuses one that fails the test.
"""

from __future__ import annotations

import os
import random
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from clipmod_cli.errors import ItemError, OutputError, UsageError
from clipmod_cli.parts.objects.base import ABSENT, PIECE_BYTES, ConditionalBucket, Written
from clipmod_cli.sources.spill import SpillFolder
from clipmod_cli.sources.stores.errors import refusal, translate
from clipmod_cli.sources.stores.fetch import read_chunks, spill

CONFLICTS: Final = 8
"""How often a write is sent that the store refuses, since another write of the name was in progress."""

NO_TAG: Final = {"s3": '"00000000000000000000000000000000"', "gs": "1"}
"""By scheme: the tag of no object."""

_TEMPORARY_FOLDER = SpillFolder()


class ObjectPartStore:
    """One folder of a bucket, thread-safe; every method blocks.

    Every method raises OutputError if the store refuses or does not answer. After that it is not known
    whether a write took place: what it refers to must not be deleted.

    Attributes:
        name: the folder as the user named it, with a slash at its end.
    """

    def __init__(self, bucket: ConditionalBucket, name: str, prefix: str) -> None:
        """Name a folder of a bucket; send no request yet.

        Args:
            bucket: holds it.
            name: the folder as the user named it.
            prefix: of its keys, empty or with a slash at its end.
        """
        self.name = f"{bucket.scheme}://{name}/{prefix}"
        self._bucket, self._prefix = bucket, prefix
        self._lock = threading.Lock()
        self._is_tested = False

    def read(self, name: str) -> bytes | None:
        """Return the whole content of a name, None if there is none."""
        with self._errors(name):
            found = self._bucket.read(self._key(name))
        return None if found is None else found[0]

    def create(self, name: str, content: bytes) -> bool:
        """Create a name; return False if it exists, and leave that as it is."""
        self._test()
        return self._write_if(name, content, ABSENT)

    def replace(self, name: str, old: bytes, new: bytes) -> bool:
        """Replace the content of a name if it is `old`; return whether it was."""
        self._test()
        with self._errors(name):
            found = self._bucket.read(self._key(name))
        return found is not None and found[0] == old and self._write_if(name, new, found[1])

    def put(self, name: str, path: Path) -> None:
        """Move a local file to this name, whole or not at all; replaces what is there."""
        with path.open("rb") as file, self._errors(name):
            size = os.fstat(file.fileno()).st_size
            if size <= PIECE_BYTES:
                self._bucket.write(self._key(name), file.read())
            else:
                self._bucket.upload(self._key(name), file, size)
        path.unlink(missing_ok=True)

    @contextmanager
    def get(self, name: str) -> Iterator[Path]:
        """Give a temporary file with the content.

        Raises:
            OutputError: there is no such file.
        """
        objects = self._bucket.objects
        with self._errors(name):
            path = Path(spill(read_chunks(objects, objects.find(self._key(name))), _TEMPORARY_FOLDER))
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
                for page in self._bucket.objects.pages(self._prefix + below)
                for entry in page
            ]
        yield from sorted(found, key=str.encode)  # directory buckets list in no order

    def delete(self, name: str) -> None:
        """Delete a name; no error if there is none."""
        with self._errors(name):
            self._bucket.delete(self._key(name))

    def remove_unfinished(self) -> None:
        """Delete nothing: uploads that were not completed are removed by a rule of the bucket."""

    def age_s(self, name: str) -> float | None:
        """Return how long ago a name was written, in seconds by the store's clock; None if there is none."""
        with self._errors(name):
            head = self._bucket.head(self._key(name))
        return None if head is None else head.age_s

    def _key(self, name: str) -> str:
        return self._prefix + name

    def _write_if(self, name: str, content: bytes, only_if: str) -> bool:
        """Write a name if the condition holds; return whether it did.

        The client sends a request again if its answer was lost, also unseen. The second one finds what the
        first has written, so each write carries a random name.
        """
        writer = uuid.uuid4().hex
        with self._errors(name):
            for conflicts in range(CONFLICTS):
                written = self._bucket.write(self._key(name), content, only_if=only_if, writer=writer)
                if written == "no":
                    head = self._bucket.head(self._key(name))
                    return head is not None and head.writer == writer
                if written == "yes":
                    return True
                time.sleep(random.uniform(0, 0.1 * 2**conflicts))  # noqa: S311 - no secret
            raise ItemError("read_error", "other writers were in the way again and again")

    def _test(self) -> None:
        """Check once that the server keeps conditions.

        Raises:
            UsageError: it does not.
        """
        with self._lock:
            if self._is_tested:
                return
            name = f"probes/{uuid.uuid4().hex}"
            self._write_test(name, ABSENT)
            try:
                for only_if in (ABSENT, NO_TAG[self._bucket.scheme]):
                    if self._write_test(name, only_if) != "no":
                        raise self._unsafe(only_if)
            finally:
                with suppress(OutputError):
                    self.delete(name)
            self._is_tested = True

    def _write_test(self, name: str, only_if: str) -> Written:
        """Write the probe under a condition."""
        with self._errors(name):
            try:
                return self._bucket.write(self._key(name), b"", only_if=only_if)
            except Exception as error:
                if (refused := refusal(error)) is not None and refused.status == 501:
                    raise self._unsafe(only_if) from error
                raise

    def _unsafe(self, only_if: str) -> UsageError:
        return UsageError(
            f"{self.name} cannot hold the output of several machines: its server does not keep the condition "
            f"{self._bucket.condition_name(only_if)} of a write, so two of them could commit the same part. "
            "Use a server with conditional writes, or a shared folder"
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


def open_object_store(name: str) -> ObjectPartStore:
    """Return the store of `s3://bucket/prefix/` or `gs://bucket/prefix/`, with or without the last slash.

    Loads the credentials; sends no request yet.

    Raises:
        UsageError: no bucket is named.
        OutputError: the credentials cannot be loaded.
    """
    scheme, _, rest = name.partition("://")
    bucket, _, key = rest.partition("/")
    if not bucket:
        raise UsageError(f"{name} names no bucket. Give {scheme}://BUCKET/FOLDER/")
    try:
        opened = _open_bucket(scheme, bucket)
    except Exception as error:
        raise OutputError(f"{name}: {translate(error).message}") from error
    return ObjectPartStore(opened, bucket, key if not key or key.endswith("/") else key + "/")


def _open_bucket(scheme: str, bucket: str) -> ConditionalBucket:
    if scheme == "gs":
        from clipmod_cli.parts.objects.gs import GsBucket

        return GsBucket(bucket)
    from clipmod_cli.parts.objects.s3 import S3Bucket

    return S3Bucket(bucket)
