"""Scores of stored evidence by another policy, without the records: arithmetic on whole parts at once.

Stills are scored as arrays. Whatever is not a plain still, or lies so near to a bound that rounding could
decide, is judged one by one (`clipmod_cli.evidence.rescore`). So decisions are those of the records.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import duckdb
import numpy as np
from numpy.typing import NDArray

from clipmod_cli.errors import EvidenceError
from clipmod_cli.evidence.folder import (
    EvidenceFolder,
    EvidencePart,
    open_database,
    parts_of,
    read_rows,
    read_vectors,
)
from clipmod_cli.evidence.identity import StoredMember
from clipmod_cli.evidence.rescore import judge_one
from clipmod_cli.evidence.rows import Vectors, from_row
from clipmod_cli.judge.criteria import Criteria, WeightedReader
from clipmod_cli.judge.readers import MOST_UNMAPPED, DetectorReader, LabelReader, VectorReader
from clipmod_cli.judge.scoring import EnsembleScores, combine, ties
from clipmod_cli.types import Failure

NEAR: Final = 1e-6
"""Scores are rounded to `DIGITS`: nearer to a bound than this, the last digit could decide."""
VIEWS_AT_ONCE: Final = 4_096

_PLAIN: Final = (
    "media.kind = 'image' AND failure IS NULL AND len(views) > 0 "
    "AND NOT list_bool_or([v.stand_in FOR v IN views])"
)
_ITEMS: Final = (
    f"SELECT coalesce({_PLAIN}, false) AS plain, first_row, len(views) AS views, "  # noqa: S608 - constants
    "coalesce(media.truncated OR len(media.unseen) > 0, false) AS unseen, "
    "coalesce(media.coverage, 1.0)::DOUBLE AS coverage FROM read_parquet($path)"
)

Floats = NDArray[np.float64]
Booleans = NDArray[np.bool_]
Indices = NDArray[np.intp]


@dataclass(frozen=True, slots=True, kw_only=True)
class PartScores:
    """The scores of the inputs of one part, `(n,)` each.

    Attributes:
        rows: their row numbers in the part.
        unsafe: unsafe scores, 0..1; NaN for an input that could not be judged.
        category: the index of the category of the deciding view; -1 for an input that could not be judged.
        nsfw: whether the decision is NSFW.
        review: whether a person should look at it.
    """

    part: EvidencePart
    rows: Indices
    unsafe: Floats
    category: Indices
    nsfw: Booleans
    review: Booleans


def score_parts(stored: EvidenceFolder, criteria: Criteria) -> Iterator[PartScores]:
    """Yield the scores of a folder of evidence, part by part.

    Raises:
        EvidenceError: a part is damaged, or its embeddings are missing.
    """
    with open_database(threads="1") as con:  # a part is one row group
        for part in parts_of(stored.path):
            yield _PartScorer(stored, part, criteria, con).score()


class _PartScorer:
    def __init__(
        self, stored: EvidenceFolder, part: EvidencePart, criteria: Criteria, con: duckdb.DuckDBPyConnection
    ) -> None:
        self.stored, self.part, self.criteria, self.con = stored, part, criteria, con
        self.members = stored.identity.members
        self.vectors = read_vectors(part, self.members)

    def score(self) -> PartScores:
        try:
            return self._score()
        except duckdb.Error as e:
            raise EvidenceError(f"{self.part.rows} is damaged: {e}") from e

    def _score(self) -> PartScores:
        items = self.con.execute(_ITEMS, {"path": str(self.part.rows)}).fetchnumpy()
        count = len(items["first_row"])
        scores = PartScores(
            part=self.part,
            rows=np.arange(count, dtype=np.intp),
            unsafe=np.full(count, np.nan),
            category=np.full(count, -1, dtype=np.intp),
            nsfw=np.zeros(count, dtype=np.bool_),
            review=np.zeros(count, dtype=np.bool_),
        )
        plain = np.flatnonzero(items["plain"])
        one_by_one = np.ones(count, dtype=np.bool_)
        if len(plain):
            near = self._score_stills({name: values[plain] for name, values in items.items()}, plain, scores)
            one_by_one[plain[~near]] = False
        self._judge(np.flatnonzero(one_by_one), scores)
        gone = self.stored.superseded.get(self.part.rows.name)
        return _without(scores, gone) if gone else scores

    def _score_stills(self, items: Mapping[str, NDArray[Any]], rows: Indices, part: PartScores) -> Booleans:
        """Score plain stills, those at `rows`, and return which of them are too near to a bound."""
        views = self._views(items)
        scores, policy = views.scores, self.criteria.policy
        best, near = _worst_views(views)
        unsafe, agreement = scores.unsafe[best], scores.agreement[best]
        part.unsafe[rows], part.category[rows] = unsafe, scores.tops[-1, best]
        has_unsafe = bool(self.criteria.unsafe.any())
        part.nsfw[rows] = views.hit[best] & has_unsafe
        review = items["unseen"].astype(np.bool_) | bool(self.criteria.unseen)
        if has_unsafe:
            review |= items["coverage"] < policy.min_coverage
        review |= np.bincount(views.item, views.unmapped, minlength=len(rows)) > 0
        review |= agreement < policy.agreement_threshold
        highest = np.maximum.reduceat(scores.own, views.starts, axis=0)
        bands = [(unsafe, policy.review_band(self.criteria.threshold))]
        bands += [(highest[:, one.index], one.band) for one in self.criteria.category_thresholds]
        for values, band in bands:
            if band is not None:
                review |= (band[0] <= values) & (values <= band[1])
                near |= _is_near(values, band[0]) | _is_near(values, band[1])
        part.review[rows] = review
        return near

    def _views(self, items: Mapping[str, NDArray[Any]]) -> _Views:
        counts = items["views"].astype(np.intp)
        item = np.repeat(np.arange(len(counts), dtype=np.intp), counts)
        within = np.arange(len(item)) - np.repeat(np.cumsum(counts) - counts, counts)
        at = np.repeat(items["first_row"].astype(np.intp), counts) + within
        labels = iter(self._read_labels())
        shares, own, unmapped = [], [], np.zeros(len(at), dtype=np.bool_)
        for judge in self.criteria.judges:
            share, of_categories, left = _member_scores(
                judge, at, self.vectors, labels, len(self.criteria.names)
            )
            shares.append(share)
            own.append(of_categories)
            unmapped |= left > MOST_UNMAPPED
        weights = np.array([judge.weight for judge in self.criteria.judges])
        scores = combine(np.stack(shares), weights, self.criteria, own=np.stack(own))
        unclear = ties(scores, self.criteria) | ~np.isfinite(scores.shares).all(axis=(0, 2))
        unclear |= _is_near(scores.unsafe, self.criteria.threshold)
        for one in self.criteria.category_thresholds:
            unclear |= _is_near(scores.own[:, one.index], one.threshold)
        return _Views(
            item=item,
            scores=scores,
            hit=scores.matched.any(axis=1) | (scores.unsafe >= self.criteria.threshold),
            unmapped=unmapped,
            unclear=unclear,
        )

    def _read_labels(self) -> list[Floats]:
        """Return the columns that the readers of labels need, of all views of plain stills in order."""
        columns, values = _columns(self.criteria, self.members)
        if not columns:
            return []
        named = ", ".join(f"{text} AS c{number}" for number, text in enumerate(columns))
        found = self.con.execute(
            f"SELECT {named} FROM (SELECT row, unnest(views) AS v, unnest(range(len(views))) AS n "  # noqa: S608 - values apart
            f"FROM (SELECT file_row_number AS row, views, {_PLAIN} AS plain "
            "FROM read_parquet($path, file_row_number = true)) WHERE plain) ORDER BY row, n",
            {**values, "path": str(self.part.rows)},
        ).fetchnumpy()
        return [np.asarray(found[f"c{number}"], dtype=np.float64) for number in range(len(columns))]

    def _judge(self, rows: Indices, scores: PartScores) -> None:
        names = {name: index for index, name in enumerate(self.criteria.names)}
        for number, row in zip(rows, read_rows(self.part, rows=rows.tolist()), strict=True):
            evidence = from_row(row, self.members, self.vectors)
            result = judge_one(evidence, self.criteria, max_gap_s=self.stored.identity.max_gap_s)
            if isinstance(result, Failure):
                scores.unsafe[number], scores.category[number] = np.nan, -1
                scores.nsfw[number] = scores.review[number] = False
                continue
            scores.unsafe[number] = result.deciding.unsafe_score
            scores.category[number] = names[result.deciding.category]
            scores.nsfw[number] = result.decision == "NSFW"
            scores.review[number] = result.needs_review


def _is_near(values: Floats, bound: float) -> Booleans:
    return np.asarray(np.abs(values - bound) <= NEAR)


def _without(scores: PartScores, gone: frozenset[int]) -> PartScores:
    left = ~np.isin(scores.rows, list(gone))
    return PartScores(
        part=scores.part,
        rows=scores.rows[left],
        unsafe=scores.unsafe[left],
        category=scores.category[left],
        nsfw=scores.nsfw[left],
        review=scores.review[left],
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Views:
    """The scores of the views of plain stills, `(n,)` each.

    Attributes:
        item: the number of the still, rising.
        hit: whether a score is at its threshold.
        unmapped: whether most of what a classifier saw has no category.
        unclear: whether rounding could decide.
    """

    item: Indices
    scores: EnsembleScores
    hit: Booleans
    unmapped: Booleans
    unclear: Booleans

    @property
    def starts(self) -> Indices:
        """The first view of each still."""
        return np.flatnonzero(np.diff(self.item, prepend=-1))


def _worst_views(views: _Views) -> tuple[Indices, Booleans]:
    """Return the deciding view of each still, and whether it is not clear which of them that is."""
    starts = views.starts
    severity = np.where(views.hit, 2.0, 0.0) + views.scores.unsafe  # a hit before all others
    worst = np.maximum.reduceat(severity, starts)
    behind = worst[views.item] - severity
    candidates = np.flatnonzero(behind == 0)
    _, first = np.unique(views.item[candidates], return_index=True)
    unclear = views.unclear | ((behind > 0) & (behind <= 2 * NEAR))
    best = np.zeros(len(starts), dtype=np.intp)
    best[views.item[candidates[first]]] = candidates[first]
    return best, np.bincount(views.item, unclear, minlength=len(starts)) > 0


def _columns(criteria: Criteria, members: Sequence[StoredMember]) -> tuple[list[str], dict[str, Any]]:
    """Return SQL for the numbers that the readers of labels need of a view, and the values in it."""
    columns: list[str] = []
    values: dict[str, Any] = {}

    def value(one: Sequence[Any]) -> str:
        values[f"v{len(values)}"] = list(one)
        return f"$v{len(values) - 1}"

    labelled = {"classifier": 0, "detector": 0}
    for member, judge in zip(members, criteria.judges, strict=True):
        if member.kind == "text-image":
            continue
        labelled[member.kind] += 1
        at = labelled[member.kind]
        if isinstance(judge.reader, LabelReader):
            places = {label: number for number, label in enumerate(member.labels or (), 1)}
            full = judge.reader.labels if judge.reader.has_undivided else ()
            for labels in [*judge.reader.counted, *full, judge.reader.unmapped]:
                chosen = value(sorted(places[label] for label in labels))
                columns.append(f"coalesce(list_sum(list_select(v.labels[{at}], {chosen})), 0)::DOUBLE")
        elif isinstance(judge.reader, DetectorReader):
            for mapped in judge.reader.labels:
                chosen = value(sorted(mapped))
                found = f"[d.score FOR d IN v.detections[{at}] IF list_contains({chosen}, d.label)]"
                columns.append(f"coalesce(list_max({found}), 0)::DOUBLE")
    return columns, values


def _member_scores(
    judge: WeightedReader, at: Indices, vectors: Vectors, columns: Iterator[Floats], categories: int
) -> tuple[Floats, Floats, Floats]:
    """Return a member's shares and `own_scores`, and how much of what it saw no category has `(n,)`."""

    def take() -> Floats:
        return np.stack([next(columns) for _ in range(categories)], axis=1)

    left = np.zeros(len(at))
    match judge.reader:
        case VectorReader() as reader:
            found = vectors[judge.name]
            chunks = range(0, len(at), VIEWS_AT_ONCE)
            parts = [reader.read_both(found[at[n : n + VIEWS_AT_ONCE]]) for n in chunks]
            none = np.zeros((0, categories))
            shares = own = np.concatenate([none, *(part for part, _ in parts)])
            if reader.has_own_scores:
                own = np.concatenate([none, *(part for _, part in parts)])
        case LabelReader() as reader:
            counted = take()
            shares, own = reader.read_sums(counted, take() if reader.has_undivided else counted)
            left = reader.unmapped_shares(counted, next(columns))
        case DetectorReader() as reader:
            shares = own = reader.read_highest(take())
        case _:
            raise AssertionError(f"unknown reader {judge.reader!r}")
    return shares, own, left
