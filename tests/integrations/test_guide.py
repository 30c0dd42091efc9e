"""The guide's programs run as they are printed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from clipmod_cli.integrations import django as guarding
from clipmod_cli.integrations.guard import UploadGuard
from clipmod_cli.integrations.uploads import MESSAGES, STATUS, UploadCheck
from tests.end_to_end.command import ROOT
from tests.integrations.conftest import bare

GUIDE = (ROOT / "docs" / "integrations.md").read_text(encoding="utf-8")
CAT = (ROOT / "sample_images" / "cat.png").read_bytes()


def block(words: str) -> str:
    """Return the only block of Python with these words."""
    blocks = re.findall(r"^```python\n(.*?)^```$", GUIDE, flags=re.MULTILINE | re.DOTALL)
    (found,) = [one for one in blocks if words in one]
    return str(found)


def run(words: str, name: str = "guide") -> dict[str, Any]:
    made: dict[str, Any] = {"__name__": name}
    exec(compile(block(words), "docs/integrations.md", "exec"), made)  # noqa: S102 - what we print
    return made


@pytest.fixture
def plain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The environment of a user who has set nothing; decoding in this process, which is quicker."""
    bare(tmp_path, monkeypatch)
    monkeypatch.setenv("CLIPMOD_ISOLATE", "false")
    monkeypatch.setenv("CLIPMOD_MODELS", "open_nsfw")
    return monkeypatch


def test_the_application_of_fastapi(plain: pytest.MonkeyPatch) -> None:
    made = run("app = FastAPI()")
    try:
        client = TestClient(made["app"])
        answer = client.post("/avatar", files={"file": ("cat.png", CAT)})
        assert answer.json() == {"bytes": len(CAT)}
        assert (
            client.post("/gallery", files=[("files", ("a", CAT)), ("files", ("b", b"x"))]).status_code == 422
        )
    finally:
        made["guard"].close()


def test_the_program_without_a_framework(
    plain: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plain.chdir(ROOT)
    run("check.outcome)")["guard"].close()
    assert capsys.readouterr().out == "clean\n"


def test_the_settings_and_the_field_of_django(django_ready: None) -> None:
    from django.test import override_settings

    field = run("class Picture", "tests.integrations.photos.guide")["Picture"]._meta.get_field("file")
    assert guarding.clean_upload in field.validators
    with override_settings(**run('"PATHS"')):
        assert guarding.guard() is guarding.guard()


def test_the_guard_that_asks_a_service_and_the_callback(capsys: pytest.CaptureFixture[str]) -> None:
    guard = run("url=")["guard"]
    assert isinstance(guard, UploadGuard)
    tell = run("def to_moderators")["to_moderators"]
    tell(UploadCheck(name="a", outcome="flagged", reason="NSFW", record={"sha256": "ab"}))
    tell(UploadCheck(name="b", outcome="unreadable", reason="empty_file"))
    assert capsys.readouterr().out == "a NSFW ab\n"


def test_the_table_of_outcomes_is_the_real_one() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \|.*\| (\d+|)[^|]*\|[^|]*\|$", GUIDE, flags=re.MULTILINE))
    told = {outcome: int(status) for outcome, status in rows.items() if status}
    assert told == STATUS
    assert all(f"| {message} |" in GUIDE for message in MESSAGES.values())
