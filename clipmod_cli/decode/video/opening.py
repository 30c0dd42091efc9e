"""A video → its sampled frames, by PyAV and by path, never through a Python file object.

FFmpeg gets the one demuxer of the sniffed container and may open local files only, so it follows no playlist.
It opens our descriptor, which was checked to be a regular file.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from clipmod_cli.decode.job import DecodeJob, Shot
from clipmod_cli.decode.reading.items import open_regular
from clipmod_cli.decode.video.pieces import walk_pieces
from clipmod_cli.decode.video.watch import VideoWatcher, check_time, not_all, translated
from clipmod_cli.errors import ItemError
from clipmod_cli.types import Item

if TYPE_CHECKING:
    from av.container import InputContainer

_CHUNK_BYTES = 1 << 20
_FILE_DESCRIPTORS = Path("/dev/fd")


def decode_video(item: Item, job: DecodeJob) -> Iterator[Shot]:
    """Yield the sampled frames, then raise ItemError if not all of the video could be sampled.

    Raises KnownContentError if the video is in a bank.

    Args:
        item: read from its `spilled` file, its `data` or its `source`.
        job: of its `data` only the first bytes.
    """
    job.media.kind, job.media.format = "video", job.format.name
    with _file_of(item) as path, open_regular(path) as (descriptor, status):
        mtime_ns = status.st_mtime_ns if path == item.source else item.mtime_ns
        job.media.bytes, job.media.mtime_ns = status.st_size, mtime_ns
        if status.st_size > job.options.limits.max_video_bytes:
            most = job.options.limits.max_video_bytes / 1e9
            raise ItemError("file_too_large", f"the video is larger than the limit of {most:g} GB")
        if not job.options.spans:  # a second look: the hash is known
            job.note_hash(_hash(descriptor, job))
        with translated(), _open(_path_of(descriptor, path), job) as container:
            known = {stream.id for stream in container.streams}
            problem, shots = VideoWatcher(container, job).run()
        if problem is None:
            found = walk_pieces(descriptor, job.format.name, status.st_size, lambda: check_time(job))
            if found.has_hole:
                problem = not_all("the file is cut, or a part of it is damaged or missing")
            if found.streams - known:
                job.media.note_unseen("other_content")
    yield from shots
    if problem is not None:
        raise problem


@contextmanager
def _file_of(item: Item) -> Iterator[str]:
    """Give the path of a file with the item's bytes; a temporary one is removed."""
    if item.data is None:
        yield item.spilled or item.source
        return
    with ExitStack() as stack:
        try:
            if _FILE_DESCRIPTORS.is_dir():  # a file without a name is removed even if this process is killed
                file = stack.enter_context(tempfile.TemporaryFile())
                file.write(item.data)
                file.flush()
                path = _FILE_DESCRIPTORS / str(file.fileno())
            else:
                path = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="clipmod-"))) / "video"
                path.write_bytes(item.data)
        except OSError as error:
            raise ItemError("internal_error", f"no temporary file for the video: {error.strerror}") from error
        yield str(path)


def _path_of(descriptor: int, path: str) -> str:
    """Return a name of the file that was checked, whatever is at `path` by now."""
    own = _FILE_DESCRIPTORS / str(descriptor)
    return str(own) if own.exists() else str(Path(path).absolute())


def _hash(descriptor: int, job: DecodeJob) -> str:
    digest = hashlib.sha256()
    while chunk := os.read(descriptor, _CHUNK_BYTES):
        digest.update(chunk)
        check_time(job)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return digest.hexdigest()


def _open(path: str, job: DecodeJob) -> InputContainer:
    import av

    limits = job.options.limits
    options = {
        "protocol_whitelist": "file",
        "max_pixels": str(limits.max_video_side**2),
        "threads": "1",
    }
    if job.format.open == "mov":
        # Times are those of the edit list, but what it hides is looked at: not every player hides it.
        options |= {"advanced_editlist": "0", "enable_drefs": "0"}
    return av.open(
        f"file:{path}",
        "r",
        job.format.open,
        options,
        timeout=limits.max_video_seconds,
        metadata_errors="replace",
    )
