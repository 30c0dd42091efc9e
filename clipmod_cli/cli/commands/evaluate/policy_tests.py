"""One call of `clipmod policies test`: judges the pictures of a policy's `[[tests]]`."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from clipmod_cli.assemble import (
    decoding_options,
    freeze_gc,
    load_models,
    policy_of,
    with_evidence_cache,
)
from clipmod_cli.cli.choosing import choose_models
from clipmod_cli.cli.terminal.progress import DownloadBar
from clipmod_cli.cli.terminal.result_lines import COLOURS, WIDTHS
from clipmod_cli.cli.terminal.stdout import plain, take_stdout
from clipmod_cli.cli.usage.effects import check_models, check_policy, check_values
from clipmod_cli.errors import ExitCode, UsageError
from clipmod_cli.judge.policy.expectations import PolicyTest, outcome_of, unmet
from clipmod_cli.judge.policy.values import Policy
from clipmod_cli.output.jsonl import StreamSink
from clipmod_cli.pipeline import run
from clipmod_cli.results import without_banks
from clipmod_cli.settings.reading import Resolved
from clipmod_cli.toml_lines import locate
from clipmod_cli.types import Failure, Item, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedTest:
    """The result of one test.

    Attributes:
        test: what the picture must be.
        where: the test in the policy, as `mine.toml:41`.
        result: of the picture.
    """

    test: PolicyTest
    where: str
    result: Verdict | Failure

    @property
    def faults(self) -> list[str]:
        """What is not as it must be; empty if the test passed. A picture without a verdict fails."""
        if isinstance(self.result, Failure):
            return [f"{self.result.code}: {self.result.message}"]
        return list(unmet(self.test, self.result))


def run_policy_tests(resolved: Resolved, *, as_json: bool) -> ExitCode:
    """Judge the pictures of a policy's tests, print a line for each, and return the exit code.

    Args:
        resolved: the settings; `policy` names the policy.
        as_json: print JSON Lines.

    Raises:
        UsageError: the policy has no tests.
        ClipmodError: the policy cannot be read, or its models cannot judge it.
    """
    settings = resolved.settings
    check_values(settings)
    policy = policy_of(resolved)
    if not policy.tests:
        raise UsageError(
            f"{settings.policy} has no [[tests]]: add pictures and what they must be (docs/policies.md)"
        )
    check_policy(resolved, policy)
    with take_stdout() as stdout:
        out = StreamSink(stdout.descriptor)
        colour = stdout.is_terminal and "NO_COLOR" not in os.environ
        failed = 0
        for tested in _judge(resolved, policy):
            failed += bool(tested.faults)
            if as_json:
                out.write(_json_of(tested).encode(errors="replace") + b"\n")
            elif tested.faults or not settings.quiet:
                out.write(_line(tested, colour=colour).encode(errors="replace") + b"\n")
        if not as_json and not settings.quiet:
            count = len(policy.tests)
            out.write(f"{count - failed} of {count} tests passed\n".encode())
    return ExitCode.FOUND if failed else ExitCode.OK


def _judge(resolved: Resolved, policy: Policy) -> Iterator[JudgedTest]:
    """Yield the results of the tests, in their order, by the models and settings of a scan."""
    settings = resolved.settings
    choice, hub = choose_models(settings, policy)
    check_models(resolved, choice)
    with DownloadBar(quiet=settings.quiet) as progress:
        ensemble, criteria = load_models(settings, choice, policy, hub, progress)
    folder, lines = Path(settings.policy).expanduser().parent, locate(policy.text)
    items = (Item(source=str(folder / t.picture), index=i) for i, t in enumerate(policy.tests))
    with with_evidence_cache(ensemble, settings) as cached:
        freeze_gc()
        options = replace(decoding_options(settings), infer_ahead=True)
        results = run(items, cached, criteria, options)
        for number, (test, result) in enumerate(zip(policy.tests, results, strict=True)):
            where = f"{settings.policy}:{lines['tests', number]}"
            yield JudgedTest(test=test, where=where, result=without_banks(result))


def _json_of(tested: JudgedTest) -> str:
    return json.dumps(_row(tested), ensure_ascii=False, allow_nan=False)


def _row(tested: JudgedTest) -> dict[str, Any]:
    """Return a test as the keys of its JSON; those of the verdict are null where there is none."""
    expected = {key: value for key, value in asdict(tested.test).items() if value is not None}
    del expected["picture"]
    row: dict[str, Any] = {
        "test": tested.where,
        "picture": tested.result.item.source,
        "passed": not tested.faults,
        "faults": tested.faults,
        "expected": expected,
        "outcome": None,
        "category": None,
        "unsafe_score": None,
        "matched_categories": None,
        "review_reasons": None,
        "error": None,
    }
    match tested.result:
        case Failure(code=code, message=message):
            return row | {"error": {"code": code, "message": message}}
        case verdict:
            return row | {
                "outcome": outcome_of(verdict),
                "category": verdict.deciding.category,
                "unsafe_score": float(verdict.deciding.unsafe_score),
                "matched_categories": verdict.matched_categories,
                "review_reasons": list(verdict.review_reasons),
            }


def _line(tested: JudgedTest, *, colour: bool) -> str:
    """Return `pass  decision  category  score  picture`, and where a test fails what is wrong."""
    word = "FAIL" if tested.faults else "pass"
    if colour:
        word = f"\x1b[{COLOURS['NSFW' if tested.faults else 'Safe']}m{word}\x1b[0m"
    match tested.result:
        case Failure():
            decision, category, score, reasons = "error", "", "", ""
        case verdict:
            decision, category = outcome_of(verdict) or "-", plain(verdict.deciding.category)
            score, reasons = f"{verdict.deciding.unsafe_score:.2f}", ", ".join(verdict.review_reasons)
    decision_width, category_width = WIDTHS
    line = f"{word}  {decision:<{decision_width}} {category:<{category_width}}  {score:<4}"
    line = f"{line}  {plain(tested.result.item.source)}"
    if not tested.faults:
        return line
    why = f" (needs review: {reasons})" if reasons else ""
    return f"{line}  {plain(tested.where)}: {plain('; '.join(tested.faults))}{why}"
