"""Near copies in a review: what one decision is on, what is never decided unseen, and what rates come to."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from clipmod_cli.output.reading.withheld import read_withheld, withheld_path
from clipmod_cli.review.decisions import DecisionFile, ReviewDecision, read_decisions
from clipmod_cli.review.dedupe.method import DedupeMethod
from clipmod_cli.review.labels import labels_of
from clipmod_cli.review.queue.refusals import NearCopyNotSeenError, NotShownError
from clipmod_cli.review.queue.session import MOST_NEAR, ReviewSession
from clipmod_cli.review.queue.stacks import NearStacks, find_stacks
from clipmod_cli.review.queue.walk import ReviewPlan
from clipmod_cli.review.sampling import inclusion_probabilities
from tests.decode.photographs import photograph
from tests.end_to_end.command import SAMPLES, TINY, Command
from tests.review.judged import decide, file_line, hash_of, line_of, reviewing, shown, table_of

PDQ = DedupeMethod("pdq", 31)
NEAR = [[hash_of(name) for name in ("big", "small", "safe")]]
LINES = [
    line_of("other", 0.52),
    line_of("small", 0.6),
    line_of("between", 0.7),
    line_of("big", 0.9),
    line_of("safe", 0.1),
]


def names(session: ReviewSession, numbers: list[int]) -> list[str]:
    return [str(session.table.record(number)["source"]) for number in numbers]


def test_near_copies_come_together_at_the_place_of_the_first(tmp_path: Path) -> None:
    with reviewing(tmp_path, LINES, near=NEAR) as session:
        assert names(session, session.show_grid(10)) == ["other", "small", "big", "between"]
    with reviewing(tmp_path) as session:
        assert names(session, session.show_grid(10)) == ["other", "small", "between", "big"]


def test_a_decision_is_written_for_each_near_copy_in_the_queue(tmp_path: Path) -> None:
    """What is not in the queue, as the machine called it Safe, is not decided with it."""
    with reviewing(tmp_path, LINES, near=NEAR) as session:
        assert session.near_copies == []
        decide(session, "safe")
        assert names(session, session.near_copies) == ["big"]
        decide(session, "unsafe", category="gore", seconds=4.0, near=session.near_copies)
        assert (shown(session), session.counts.done, session.counts.left) == ("between", 3, 1)
    state = read_decisions(tmp_path / "d.jsonl")
    other, small, big = state.current.values()
    assert (other.stack, other.near_copy_of, other.together) == (None, None, 1)
    assert (small.source, small.sha256, small.near_copy_of) == ("small", hash_of("small"), None)
    assert (big.source, big.sha256, big.near_copy_of) == ("big", hash_of("big"), hash_of("small"))
    for one in (small, big):
        assert (one.label, one.category, one.together, one.seconds) == ("unsafe", "gore", 2, 2.0)
        assert one.stack == hash_of("big")
    assert (small.priority, big.judged.unsafe_score) == (big.priority, 0.9)
    assert [one.near_copy_of for one in labels_of(state)] == [None, None, hash_of("small")]


@pytest.mark.parametrize("again", [NEAR, []])
def test_undo_takes_all_of_it_back_also_after_a_restart(tmp_path: Path, again: list[list[str]]) -> None:
    with reviewing(tmp_path, LINES, near=NEAR) as session:
        decide(session, "safe")
        decide(session, "unsafe", near=session.near_copies)
        assert session.undo()
        assert (shown(session), session.counts.done) == ("small", 1)
        assert names(session, session.near_copies) == ["big"]
        decide(session, "unsafe", near=session.near_copies)
    with reviewing(tmp_path, near=again) as session:
        assert (shown(session), session.counts.left) == ("between", 1)
        assert session.undo()
        assert (shown(session), session.counts.left) == ("small", 3)
        assert names(session, session.near_copies) == (["big"] if again else [])
        assert decide(session, "safe") == "small"
        assert shown(session) == "big"
    assert list(read_decisions(tmp_path / "d.jsonl").current) == [hash_of("other"), hash_of("small")]


def test_only_what_the_person_saw_is_decided(tmp_path: Path) -> None:
    with reviewing(tmp_path, LINES, near=NEAR) as session:
        numbers = session.table.numbers
        decide(session, "safe")
        for other in ("safe", "between", "other"):
            with pytest.raises(NotShownError):
                decide(session, "unsafe", near=[numbers[hash_of(other)]])
        assert not session.is_shown(numbers[hash_of("safe")])
        assert session.is_shown(numbers[hash_of("big")])
        assert decide(session, "unsafe") == "small"  # alone: no picture of the other one came
        assert shown(session) == "big"


def test_safe_needs_a_look_at_what_the_machine_judged_otherwise(tmp_path: Path) -> None:
    with reviewing(tmp_path, LINES, near=NEAR, only=("nsfw", "safe")) as session:
        while shown(session) != "small":
            decide(session, "safe")
        big, safe = (session.table.numbers[hash_of(name)] for name in ("big", "safe"))
        assert session.near_copies == [big, safe]
        for looked in ([], [big]):
            with pytest.raises(NearCopyNotSeenError, match="look at it"):
                decide(session, "safe", near=[big, safe], looked=looked)
        assert session.counts.done == 1
        decide(session, "safe", near=[big, safe], looked=[safe])
        assert session.counts.done == 4


def test_a_large_stack_comes_in_parts(tmp_path: Path) -> None:
    """Over twenty at once, their number would have to be typed."""
    found = [f"{number:02}" for number in range(MOST_NEAR + 5)]
    lines = [line_of(name, 0.6) for name in found]
    with reviewing(tmp_path, lines, near=[[hash_of(name) for name in found]]) as session:
        assert len(session.near_copies) == MOST_NEAR
        decide(session, "unsafe", near=session.near_copies)
        assert len(session.near_copies) == 3
        decide(session, "unsafe", near=session.near_copies)
        assert session.current is None
        assert session.undo()
        assert (session.counts.left, len(session.near_copies)) == (4, 3)


def test_what_is_gone_is_no_near_copy(tmp_path: Path) -> None:
    def is_missing(number: int) -> bool:
        return number == 3

    with reviewing(tmp_path, LINES, near=NEAR, is_missing=is_missing) as session:
        decide(session, "safe")
        assert (shown(session), session.near_copies) == ("small", [])


def test_the_grid_decides_near_copies_one_by_one(tmp_path: Path) -> None:
    with reviewing(tmp_path, LINES, near=NEAR) as session:
        decide(session, "safe")
        session.decide_together(session.show_grid(1), "safe")
        assert (shown(session), session.near_copies) == ("big", [])
    (_, small) = read_decisions(tmp_path / "d.jsonl").current.values()
    assert (small.source, small.together, small.near_copy_of) == ("small", 1, None)


def test_what_is_drawn_is_decided_alone(tmp_path: Path) -> None:
    """Nor is another draw due for each near copy that was decided with another."""
    found = [str(number) for number in range(80)]
    lines = [line_of(name, 0.6) for name in found]
    with reviewing(tmp_path, lines, near=[[hash_of(name) for name in found]], audit=0.5) as session:
        seen = []
        while session.current is not None:
            seen.append((session.current.why, len(session.near_copies)))
            decide(session, "unsafe", near=session.near_copies)
    assert seen == [*[("queue", MOST_NEAR), ("audit", 0)] * 3, ("queue", 16)]
    decisions = list(read_decisions(tmp_path / "d.jsonl").current.values())
    assert {one.near_copy_of for one in decisions if one.why == "audit"} == {None}


class DecisionsInMemory(DecisionFile):
    """Decisions that are not written."""

    def append(self, decisions: Sequence[ReviewDecision]) -> None:
        for one in decisions:
            self.state.add(one)


def test_rates_on_decisions_on_near_copies_are_not_biased(tmp_path: Path) -> None:
    """The labels of a review that ended early, each with its weight, come to the number of all contents."""
    lines = [line_of(str(number), 0.5 + number / 100 if number < 30 else 0.1) for number in range(90)]
    near = [[hash_of(str(number)) for number in range(first, 90, 15)] for first in range(0, 15, 2)]
    totals = []
    with table_of(tmp_path / "out.jsonl", *lines) as table:
        for seed in range(400):
            decisions = DecisionsInMemory(tmp_path / "d.jsonl")
            decisions.state.seed = str(seed)
            plan = ReviewPlan(who="ana", audit=0.5)
            session = ReviewSession(table, decisions, plan, stacks=NearStacks.of(near, table.numbers))
            for _ in range(14):
                decide(session, "unsafe", near=session.near_copies)
            totals.append(sum(1 / p for p in inclusion_probabilities(decisions.state).values()))
    assert abs(sum(totals) / len(totals) - 90) < 3


def test_what_may_show_a_minor_takes_its_near_copies_with_it(tmp_path: Path) -> None:
    """Those that are not in the queue too; what was decided before is left, and a mistake brings all back."""
    with reviewing(tmp_path, LINES, near=NEAR) as session:
        decide(session, "safe")
        number = session.current.number if session.current else -1
        assert names(session, session.withhold(number)) == ["small", "big", "safe"]
        assert (shown(session), session.counts.left) == ("between", 1)
        out = tmp_path / "out.jsonl"
        assert [read_withheld(out).covers_line(line) for line in LINES] == [False, True, False, True, True]
        session.undo_withheld(number)
        assert not withheld_path(out).exists()
        assert (shown(session), session.counts.left) == ("small", 3)
        assert names(session, session.near_copies) == ["big"]
        session.withhold(number)
        session.undo()
        assert read_withheld(out).covers_line(LINES[4])
    found = read_decisions(tmp_path / "d.jsonl").current
    assert {one.source: one.near_copy_of for one in found.values()} == {
        "small": None,
        "big": hash_of("small"),
        "safe": hash_of("small"),
    }


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    """A picture, a smaller copy of worse quality, and another picture."""
    picture = photograph("coffee.png")
    picture.save(tmp_path / "large.png")
    picture.resize((300, 200)).save(tmp_path / "small.jpg", quality=60)
    return [tmp_path / "large.png", tmp_path / "small.jpg", Path(shutil.copy(SAMPLES / "cat.png", tmp_path))]


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_near_copies_are_found_in_the_files(tmp_path: Path, pictures: list[Path]) -> None:
    large, small, _ = pictures
    out = tmp_path / "out.jsonl"
    out.write_bytes(b"".join(file_line(path) for path in reversed(pictures)))
    found = find_stacks([str(out)], PDQ, None)
    assert found.hashes == [[digest(large), digest(small)]]
    assert found.not_compared == 0


def test_hashes_of_the_records_are_taken_in_place_of_new_ones(tmp_path: Path, pictures: list[Path]) -> None:
    """As a bank of PDQ hashes has them written: these are of no picture, so that files tell otherwise."""
    hashes = ("f" * 64, "", "f" * 63 + "0")
    lines = [file_line(path, pdq=made) for path, made in zip(pictures, hashes, strict=True)]
    out = tmp_path / "out.jsonl"
    out.write_bytes(b"".join(lines))
    found = find_stacks([str(out)], PDQ, None)
    assert [set(stack) for stack in found.hashes] == [{digest(pictures[0]), digest(pictures[2])}]
    assert found.not_compared == 1


def test_near_copies_are_found_in_stored_evidence(
    clipmod: Command, tmp_path: Path, pictures: list[Path]
) -> None:
    models = ",".join(f"open_clip:local-dir:{TINY / 'models' / name}" for name in ("tiny-l", "tiny-h"))
    out, evidence = tmp_path / "out.jsonl", tmp_path / "EV"
    options = ("--policy", TINY / "shapes.toml", "--models", models, "--no-isolate", "--no-db")
    run = clipmod("scan", *pictures, "-o", out, *options, "--evidence", evidence)
    assert run.code in {0, 1}, run.stderr
    found = find_stacks([str(out)], DedupeMethod("embedding", 0.995), evidence)
    assert found.hashes == [[digest(pictures[0]), digest(pictures[1])]]
