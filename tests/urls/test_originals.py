"""What was downloaded is kept once, whole, and under no name that anybody else chose."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from clipmod_cli.errors import OutputError
from clipmod_cli.runs.originals import Originals
from clipmod_cli.types import Failure, Item
from tests.urls.kit import picture
from tests.urls.test_fetch import MP4


def files_of(folder: Path) -> dict[str, bytes]:
    """Return what lies in a folder."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def named(data: bytes, ending: str) -> str:
    """Return the name that bytes must have."""
    digest = hashlib.sha256(data).hexdigest()
    return f"{digest[:2]}/{digest}.{ending}"


def test_a_name_is_the_hash_and_the_format(tmp_path: Path) -> None:
    video = tmp_path / "video"
    video.write_bytes(MP4)
    originals = Originals(str(tmp_path / "new" / "kept"))
    jpeg = b"\xff\xd8\xff" + bytes(9)
    hostile = "http://example.com/../../etc/passwd%00.php"
    originals.save(Item(source=hostile, index=0, data=picture()))
    originals.save(Item(source=hostile, index=1, data=jpeg))
    originals.save(Item(source=hostile, index=2, data=b"?"))
    originals.save(Item(source=hostile, index=3, spilled=str(video)))
    originals.save(Item(source=hostile, index=4))
    assert files_of(tmp_path / "new" / "kept") == {
        named(picture(), "png"): picture(),
        named(jpeg, "jpg"): jpeg,
        named(b"?", "bin"): b"?",
        named(MP4, "mp4"): MP4,
    }
    assert video.exists()


def test_the_same_bytes_are_kept_once(tmp_path: Path) -> None:
    originals = Originals(str(tmp_path))
    originals.save(Item(source="a", index=0, data=picture()))
    (path,) = (tmp_path / name for name in files_of(tmp_path))
    before = path.stat().st_mtime_ns, path.stat().st_ino
    originals.save(Item(source="b", index=1, data=picture()))
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == before


def test_all_pass_through_in_order(tmp_path: Path) -> None:
    items: list[Item | Failure] = [
        Item(source="a", index=0, data=picture()),
        Failure(item=Item(source="b", index=1), stage="source", code="timeout", message="x"),
    ]

    def found() -> Iterator[Item | Failure]:
        yield from items

    assert list(Originals(str(tmp_path)).save_all(found())) == items
    assert list(files_of(tmp_path)) == [named(picture(), "png")]


def test_a_folder_that_cannot_be_written_ends_the_run(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError):
        Originals(str(tmp_path / "file"))
    originals = Originals(str(tmp_path / "kept"))
    digest = hashlib.sha256(picture()).hexdigest()
    (tmp_path / "kept" / digest[:2]).write_bytes(b"in the way")
    with pytest.raises(OutputError):
        originals.save(Item(source="a", index=0, data=picture()))
