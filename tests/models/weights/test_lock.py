"""The lock file: held to, checked against, and never passed over."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from clipmod_cli.errors import MissingModelError
from clipmod_cli.models.hub.client import Hub
from clipmod_cli.models.hub.download import download
from clipmod_cli.models.hub.weights import list_downloaded, locate, verify
from clipmod_cli.models.specs import parse_spec
from tests.hub import FakeHub
from tests.models.weights.kit import (
    BY_OTHERS,
    FILES,
    REPO,
    SPEC,
    WEIGHTS,
    contents,
    environment,
    folder_of,
    spoil,
)


def test_the_lock_is_held_to_when_main_moves_on(fake: FakeHub, hub: Hub) -> None:
    old = fake.add(REPO, FILES)
    download(SPEC, hub=hub)
    fake.add(REPO, FILES | {"model.safetensors": WEIGHTS[::-1]})
    files = locate(SPEC, hub=hub)
    assert files
    files.weights.resolve().unlink()
    assert locate(SPEC, hub=hub) is None
    again = download(SPEC, hub=hub)
    assert again.commit == old
    assert contents(again) == FILES


def test_a_commit_that_is_gone_is_said_with_what_to_delete(fake: FakeHub, hub: Hub) -> None:
    fake.add(REPO, FILES)
    download(SPEC, hub=hub).weights.resolve().unlink()
    fake.rewrite(REPO, FILES | {"config.json": b"{}"})
    with pytest.raises(MissingModelError, match="no longer has the locked commit") as caught:
        download(SPEC, hub=hub)
    assert str(folder_of(hub).path) in str(caught.value)


@pytest.mark.parametrize("name", FILES)
def test_a_changed_file_is_found_and_mended(fake: FakeHub, hub: Hub, name: str) -> None:
    fake.add(REPO, FILES)
    path = download(SPEC, hub=hub).paths[name]
    spoil(path)
    (problem,) = verify(SPEC, hub=hub)
    assert str(path) in problem
    assert hashlib.sha256(FILES[name]).hexdigest() in problem
    with pytest.raises(MissingModelError, match="offline"):
        download(SPEC, hub=hub, offline=True)
    assert contents(download(SPEC, hub=hub)) == FILES
    assert verify(SPEC, hub=hub) == []


def test_a_missing_file_is_found(fake: FakeHub, hub: Hub) -> None:
    fake.add(REPO, FILES)
    download(SPEC, hub=hub).paths["config.json"].unlink()
    (problem,) = verify(SPEC, hub=hub)
    assert "config.json is missing" in problem
    assert list_downloaded(hub) == {SPEC.spec: None}


@pytest.mark.parametrize("name", FILES)
def test_a_changed_lock_is_found_and_believed_by_nobody(fake: FakeHub, hub: Hub, name: str) -> None:
    fake.add(REPO, FILES)
    download(SPEC, hub=hub)
    path = folder_of(hub).lock_path
    lock = json.loads(path.read_text())
    lock["files"][name]["sha256"] = "0" * 64
    path.write_text(json.dumps(lock))
    assert "0" * 64 in verify(SPEC, hub=hub)[0]
    with pytest.raises(MissingModelError, match="tampered with"):
        download(SPEC, hub=hub)
    assert json.loads(path.read_text()) == lock


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        '"x"',
        "\x00",
        '{"clipmod_lock": 2}',
        '{"clipmod_lock": 1, "repo": "o/n", "commit": "main", "specs": [], "files": {}}',
        json.dumps(
            {
                "clipmod_lock": 1,
                "repo": REPO,
                "commit": "0" * 40,
                "specs": [],
                "files": {"../../../etc/passwd": {"sha256": "0" * 64, "size": 1}},
            }
        ),
    ],
)
def test_an_unusable_lock_is_an_error_and_not_the_lack_of_one(fake: FakeHub, hub: Hub, text: str) -> None:
    fake.add(REPO, FILES)
    download(SPEC, hub=hub)
    folder_of(hub).lock_path.write_text(text)
    for call in (locate, download):
        with pytest.raises(MissingModelError, match=r"lock file .* cannot be used"):
            call(SPEC, hub=hub)
    assert "cannot be used" in verify(SPEC, hub=hub)[0]


def test_two_models_of_one_repository_share_a_lock(fake: FakeHub, hub: Hub) -> None:
    repo = "laion/CLIP-ViT-L-14-laion2B-s32B-b82K"
    fake.add(repo, FILES | {"open_clip_model.safetensors": WEIGHTS[:9000]})
    one, two = parse_spec("fallback"), parse_spec(f"hf:{repo}")
    download(one, hub=hub)
    assert locate(two, hub=hub) is None
    download(two, hub=hub)
    assert set(list_downloaded(hub)) == {one.spec, two.spec}
    assert verify(one, hub=hub) == verify(two, hub=hub) == []


def test_what_other_programs_fetched_is_used_and_then_locked(fake: FakeHub, tmp_path: Path) -> None:
    commit = fake.add(REPO, FILES)
    subprocess.run(
        [sys.executable, "-c", BY_OTHERS],
        env=environment(fake.endpoint, tmp_path),
        check=True,
        capture_output=True,
    )
    hub = Hub(endpoint=fake.endpoint, cache_dir=tmp_path / "hub", retry_pause_s=0)
    found = locate(SPEC, hub=hub)
    assert found
    assert (contents(found), found.commit, found.sha256) == (FILES, commit, None)
    assert download(SPEC, hub=hub, offline=True) == found
    assert "another program" in verify(SPEC, hub=hub)[0]
    fake.add(REPO, FILES | {"model.safetensors": WEIGHTS[::-1]})
    fake.requests.clear()
    locked = download(SPEC, hub=hub)
    assert (locked.commit, locked.paths) == (commit, found.paths)
    assert not fake.asked("/resolve/")
    assert verify(SPEC, hub=hub) == []
