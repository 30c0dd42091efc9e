"""Which records of an output hold, by what this run and the earlier ones could see."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from clipmod_cli.errors import ERROR_CODES, OutputMismatchError
from clipmod_cli.output.resuming.card import MOST_IDLE_RUNS, RunCard, card_path
from clipmod_cli.output.resuming.names import InputNames
from clipmod_cli.output.resuming.resume import RunConditions
from clipmod_cli.types import Item
from tests.results import RUN
from tests.sinks.outputs import failed_line, line_of, line_of_file, read


def having(*abilities: str, directory: str | None = None) -> RunConditions:
    return RunConditions(directory=directory, abilities=frozenset(abilities))


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "out.jsonl"


@pytest.mark.parametrize(
    ("code", "before", "now", "again"),
    [
        ("unsupported_format", (), ("decoder:pillow_heif",), True),
        ("not_an_image", (), ("decoder:pillow_heif",), True),
        ("unsupported_format", ("decoder:pillow_heif",), ("decoder:pillow_heif",), False),
        ("unsupported_format", ("decoder:pillow_heif",), (), False),
        ("unsupported_format", (), ("private", "port:1", "header:x"), False),
        ("blocked_address", (), ("private",), True),
        ("blocked_address", ("port:80",), ("port:80", "port:8080"), True),
        ("blocked_address", ("private",), (), False),
        ("http_error", (), ("header:authorization",), True),
        ("decode_error", (), ("decoder:pillow_heif", "private", "header:x"), False),
    ],
)
def test_an_error_is_tried_again_by_what_may_cure_it(
    code: Any, before: tuple[str, ...], now: tuple[str, ...], again: bool, output: Path
) -> None:
    output.write_bytes(failed_line("http://x/", code))
    done, _ = read(output, conditions=having(*now), earlier={RUN.run_id: having(*before)})
    assert (done.retry_count, done.count) == (int(again), int(not again))


def test_of_a_run_that_is_not_known_all_that_may_be_cured_is_tried_again(output: Path) -> None:
    output.write_bytes(failed_line("http://x/", "blocked_address") + failed_line("http://y/", "decode_error"))
    assert read(output, conditions=having("private"))[0].retry_count == 1


def test_what_cures_an_error_is_an_ability_that_runs_have() -> None:
    prefixes = {prefix for info in ERROR_CODES.values() for prefix in info.cured_by}
    assert prefixes == {"decoder:", "private", "host:", "port:", "header:"}


def test_errors_are_tried_again_by_the_users_word(output: Path) -> None:
    lines = [failed_line(f"http://{code}/", code) for code in ("decode_error", "not_an_image")]
    for wish, count in {"errors": 2, "decode_error": 1, "tls_error": 0}.items():
        output.write_bytes(b"".join(lines))
        assert read(output, retry=frozenset({wish}))[0].retry_count == count


def test_an_outcome_is_known_by_its_bytes(output: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(b"one")
    record = json.loads(line_of_file(path))
    record["mtime_ns"] += 1
    output.write_bytes(json.dumps(record).encode() + b"\n")
    done, _ = read(output, conditions=RunConditions(), sources=[str(tmp_path)])
    item = Item(source=str(path), index=0)
    assert done.retry_count == 1
    assert done.knew(item, record["sha256"], "NSFW")
    assert not done.knew(item, record["sha256"], "Safe")
    assert not done.knew(item, "0" * 64, "NSFW")
    assert not done.knew(Item(source=str(path), index=0, member="x"), record["sha256"], "NSFW")


def told(output: Path, sources: Iterable[str], directory: Path) -> tuple[list[str], int]:
    """Return the sources of the records that count, and how many are gone."""
    conditions = RunConditions(directory=str(directory))
    done, counted = read(output, conditions=conditions, sources=list(sources))
    return counted, done.gone_count


def test_only_what_this_run_could_find_can_be_gone(output: Path, tmp_path: Path) -> None:
    for name in ("a", "ab", "a/b"):
        (tmp_path / name).mkdir()
    names = ["a/1.jpg", "a/b/2.jpg", "ab/3.jpg", "s3://a/4.jpg"]
    output.write_bytes(b"".join(line_of(name) for name in names))
    assert told(output, ["a"], tmp_path) == (["ab/3.jpg", "s3://a/4.jpg"], 2)
    assert told(output, ["a/b/", "ab/3.jpg"], tmp_path) == (["a/1.jpg", "s3://a/4.jpg"], 2)
    assert told(output, [str(tmp_path)], tmp_path) == (["s3://a/4.jpg"], 3)
    assert told(output, ["/"], tmp_path) == (["s3://a/4.jpg"], 3)
    assert told(output, [], tmp_path) == (names, 0)


def test_a_file_that_cannot_be_asked_for_is_not_gone(output: Path, tmp_path: Path) -> None:
    loop = tmp_path / "loop"
    loop.symlink_to("loop")
    output.write_bytes(line_of(str(loop / "a.jpg")))
    assert told(output, [str(tmp_path)], tmp_path) == ([str(loop / "a.jpg")], 0)


def test_names_are_resolved_up_to_the_file_itself(tmp_path: Path) -> None:
    names, here = InputNames(), str(tmp_path)
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "real" / "twin.jpg").symlink_to("one.jpg")
    one = str(tmp_path / "real" / "one.jpg")
    for spelling in ("real/one.jpg", "./real//one.jpg", "link/one.jpg", one, "real/../link/one.jpg"):
        assert names.resolve(spelling, here) == one
    assert names.resolve("link/twin.jpg", here) == str(tmp_path / "real" / "twin.jpg")
    assert names.resolve("s3://b/../x", here) == "s3://b/../x"
    assert names.resolve("real/one.jpg", None) == "real/one.jpg"


def card_of(output: Path, *codes: int | None) -> RunCard:
    """Return the card of an output after runs that ended with these exit codes; None was killed."""
    card = RunCard(card_path(output))
    for number, code in enumerate(codes):
        card.begin({"run_key": "k"}, str(number), "clipmod scan x", RunConditions(directory="/d"))
        if code is not None:
            card.end(code, {"written": 1})
    return card


@pytest.mark.parametrize(
    ("codes", "unfinished", "newest"),
    [
        ((), "", ""),
        ((0,), "", "0"),
        ((0, 1, 3), "", "2"),
        ((0, None), "1", "1"),
        ((0, 130, 143, None, 0), "", "1234"),
        ((0, 5, 70), "12", "12"),
    ],
)
def test_a_run_that_could_not_tell_leaves_its_finds_to_the_next(
    codes: tuple[int | None, ...], unfinished: str, newest: str, output: Path
) -> None:
    card = card_of(output, *codes)
    assert card.unfinished == set(unfinished)
    assert card.newest == set(newest)
    output.write_bytes(line_of("a"))
    again = RunCard.read(output)
    assert (again.runs, again.facts) == (card.runs, card.facts)
    assert again.conditions == {run["run_id"]: having(directory="/d") for run in card.runs}


def test_a_card_of_an_emptied_output_is_begun_anew(output: Path) -> None:
    card_of(output, 0)
    assert RunCard.read(output).runs == []
    output.write_bytes(b"")
    assert RunCard.read(output).runs == []


def test_a_card_does_not_grow_by_runs_that_wrote_nothing(output: Path) -> None:
    card = card_of(output, 0)
    for number in range(MOST_IDLE_RUNS + 5):
        card.runs.append({**card.runs[0], "run_id": f"idle-{number}", "counts": {"written": 0}})
    card.end(0, {"written": 0})
    assert len(card.runs) == MOST_IDLE_RUNS + 1
    assert card.runs[0]["run_id"] == "0", "records name it"


def test_a_directory_of_any_bytes_is_kept(output: Path) -> None:
    card = RunCard(card_path(output))
    card.begin({}, "0", "clipmod", RunConditions(directory="/d/\udcff"))
    output.write_bytes(line_of("a"))
    assert RunCard.read(output).conditions["0"].directory == "/d/\udcff"


def test_a_card_that_is_none_is_refused(output: Path) -> None:
    card_path(output).write_text("[]")
    with pytest.raises(OutputMismatchError, match="Move it away"):
        RunCard.read(output)
