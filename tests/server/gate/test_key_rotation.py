"""A key file that changes while the service runs."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from clipmod_cli.server.gate import keys as module
from tests.server.gate.doors import BASE, KEY, OTHER, gated

FIXED = "a-key-of-the-environment"


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A key file with KEY, looked at with each request."""
    monkeypatch.setattr(module, "CHECK_EVERY_S", 0.0)
    path = tmp_path / "keys.txt"
    path.write_text(f"{KEY}\n")
    return path


def opened(client: TestClient, key: str) -> bool:
    return client.get("/", headers={"X-API-Key": key}).status_code == 200


def test_keys_are_added_and_removed_without_a_restart(file: Path) -> None:
    client = gated(api_keys_file=str(file), api_keys=(FIXED,))
    before = client.get("/", headers={"X-API-Key": KEY}).text
    assert [opened(client, key) for key in (KEY, OTHER, FIXED)] == [True, False, True]
    file.write_text(f"# both, until all clients have the new one\n{KEY}\n{OTHER}\n")
    assert [opened(client, key) for key in (KEY, OTHER, FIXED)] == [True, True, True]
    assert client.get("/", headers={"X-API-Key": KEY}).text == before  # its short id is the same
    file.write_text(f"{OTHER}\n")
    assert [opened(client, key) for key in (KEY, OTHER, FIXED)] == [False, True, True]


def test_a_session_ends_with_its_key(file: Path) -> None:
    client = gated(api_keys_file=str(file))
    assert client.post("/ui/login", data={"key": KEY}, headers={"Origin": BASE}).status_code == 303
    assert client.get("/image/x").status_code == 200
    file.write_text(f"{KEY}\n{OTHER}\n")
    assert client.get("/image/x").status_code == 200
    file.write_text(f"{OTHER}\n")
    assert client.get("/image/x").status_code == 401


def _empty(path: Path) -> None:
    path.write_text("# all keys are gone\n")


def _garbled(path: Path) -> None:
    path.write_bytes(b"\xff\xfe\x00")


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("break_it", [_empty, _garbled, _folder, _pipe, Path.unlink])
def test_a_broken_file_changes_nothing_and_is_told_once(
    file: Path, break_it: Callable[[Path], object], caplog: pytest.LogCaptureFixture
) -> None:
    client = gated(api_keys_file=str(file))
    break_it(file)
    with caplog.at_level(logging.INFO, logger="clipmod_cli"):
        for _ in range(3):
            assert opened(client, KEY)
            assert not opened(client, "")
            assert client.get("/").status_code == 401  # the door is never open
    (told,) = [one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING]
    assert str(file) in told
    assert "the API keys" in told
    assert KEY not in caplog.text
    if file.is_dir():
        file.rmdir()
    file.unlink(missing_ok=True)
    file.write_text(f"{OTHER}\n")
    assert [opened(client, key) for key in (KEY, OTHER)] == [False, True]


def test_a_link_that_comes_to_point_elsewhere_is_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Kubernetes changes a secret: the folder behind the link `..data` is another one."""
    monkeypatch.setattr(module, "CHECK_EVERY_S", 0.0)
    for name, key in (("first", KEY), ("second", OTHER)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "keys").write_text(key)
    os.utime(tmp_path / "second" / "keys", ns=(0, (tmp_path / "first" / "keys").stat().st_mtime_ns))
    (tmp_path / "..data").symlink_to("first")
    (tmp_path / "keys").symlink_to("..data/keys")
    client = gated(api_keys_file=str(tmp_path / "keys"))
    assert [opened(client, key) for key in (KEY, OTHER)] == [True, False]
    (tmp_path / "new").symlink_to("second")
    (tmp_path / "new").rename(tmp_path / "..data")
    assert [opened(client, key) for key in (KEY, OTHER)] == [False, True]


def test_the_file_is_not_looked_at_with_each_request(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHECK_EVERY_S", 3600.0)
    client = gated(api_keys_file=str(file))
    file.write_text(f"{OTHER}\n")
    assert [opened(client, key) for key in (KEY, OTHER)] == [True, False]
