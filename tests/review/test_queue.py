"""The queue: what comes when, what is decided, and what a new run finds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from clipmod_cli.errors import OutputError, UsageError
from clipmod_cli.output.compact import compact_line
from clipmod_cli.output.reading.withheld import read_withheld, withheld_path
from clipmod_cli.records import Record, to_line, to_record
from clipmod_cli.review.decisions import read_decisions
from clipmod_cli.review.queue.refusals import NotShownError
from clipmod_cli.review.queue.session import MUST_TYPE, ReviewSession
from tests.results import RUN, plain_failure
from tests.review.judged import decide, line_of, reviewing, shown, table_of


def names_until_the_end(session: ReviewSession) -> list[str]:
    found = []
    while session.current is not None:
        found.append(decide(session))
    return found


def test_the_most_uncertain_come_first(tmp_path: Path) -> None:
    """By the distance to the threshold, 0.5, or where the models disagree."""
    lines = [
        line_of("sure", 0.99),
        line_of("near", 0.52),
        line_of("split", 0.97, agreement=0.55),
        line_of("middle", 0.7),
        line_of("below", 0.45, review_reasons=("review_margin",)),
    ]
    with reviewing(tmp_path, lines) as session:
        assert names_until_the_end(session) == ["near", "below", "split", "middle", "sure"]


def test_what_a_bank_decided_is_certain_and_what_failed_is_not(tmp_path: Path) -> None:
    by_bank = line_of("bank", 0.9).replace(b'"unsafe_score":0.9,', b'"unsafe_score":null,')
    failed = to_line(to_record(plain_failure(7), RUN))
    lines = [by_bank, line_of("sure", 0.97), failed]
    with reviewing(tmp_path, lines, only=("nsfw", "error")) as session:
        assert names_until_the_end(session) == ["photos/7.jpg", "sure", "bank"]


def test_the_worst_come_first(tmp_path: Path) -> None:
    lines = [
        line_of("review", 0.49, review_reasons=("truncated",)),
        line_of("mild", 0.6),
        line_of("worst", 0.99),
        line_of("safe", 0.1),
    ]
    with reviewing(tmp_path, lines, order="severity") as session:
        assert names_until_the_end(session) == ["worst", "mild", "review"]
    with reviewing(tmp_path, order="severity", only=("safe",)) as session:
        assert names_until_the_end(session) == ["safe"]


def test_copies_are_one_decision_which_names_them_all(tmp_path: Path) -> None:
    """Of several records of a content, the worst one counts."""
    lines = [
        line_of("a.jpg", 0.1, content="same"),
        line_of("other.jpg", 0.6),
        line_of("b.jpg", 0.95, content="same"),
        line_of("c.jpg", 0.2, content="same"),
    ]
    with reviewing(tmp_path, lines, order="severity") as session:
        assert session.counts.left == 2
        assert decide(session) == "b.jpg"
    (decision,) = read_decisions(tmp_path / "d.jsonl").current.values()
    assert [one.source for one in decision.files] == ["b.jpg", "a.jpg", "c.jpg"]
    assert decision.judged.unsafe_score == 0.95


def test_every_tenth_is_drawn_from_all_that_was_judged(tmp_path: Path) -> None:
    lines = [line_of(f"{number}.jpg", 0.9 if number < 60 else 0.05) for number in range(200)]
    with reviewing(tmp_path, lines, audit=0.1) as session:
        for _ in range(40):
            decide(session, "safe")
    found = list(read_decisions(tmp_path / "d.jsonl").current.values())
    assert [at for at, one in enumerate(found, 1) if one.why == "audit"] == [10, 20, 30, 40]
    audits = [one for one in found if one.why == "audit"]
    assert [one.probability for one in audits] == sorted(one.probability for one in audits)
    assert all(0 < one.probability <= 0.2 for one in audits)
    assert {one.probability for one in found if one.why == "queue"} == {1.0}
    assert any(one.judged.final_decision == "Safe" for one in audits)
    assert len({one.seed for one in found}) == 1


def test_a_new_run_goes_on_with_the_same_draw(tmp_path: Path) -> None:
    lines = [line_of(f"{number}.jpg", 0.9) for number in range(50)]
    with reviewing(tmp_path, lines, audit=0.5) as session:
        first = [decide(session) for _ in range(7)]
    with reviewing(tmp_path, audit=0.5) as session:
        assert session.counts.done == 7
        rest = names_until_the_end(session)
    assert sorted(first + rest) == sorted(f"{number}.jpg" for number in range(50))
    assert len({one.seed for one in read_decisions(tmp_path / "d.jsonl").current.values()}) == 1


def test_undo_shows_the_last_one_again_also_after_a_restart(tmp_path: Path) -> None:
    with reviewing(tmp_path, [line_of("a", 0.51), line_of("b", 0.6), line_of("c", 0.7)]) as session:
        decide(session, "safe")
        decide(session, "safe")
        assert shown(session) == "c"
        assert session.undo()
        assert (shown(session), session.counts.done, session.counts.left) == ("b", 1, 2)
        decide(session, "unsafe")
        assert shown(session) == "c"
    with reviewing(tmp_path) as session:
        assert shown(session) == "c"
        assert session.undo()
        assert session.undo()
        assert not session.undo()
        assert names_until_the_end(session) == ["a", "b", "c"]


def test_only_what_is_shown_is_decided(tmp_path: Path) -> None:
    """A key that is pressed twice decides once."""
    with reviewing(tmp_path, [line_of("a", 0.51), line_of("b", 0.6)]) as session:
        assert session.current is not None
        number = session.current.number
        session.decide(number, "safe")
        with pytest.raises(NotShownError):
            session.decide(number, "unsafe")
        assert session.counts.done == 1


def test_what_cannot_be_written_is_not_decided(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with reviewing(tmp_path, [line_of("a", 0.51), line_of("b", 0.6)]) as session:

        def full(*_: object) -> int:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patched:
            patched.setattr("os.write", full)
            with pytest.raises(OutputError):
                decide(session)
        assert (shown(session), session.counts.done) == ("a", 0)
        decide(session)
        assert shown(session) == "b"


def test_many_at_once_are_typed_and_undone_as_one(tmp_path: Path) -> None:
    lines = [line_of(f"{number}.jpg", 0.6) for number in range(MUST_TYPE + 5)]
    with reviewing(tmp_path, lines) as session:
        numbers = session.show_grid(100)
        assert len(numbers) == MUST_TYPE + 5
        for typed in ("", "20", "all"):
            with pytest.raises(UsageError, match="must be typed"):
                session.decide_together(numbers, "safe", typed=typed)
        assert session.counts.done == 0
        session.decide_together(numbers[:3], "unsafe", category="gore", seconds=6.0)
        session.decide_together(numbers[3:], "safe", typed=str(MUST_TYPE + 2))
        assert session.current is None
        with pytest.raises(NotShownError):
            session.decide_together(numbers[:1], "safe")
    found = list(read_decisions(tmp_path / "d.jsonl").current.values())
    assert [(one.label, one.category, one.together, one.seconds) for one in found[:3]] == [
        ("unsafe", "gore", 3, 2.0)
    ] * 3
    with reviewing(tmp_path) as session:
        assert session.undo()
        assert session.counts.left == MUST_TYPE + 2
        assert session.undo()
        assert session.counts.left == MUST_TYPE + 5


def test_what_may_show_a_minor_leaves_everything(tmp_path: Path) -> None:
    lines = [
        line_of("a", 0.51, content="x"),
        line_of("copy", 0.51, content="x"),
        line_of("b", 0.6),
        line_of("c", 0.7),
    ]
    with reviewing(tmp_path, lines) as session:
        assert session.current is not None
        session.withhold(session.current.number)
        assert names_until_the_end(session) == ["b", "c"]
        assert session.undo()
        assert session.undo()
        assert not session.undo()  # no key brings it back
    out = tmp_path / "out.jsonl"
    withheld = read_withheld(out)
    assert [withheld.covers_line(line) for line in lines] == [True, True, False, False]
    with table_of(out) as table:
        assert sorted(table.record(number)["source"] for number in range(len(table))) == ["b", "c"]


def test_a_new_output_of_the_same_inputs_withholds_them_too(tmp_path: Path) -> None:
    lines = [line_of("a", 0.51), line_of("b", 0.6)]
    with reviewing(tmp_path, lines) as session:
        assert session.current is not None
        session.withhold(session.current.number)
    withheld_path(tmp_path / "out.jsonl").unlink()
    with reviewing(tmp_path) as session:
        assert shown(session) == "b"
        assert session.counts.left == 1
    assert read_withheld(tmp_path / "out.jsonl").covers_line(lines[0])


def test_a_mistake_is_shown_again(tmp_path: Path) -> None:
    with reviewing(tmp_path, [line_of("a", 0.51), line_of("b", 0.6)]) as session:
        assert session.current is not None
        number = session.current.number
        with pytest.raises(UsageError, match="not withheld"):
            session.undo_withheld(number)
        session.withhold(number)
        session.undo_withheld(number)
        assert shown(session) == "a"
    assert not withheld_path(tmp_path / "out.jsonl").exists()
    assert read_decisions(tmp_path / "d.jsonl").current == {}


@pytest.mark.parametrize("content", [("b", "a"), ("a",), ("xx", "yy"), ()])
def test_an_output_that_is_written_anew_meanwhile_gets_no_decision(
    tmp_path: Path, content: tuple[str, ...]
) -> None:
    """What was shown is no more where it was: the decision would be on another content."""
    with reviewing(tmp_path, [line_of("a", 0.51), line_of("b", 0.6)]) as session:
        (tmp_path / "out.jsonl").write_bytes(b"".join(line_of(name, 0.51) for name in content))
        if content[:1] == ("a",):
            decide(session)
        else:
            assert session.current is not None
            with pytest.raises(UsageError, match=r"out\.jsonl was written again"):
                session.decide(session.current.number, "safe")
    assert [one.source for one in read_decisions(tmp_path / "d.jsonl").current.values()] == list(
        content if content == ("a",) else ()
    )


def test_what_is_gone_is_passed_over(tmp_path: Path) -> None:
    lines = [line_of("a", 0.51), line_of("b", 0.6), line_of("c", 0.7)]
    with reviewing(tmp_path, lines, is_missing=lambda number: number != 1) as session:
        assert shown(session) == "b"
        decide(session)
        assert session.current is None
        assert (session.counts.missing, session.counts.left) == (2, 0)


def test_compact_records_take_the_threshold_from_the_run_card(tmp_path: Path) -> None:
    full = Record.model_validate_json(line_of("a", 0.9))
    out = tmp_path / "out.jsonl"
    card = {
        "schema": "clipmod-run/1",
        "run_key": full.run_key,
        "policy": {"name": "mine", "hash": "1234", "threshold": 0.85},
        "runs": [],
    }
    with table_of(out, compact_line(full)) as table:
        assert table.record(0)["threshold"] is None
    Path(f"{out}.run.json").write_text(json.dumps(card))
    with table_of(out) as table:
        assert (table.record(0)["threshold"], table.record(0)["policy"]) == (0.85, "mine")


def test_times_of_an_open_page_are_not_all_counted(tmp_path: Path) -> None:
    with reviewing(tmp_path, [line_of("a", 0.51), line_of("b", 0.6)]) as session:
        decide(session, seconds=3.25)
        decide(session, seconds=1e9)
        assert session.counts.seconds == 603.25
