"""A path that is no readable regular file is a Failure with the right code, and never hangs."""

from __future__ import annotations

import hashlib
import os
import socket
from pathlib import Path

import pytest

from clipmod_cli.decode.item import decode_item
from clipmod_cli.decode.limits import DecodeLimits, DecodeOptions
from clipmod_cli.results import Settled
from clipmod_cli.types import Failure, Frame, Item
from tests.decode.pictures import CENTRE, WHOLE, check_law, encode, failure, media, quarters

PICTURE = encode(quarters(), "PNG")


def look(path: str | Path, **limits: int) -> Frame | Settled:
    item = Item(source=os.fspath(path), index=3)
    found = decode_item(item, [WHOLE], DecodeOptions(coverage=CENTRE, limits=DecodeLimits(**limits)))
    check_law(item, found)
    assert len(found) == 1
    return found[0]


def code(path: str | Path, **limits: int) -> str:
    result = look(path, **limits)
    assert isinstance(result, Failure)
    return result.code


def test_a_file_is_read_and_known(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(PICTURE)
    os.utime(path, ns=(1, 1_700_000_000_000_000_123))
    result = look(path)
    assert isinstance(result, Frame)
    assert media(result).sha256 == hashlib.sha256(PICTURE).hexdigest()
    assert media(result).bytes == len(PICTURE)
    assert media(result).mtime_ns == path.stat().st_mtime_ns
    assert media(result).started > 0


def test_a_name_that_is_not_utf8_is_opened(tmp_path: Path) -> None:
    name = os.fsencode(tmp_path) + b"/\xff\xfe.png"
    Path(os.fsdecode(name)).write_bytes(PICTURE)
    assert isinstance(look(os.fsdecode(name)), Frame)


def test_what_is_not_there_is_not_found(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "dangling").symlink_to(tmp_path / "nothing")
    assert code(tmp_path / "nothing") == "not_found"
    assert code(tmp_path / "dangling") == "not_found"
    assert code(tmp_path / "file" / "below") == "not_found"
    assert code(f"{tmp_path}/nul\0byte") == "not_found"
    assert code(f"{tmp_path}/lone\ud800surrogate") == "not_found"
    assert code(tmp_path / ("long" * 100)) == "not_found"


def test_a_link_to_a_picture_is_the_picture(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PICTURE)
    (tmp_path / "link").symlink_to(tmp_path / "a.png")
    assert isinstance(look(tmp_path / "link"), Frame)


def test_folders_pipes_sockets_and_devices_are_no_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert code(tmp_path) == "not_a_regular_file"
    assert code(tmp_path / "pipe") == "not_a_regular_file"
    assert code("/dev/zero") == "not_a_regular_file"
    with socket.socket(socket.AF_UNIX) as listener:
        before = Path.cwd()
        os.chdir(tmp_path)  # a socket's path must be short
        try:
            listener.bind("socket")
        finally:
            os.chdir(before)
        assert code(tmp_path / "socket") == "not_a_regular_file"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(PICTURE)
    path.chmod(0)
    assert code(path) == "permission_denied"


def test_a_read_that_fails_may_be_tried_again() -> None:
    path = "/proc/self/mem"  # a regular file whose first byte cannot be read
    if not Path(path).exists():
        pytest.skip("needs /proc")
    result = look(path)
    assert isinstance(result, Failure)
    assert (result.code, result.retryable) == ("read_error", True)


def test_empty_files_are_named_so(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    assert code(tmp_path / "empty") == "empty_file"
    assert failure(b"").code == "empty_file"


def test_a_file_over_the_limit_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "large").open("wb") as file:
        file.truncate(200_000_000_000)
    result = look(tmp_path / "large")
    assert isinstance(result, Failure)
    assert result.code == "file_too_large"
    assert media(result).bytes == 200_000_000_000
    assert media(result).sha256 is None
    assert failure(PICTURE, limits=DecodeLimits(max_file_bytes=len(PICTURE) - 1)).code == "file_too_large"


def test_a_file_that_grows_while_it_is_read_is_stopped() -> None:
    path = "/proc/self/status"  # says it has no bytes, and has many
    if not Path(path).exists():
        pytest.skip("needs /proc")
    assert code(path, max_file_bytes=100) == "file_too_large"


def test_a_file_at_the_limit_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PICTURE)
    assert isinstance(look(tmp_path / "a.png", max_file_bytes=len(PICTURE)), Frame)


def test_a_member_without_its_bytes_is_not_its_archive(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(PICTURE)
    item = Item(source=str(tmp_path / "a.zip"), index=0, member="b.png")
    (result,) = decode_item(item, [WHOLE], DecodeOptions(coverage=CENTRE))
    assert isinstance(result, Failure)
    assert result.code == "archive_error"
