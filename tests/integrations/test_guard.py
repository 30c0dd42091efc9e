"""The guard without a framework: what was not wholly judged Safe does not pass, and files come back whole."""

from __future__ import annotations

import asyncio
import io
import logging
import tempfile
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from clipmod_cli.errors import ERROR_CODES, SettingsError
from clipmod_cli.integrations import local
from clipmod_cli.integrations.guard import UploadGuard
from clipmod_cli.integrations.local import outcome_of
from clipmod_cli.integrations.uploads import MESSAGES, STATUS, NamedUpload, Outcome, UploadCheck, finding_of
from clipmod_cli.judge.choice import choose
from clipmod_cli.models.seam import Model
from clipmod_cli.types import UNSEEN_REASONS, Frame, ReviewReason
from tests.integrations.conftest import TINY_SETTINGS, bare
from tests.server.ensemble.pictures import ANIMATION, BLUE_SQUARE, CUT, RED_CIRCLE, TEXT, TRIANGLE, VIDEO
from tests.tiny.shapes import draw
from tests.video.films import scene, write_film
from tests.warm import warm

PDF = b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n<<>>\nendobj\n"
SVG = b'<svg xmlns="http://www.w3.org/2000/svg"/>'
ZIP = b"PK\x03\x04" + bytes(40)


def truncated() -> bytes:
    """A JPEG whose last third is missing: what is left can be decoded, and shows a blue square."""
    made = io.BytesIO()
    draw("blue", "square", (200, 200), seed=6).save(made, "JPEG", quality=95)
    return made.getvalue()[: len(made.getvalue()) * 2 // 3]


@pytest.mark.parametrize(
    ("data", "outcome", "reason"),
    [
        (BLUE_SQUARE, "clean", "Safe"),
        (TRIANGLE, "clean", "Safe"),
        (RED_CIRCLE, "flagged", "NSFW, red_circle"),
        (ANIMATION, "flagged", "NSFW, red_circle"),
        (truncated(), "unreadable", "not all of it was looked at: truncated"),
        (CUT, "unreadable", "decode_error"),
        (VIDEO, "unreadable", "video_error"),
        (TEXT, "unreadable", "unsupported_format"),
        (PDF, "unreadable", "unsupported_format"),
        (ZIP, "unreadable", "unsupported_format"),
        (b"", "unreadable", "empty_file"),
        (BLUE_SQUARE + bytes(10_000_000), "too_large", "file_too_large"),
        (VIDEO + bytes(13_000_000), "too_large", "file_too_large"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_found(guard: UploadGuard, data: bytes, outcome: str, reason: str) -> None:
    file = io.BytesIO(data)
    file.seek(len(data) // 2)
    check = guard.check(file, "a.jpg")
    assert (check.outcome, check.is_clean) == (outcome, outcome == "clean")
    assert check.reason.startswith(reason)
    assert (file.tell(), file.read() == data) == (0, True)


@pytest.mark.parametrize("most", [100, 10_000_000], ids=["on disk", "in memory"])
@pytest.mark.parametrize("memory", [100, 8_000_000], ids=["by a temporary file", "by its bytes"])
def test_a_spooled_file_comes_back_whole(
    guard: UploadGuard, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, most: int, memory: int
) -> None:
    monkeypatch.setattr(local, "MEMORY_BYTES", memory)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for data, clean in ((BLUE_SQUARE, True), (RED_CIRCLE, False)):
        with tempfile.SpooledTemporaryFile(most) as file:
            file.write(data)
            check = guard.check(file, "a.png")
            assert check.is_clean is clean
            assert check.record is not None
            assert check.record["bytes"] == len(data)
            assert file.read() == data
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("memory", [100, 8_000_000], ids=["by a temporary file", "by its bytes"])
@pytest.mark.parametrize(("red", "outcome"), [(range(12, 20), "flagged"), ((), "clean")])
def test_a_film_is_judged(
    guard: UploadGuard,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    memory: int,
    red: Sequence[int],
    outcome: str,
) -> None:
    monkeypatch.setattr(local, "MEMORY_BYTES", memory)
    with write_film(tmp_path / "a.mp4", scene(30, red)).open("rb") as file:
        check = guard.check(file, "s3://bucket/a.mp4")
        assert (check.outcome, file.tell()) == (outcome, 0)
    assert check.record is not None
    assert (check.record["source"], check.record["kind"]) == ("s3://bucket/a.mp4", "video")


def test_uploads_are_judged_up_to_the_first_that_is_not_clean(guard: UploadGuard) -> None:
    uploads = [NamedUpload(io.BytesIO(data), str(n)) for n, data in enumerate((TRIANGLE, RED_CIRCLE, TEXT))]
    found = guard.check_all(uploads)
    assert [(one.name, one.outcome) for one in found] == [("0", "clean"), ("1", "flagged")]
    assert guard.check_all([]) == []
    assert asyncio.run(guard.check_all_async(uploads[:1]))[0].is_clean


def test_eight_threads_load_one_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bare(tmp_path, monkeypatch)
    warm(tmp_path / "cache")
    loads: list[Any] = []

    def counted(*args: Any) -> Any:
        loads.append(args)
        return choose(*args)

    monkeypatch.setattr(local, "choose", counted)
    guard = UploadGuard(**TINY_SETTINGS)
    assert loads == []
    try:
        with ThreadPoolExecutor(8) as threads:
            pictures = [BLUE_SQUARE, RED_CIRCLE] * 4
            found = [threads.submit(guard.check, io.BytesIO(data), "a") for data in pictures]
            assert [one.result().outcome for one in found] == ["clean", "flagged"] * 4
        assert len(loads) == 1
    finally:
        guard.close()


Submit = Callable[[Sequence[Frame]], Any]


def test_a_model_that_raises_passes_nothing(
    guard: UploadGuard, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_frames: Sequence[Frame]) -> Any:
        raise RuntimeError("the model is broken")

    with monkeypatch.context() as patch:
        patch.setattr(model, "submit", fail)
        check = guard.check(io.BytesIO(BLUE_SQUARE), "a")
    assert check.outcome == "unavailable"
    assert "the model is broken" in check.reason
    assert guard.check(io.BytesIO(BLUE_SQUARE), "a").is_clean


def test_a_model_that_hangs_is_not_waited_for(
    guard: UploadGuard, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = threading.Event()
    submit: Submit = model.submit

    def hang(frames: Sequence[Frame]) -> Any:
        released.wait(60)
        return submit(frames)

    with monkeypatch.context() as patch:
        patch.setattr(guard, "_deadline_s", 0.2)
        patch.setattr(model, "submit", hang)
        file = io.BytesIO(BLUE_SQUARE)
        file.read()
        try:
            check = guard.check(file, "a")
            late = asyncio.run(guard.check_all_async([NamedUpload(file, "b")]))
        finally:
            released.set()
    assert (check.outcome, file.tell()) == ("unavailable", 0)
    assert [one.outcome for one in late] == ["unavailable"]
    assert guard.check(io.BytesIO(BLUE_SQUARE), "a").is_clean


def test_a_file_that_cannot_be_read_does_not_pass(guard: UploadGuard) -> None:
    closed = io.BytesIO(BLUE_SQUARE)
    closed.close()
    assert guard.check(closed, "a").outcome == "unavailable"


def test_a_full_guard_passes_nothing(guard: UploadGuard) -> None:
    places = guard._places.get()
    held = 0
    while places.acquire(blocking=False):
        held += 1
    try:
        assert guard.check(io.BytesIO(BLUE_SQUARE), "a").outcome == "unavailable"
    finally:
        for _ in range(held):
            places.release()
    assert guard.check(io.BytesIO(BLUE_SQUARE), "a").is_clean


def test_the_log_and_the_callback_have_the_record(
    guard: UploadGuard, checks: list[UploadCheck], caplog: pytest.LogCaptureFixture
) -> None:
    checks.clear()
    with caplog.at_level(logging.DEBUG, "clipmod.uploads"):
        for data in (RED_CIRCLE, BLUE_SQUARE, TEXT):
            guard.check(io.BytesIO(data), "a\nb.jpg")
    assert [one.outcome for one in checks] == ["flagged", "clean", "unreadable"]
    assert [one.levelname for one in caplog.records] == ["WARNING", "DEBUG", "WARNING"]
    flagged: Any = caplog.records[0]
    assert flagged.clipmod_record == checks[0].record
    assert flagged.clipmod_record["ensemble_category"] == "red_circle"
    text = flagged.getMessage()
    assert "'a\\nb.jpg'" in text
    assert f"sha256={flagged.clipmod_record['sha256']}" in text
    assert "red_circle" not in repr(MESSAGES)


def test_a_callback_that_fails_changes_nothing(
    guard: UploadGuard, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_check: UploadCheck) -> None:
        raise RuntimeError("no queue")

    monkeypatch.setattr(guard, "_on_check", fail)
    assert guard.check(io.BytesIO(BLUE_SQUARE), "a").is_clean
    assert guard.check(io.BytesIO(RED_CIRCLE), "a").outcome == "flagged"
    assert "no queue" in caplog.text


@pytest.mark.parametrize(
    ("data", "name", "passes"),
    [
        (PDF, "cv.pdf", True),
        (TEXT, "notes.txt", True),
        (TEXT, "", True),
        (TEXT, "cat.jpg", False),
        (PDF, "cat.png", False),
        (SVG, "cat.svg", False),
        (SVG, "cat.txt", False),
        (TEXT, "cat.jxl", False),
        (ZIP, "letter.docx", False),
        (RED_CIRCLE, "cv.pdf", False),
        (BLUE_SQUARE, "cv.pdf", True),
        (b"", "empty.txt", False),
    ],
)
def test_other_files_pass_where_that_is_asked_for(
    guard: UploadGuard, monkeypatch: pytest.MonkeyPatch, data: bytes, name: str, passes: bool
) -> None:
    monkeypatch.setattr(guard, "_other", "pass")
    file = io.BytesIO(data)
    assert guard.check(file, name).is_clean is passes
    assert file.read() == data


def test_another_file_between_pictures_keeps_its_place(
    guard: UploadGuard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "_other", "pass")
    data = (PDF, BLUE_SQUARE, TEXT, RED_CIRCLE)
    uploads = [NamedUpload(io.BytesIO(one), str(n)) for n, one in enumerate(data)]
    found = guard.check_all(uploads)
    assert [(one.name, one.is_clean) for one in found] == [
        ("0", True),
        ("1", True),
        ("2", True),
        ("3", False),
    ]
    assert [one.record is None for one in found] == [True, False, True, False]


def test_missing_models_are_told_and_pass_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bare(tmp_path, monkeypatch)
    guard = UploadGuard(TINY_SETTINGS["policy"], f"open_clip:local-dir:{tmp_path}/gone", offline=True)
    assert guard.check(io.BytesIO(BLUE_SQUARE), "a").outcome == "unavailable"
    blind = UploadGuard(classes="cat, dog", models=TINY_SETTINGS["models"])
    with pytest.raises(SettingsError, match="no UNSAFE category"):
        blind.warm()
    assert blind.check(io.BytesIO(BLUE_SQUARE), "a").outcome == "unavailable"


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"treshold": 0.4}, 'did you mean "threshold"'),
        ({"deadline": 5}, 'did you mean "deadline_s"|deadline is no setting'),
        ({"port": 80}, "port is no setting"),
        ({"risk": 0.01}, "risk is no setting"),
        ({"early_exit": "calibrated"}, "early_exit must be off or exact"),
        ({"review": "maybe"}, "review must be pass or refuse"),
        ({"other": True}, "other must be pass or refuse"),
        ({"deadline_s": 0}, "deadline_s must be"),
        ({"key": "k"}, "key has no effect without url"),
        ({"url": "localhost:8000"}, "http://"),
        ({"url": "http://localhost", "models": "nudenet"}, "models: with url"),
    ],
)
def test_wrong_settings_are_told_at_once(wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(SettingsError, match=told):
        UploadGuard(**wrong)


@given(
    decision=st.sampled_from(["Safe", "NSFW", None, "safe", 0]),
    reasons=st.none() | st.lists(st.sampled_from([*get_args(ReviewReason.__args__[0]), "low_agreement"])),  # type: ignore[attr-defined]
    needs_review=st.sampled_from([True, False, None]),
    review=st.sampled_from(["pass", "refuse"]),
)
def test_clean_is_safe_and_wholly_seen(decision: Any, reasons: Any, needs_review: Any, review: Any) -> None:
    record = {"final_decision": decision, "review_reasons": reasons, "needs_review": needs_review}
    found = finding_of(record, review)
    if found.outcome == "clean":
        assert decision == "Safe"
        assert reasons is not None
        assert not set(reasons) & set(UNSEEN_REASONS)
        assert review == "pass" or (needs_review is False and not reasons)
    assert finding_of({}, review).outcome == "unavailable"
    assert finding_of({"final_decision": "Safe"}, review).outcome == "unavailable"


def test_every_error_code_is_a_refusal() -> None:
    outcomes = {code: outcome_of(code) for code in ERROR_CODES}
    assert "clean" not in outcomes.values()
    assert {code for code, one in outcomes.items() if one == "too_large"} == {
        "file_too_large", "too_many_pixels", "archive_limit", "download_too_large",
    }  # fmt: skip
    ours = {"model_error", "non_finite_score", "out_of_memory", "deadline", "internal_error", "read_error"}
    assert {outcomes[one] for one in ours if one in ERROR_CODES} == {"unavailable"}
    theirs = {"decode_error", "decode_crash", "decode_timeout", "video_error", "unsupported_format"}
    assert {outcomes[one] for one in theirs if one in ERROR_CODES} == {"unreadable"}
    assert set(MESSAGES) == set(STATUS) == set(get_args(Outcome)) - {"clean"}


def test_a_large_picture_is_too_large_by_its_pixels(guard: UploadGuard) -> None:
    made = io.BytesIO()
    Image.new("1", (31_000, 10)).save(made, "PNG")
    assert guard.check(made, "a.png").outcome == "too_large"
