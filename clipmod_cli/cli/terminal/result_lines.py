"""One short line of text for a record, for a terminal, and which records get one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from clipmod_cli.cli.terminal.stdout import plain
from clipmod_cli.records import Record
from clipmod_cli.records.parts import BankMatchRow, ModelPrediction

COLOURS: Final = {"NSFW": "1;31", "review": "33", "error": "35", "Safe": "32", "-": "36"}
WIDTHS: Final = (7, 16)
"""Of the decision, and of the category or error code."""

NARROW: Final = 100
"""Below these columns categories are not padded to their width."""

NAME: Final = 20
"""Columns that the end of a source gets at least."""

SHOW_ALL: Final = 20
"""Up to this number of inputs each has a line, else only those that are not safe."""


@dataclass
class ShownLines:
    """Chooses the lines to show: of all inputs if there are few, else of those that are not safe.

    Attributes:
        total: the number of inputs, once it is known.
    """

    total: int | None = None
    _seen: int = 0
    _held: list[bytes] = field(default_factory=list)

    def take(self, line: bytes, *, is_safe: bool) -> list[bytes]:
        """Return the lines to show now; a safe item's line waits until the number of inputs is known."""
        self._seen += 1
        if max(self._seen, self.total or 0) > SHOW_ALL:
            self._held.clear()
            return [] if is_safe else [line]
        if is_safe and self.total is None:
            self._held.append(line)
            return []
        return [*self.rest(), line] if self.total is not None else [line]

    def rest(self) -> list[bytes]:
        """Return the lines that are still held; for the end of a run."""
        held, self._held = self._held, []
        return held


def decision_of(record: Record) -> str:
    """Return NSFW, review, error, Safe, or - if there is no decision."""
    if record.status == "error":
        return "error"
    if record.final_decision == "NSFW":
        return "NSFW"
    return "review" if record.needs_review else record.final_decision or "-"


def line_of(record: Record, *, colour: bool, width: int | None = None) -> str:
    """Return `decision  reasons: category  score  model: its result  source`, without a newline.

    Args:
        record: of the item.
        colour: colour the decision.
        width: shorten the models' results and the start of the source to this number of columns.
    """
    word = decision_of(record)
    shown = f"{word:<{WIDTHS[0]}}"
    padding = 0 if record.review_reasons or (width is not None and width < NARROW) else WIDTHS[1]
    if record.error is not None:
        head, detail = f"{record.error.code:<{padding}}", plain(record.error.message)
    elif record.matches:
        head, detail = f"{f'{record.decided_by} bank':<{padding}}", "; ".join(map(_of_bank, record.matches))
    else:
        reasons = f"{', '.join(record.review_reasons)}: " if record.review_reasons else ""
        score = record.unsafe_score if record.final_decision is not None else record.confidence
        found = f"{reasons}{plain(record.ensemble_category or ''):<{padding}}"
        head = found if width is None else _shortened(found, width // 2)
        head, detail = f"{head}  {score or 0:.2f}", _by_model(record)
    source = _name(record) + _position(record)
    if width is not None:
        from rich.cells import cell_len

        # of a safe item its name matters, of others what the models say
        least = 2 * NAME if word == "Safe" else NAME
        detail, source = _fit(detail, source, width - len(shown) - cell_len(head) - 5, least)
    if colour:
        shown = f"\x1b[{COLOURS[word]}m{shown}\x1b[0m"
    return "  ".join(part for part in (f"{shown} {head}", detail, source) if part)


def _fit(detail: str, source: str, room: int, least: int) -> tuple[str, str]:
    """Return both, shortened to `room` columns together; the source keeps its end, of `least` columns."""
    from rich.cells import cell_len

    source = _shortened(source, max(room - cell_len(detail), min(room * 3 // 4, least)), keep_end=True)
    return _shortened(detail, max(room - cell_len(source), 0)), source


def _shortened(text: str, room: int, *, keep_end: bool = False) -> str:
    from rich.cells import cell_len, set_cell_size

    if cell_len(text) <= room:
        return text
    if room < 2:
        return ""
    if keep_end:
        return "…" + set_cell_size(text[::-1], room - 1).rstrip()[::-1]
    return set_cell_size(text, room - 1).rstrip() + "…"


def _name(record: Record) -> str:
    member = f" > {plain(record.member)}" if record.member is not None else ""
    return plain(record.source) + member


def _position(record: Record) -> str:
    hits = record.segments or []
    return f"  at {hits[0].peak_time_s:.1f} s" if hits else ""


def _of_bank(match: BankMatchRow) -> str:
    said = ", ".join(plain(text) for text in (match.type, match.note) if text)
    return f"{plain(match.bank)}: {said}" if said else plain(match.bank)


def _by_model(record: Record) -> str:
    """Return each model's best detections, or its category and score, those that disagree first."""
    predictions = record.per_model_predictions or {}
    shared = record.ensemble_category
    if len(predictions) > 2 and {one.predicted_category for one in predictions.values()} == {shared}:
        scores = sorted(one.confidence for one in predictions.values())
        return f"all {len(predictions)} models {scores[0]:.2f} to {scores[-1]:.2f}"
    order = sorted(predictions.items(), key=lambda named: named[1].predicted_category == shared)
    return "; ".join(f"{plain(name)}{_found(one, shared)}" for name, one in order)


def _found(prediction: ModelPrediction, shared: str | None) -> str:
    """Return what follows the model's name; its category only if it is not the ensemble's."""
    if prediction.detections:
        return ": " + ", ".join(f"{plain(d.label)} {d.score:.2f}" for d in prediction.detections[:3])
    if prediction.detections is not None:
        return ": nothing"
    score = f"{prediction.confidence:.2f}"
    category = prediction.predicted_category
    return f" {score}" if category == shared else f": {plain(category)} {score}"
