"""The line for a person: what was decided, why, and by whom; nothing that moves the cursor."""

from __future__ import annotations

import itertools
import os
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis.strategies import integers
from rich.cells import cell_len

from clipmod_cli.cli.terminal.result_lines import ShownLines, decision_of, line_of
from clipmod_cli.records import Record, to_record
from clipmod_cli.results import Result
from clipmod_cli.types import Detection, Item, ModelScore, Verdict
from tests.results import RUN, plain_animation, plain_failure, plain_verdict, results

HOSTILE = "\x1b]0;owned\x07\x1b[2J\r\nSafe  neutral \u202egpj.exe\x9b1A"
"""Retitles the window, clears the screen, begins a line that looks like ours, turns the text around."""


def shown(result: Result, *, colour: bool = False) -> str:
    return line_of(to_record(result, RUN), colour=colour)


def verdict_by(*scores: tuple[str, ModelScore], unsafe: float = 0.92) -> Verdict:
    verdict = plain_verdict(unsafe=unsafe)
    return replace(verdict, deciding=replace(verdict.deciding, by_model=dict(scores)))


def model_score(category: str, confidence: float, *detections: tuple[str, float]) -> ModelScore:
    found = tuple(Detection(label=label, score=score, box=(0, 0, 1, 1)) for label, score in detections)
    return ModelScore(
        category=category,
        confidence=confidence,
        probabilities={category: confidence},
        forward_ms=1.0,
        detections=found or None,
    )


def test_a_line_by_hand() -> None:
    score = model_score("female_present", 0.876)
    line = shown(verdict_by(("ViT-L-14", score)))
    assert line == "NSFW    female_present    0.92  ViT-L-14 0.88  photos/0.jpg"


def test_of_a_detector_it_tells_what_it_saw_how_surely_and_who() -> None:
    seen = model_score(
        "female_present", 0.81, ("FACE_FEMALE", 0.81), ("FEET_EXPOSED", 0.5), ("C", 0.4), ("D", 0.3)
    )
    line = shown(verdict_by(("nudenet", seen)))
    assert "nudenet: FACE_FEMALE 0.81, FEET_EXPOSED 0.50, C 0.40  photos/0.jpg" in line


def test_a_detector_that_saw_nothing_says_so() -> None:
    silent = replace(model_score("no_person", 1.0), detections=())
    assert "nudenet: nothing  photos/0.jpg" in shown(verdict_by(("nudenet", silent), unsafe=0.0))


def test_each_model_says_its_own() -> None:
    line = shown(verdict_by(("a", model_score("male_only", 0.6)), ("b", model_score("female_present", 0.7))))
    assert "a: male_only 0.60; b 0.70  " in line


@pytest.mark.parametrize(
    ("verdict", "word"),
    [
        (plain_verdict(), "NSFW"),
        (replace(plain_verdict(), review_reasons=("low_agreement",)), "NSFW"),
        (plain_verdict(unsafe=0.1), "Safe"),
        (replace(plain_verdict(unsafe=0.1), review_reasons=("low_agreement",)), "review"),
        (replace(plain_verdict(), decision=None), "-"),
        (replace(plain_verdict(), decision=None, review_reasons=("low_agreement",)), "review"),
        (plain_failure(), "error"),
    ],
)
def test_the_first_word(verdict: Result, word: str) -> None:
    record = to_record(verdict, RUN)
    assert decision_of(record) == word
    assert line_of(record, colour=False).split()[0] == word


def test_the_score_is_that_of_the_decision() -> None:
    assert " 0.10 " in shown(plain_verdict(unsafe=0.1)), "the unsafe score, not the confidence of 0.90"
    undecided = replace(plain_verdict(unsafe=0.1), decision=None)
    assert " 0.90 " in shown(undecided), "without UNSAFE categories the confidence"


def test_the_reasons_for_review_come_first() -> None:
    score = ("ViT-L-14", model_score("neutral", 0.55))
    unsure = replace(verdict_by(score, unsafe=0.1), review_reasons=("truncated", "low_agreement"))
    assert re.match(r"review  truncated, low_agreement: \w+ +0\.10  ViT-L-14", shown(unsure))
    hit = replace(verdict_by(score), review_reasons=("coverage",))
    assert shown(hit).startswith("NSFW    coverage: ")


def test_an_error_tells_its_code_and_sentence() -> None:
    failure = replace(plain_failure(code="too_many_pixels"), message="60 megapixels are over the limit")
    assert shown(failure) == "error   too_many_pixels   60 megapixels are over the limit  photos/0.jpg"


def test_an_animation_tells_where() -> None:
    assert shown(plain_animation()).endswith("photos/0.jpg  at 0.0 s")


def test_a_member_stands_behind_its_archive() -> None:
    item = Item(source="a.zip", index=0, member="in/x.jpg")
    assert shown(replace(plain_verdict(), item=item)).endswith("a.zip > in/x.jpg")


@pytest.mark.parametrize("where", ["source", "member", "message", "category", "model", "label"])
def test_names_cannot_speak_to_the_terminal(where: str) -> None:
    item = Item(
        source=HOSTILE if where == "source" else "x", index=0, member=HOSTILE if where == "member" else None
    )
    score = model_score(
        HOSTILE if where == "category" else "c", 0.5, *([(HOSTILE, 0.5)] if where == "label" else [])
    )
    verdict = verdict_by((HOSTILE if where == "model" else "m", score))
    deciding = replace(verdict.deciding, category=score.category)
    failure = replace(plain_failure(), message=HOSTILE, item=item)
    line = shown(failure if where == "message" else replace(verdict, item=item, deciding=deciding))
    assert line.isprintable()
    assert "\\x1b]0;owned\\x07\\x1b[2J\\r\\nSafe  neutral \\u202egpj.exe\\x9b1A" in line


def test_a_name_of_any_bytes_can_be_shown() -> None:
    line = shown(plain_verdict(source=os.fsdecode(b"\xff\xfe.jpg")))
    assert line.isprintable()
    assert line.encode().endswith("\ufffd\ufffd.jpg".encode())


def test_colour_is_only_around_the_word() -> None:
    record = to_record(plain_verdict(), RUN)
    bare, coloured = line_of(record, colour=False), line_of(record, colour=True)
    assert coloured != bare
    assert coloured.startswith("\x1b[1;31mNSFW")
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == bare


@given(result=results)
def test_law_every_result_has_one_printable_line(result: Result) -> None:
    record: Record = to_record(result, RUN)
    line = line_of(record, colour=False)
    assert line.isprintable()
    assert line.startswith(decision_of(record))
    line.encode()


def test_a_model_that_disagrees_is_named_first() -> None:
    same, other = model_score("female_present", 0.97), model_score("male_only", 0.6)
    assert "  b: male_only 0.60; a 0.97  " in shown(verdict_by(("a", same), ("b", other)))
    three = {
        name: model_score("female_present", score) for name, score in (("a", 0.7), ("b", 0.9), ("c", 0.8))
    }
    assert "  all 3 models 0.70 to 0.90  " in shown(verdict_by(*three.items()))
    assert "  c: male_only 0.60; a 0.70; b 0.90  " in shown(verdict_by(*{**three, "c": other}.items()))


@given(result=results, width=integers(60, 200))
def test_law_a_line_fits_the_terminal(result: Result, width: int) -> None:
    record: Record = to_record(result, RUN)
    line = line_of(record, colour=False, width=width)
    assert cell_len(line) <= width


def test_a_narrow_terminal_shows_the_end_of_a_name() -> None:
    long = "photos/" + "x" * 90 + "/日本語.jpg"
    line = line_of(to_record(plain_verdict(source=long), RUN), colour=False, width=80)
    assert cell_len(line) <= 80
    assert line.startswith("NSFW    female_present  0.92  ")
    assert "…" in line
    assert line.endswith("x/日本語.jpg")
    assert line_of(to_record(plain_verdict(source=long), RUN), colour=False).endswith(long)


def shown_by(lines: ShownLines, count: int, unsafe: tuple[int, ...] = ()) -> list[int]:
    """Return the numbers of the items that have a line, in the order of the lines."""
    taken = [lines.take(b"%d " % n, is_safe=n not in unsafe) for n in range(count)]
    return [int(word) for line in [*itertools.chain(*taken), *lines.rest()] for word in line.split()]


def test_of_few_inputs_each_has_a_line() -> None:
    assert shown_by(ShownLines(total=20), 20) == list(range(20))
    assert sorted(shown_by(ShownLines(), 20, unsafe=(3,))) == list(range(20)), "known at the end alone"


def test_of_many_inputs_only_those_that_are_not_safe_have_one() -> None:
    assert shown_by(ShownLines(total=21), 21, unsafe=(3, 20)) == [3, 20]
    assert shown_by(ShownLines(), 21, unsafe=(3, 20)) == [3, 20]
    assert shown_by(ShownLines(total=1), 30, unsafe=(25,))[-1] == 25, "an archive has more members"


def test_what_is_not_safe_is_shown_at_once() -> None:
    lines = ShownLines()
    assert lines.take(b"a", is_safe=True) == []
    assert lines.take(b"b", is_safe=False) == [b"b"]
    lines.total = 3
    assert lines.take(b"c", is_safe=True) == [b"a", b"c"]
    assert lines.rest() == []
