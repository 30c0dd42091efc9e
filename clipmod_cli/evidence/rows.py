"""One row of stored evidence: all that the models saw of one input, and back again.

A row holds what judging needs and no picture. Embeddings lie beside the rows, one matrix a model; a row knows
at which of their rows its views begin. Of times only when it was judged is stored.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from time import perf_counter, time
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from clipmod_cli.evidence.identity import StoredMember
from clipmod_cli.output.columns import column_types
from clipmod_cli.records import read_name, write_name
from clipmod_cli.types import (
    Box,
    Detection,
    Detections,
    Embedding,
    Evidence,
    Failure,
    Item,
    LabelScores,
    Media,
    Seen,
    View,
)

Vectors = Mapping[str, NDArray[np.float16]]
"""By member name: the embeddings of all views of a part, float16 `(rows, d)`."""

_MEDIA: Final = tuple(f.name for f in fields(Media) if f.name != "started")
_MEDIA_TYPE: Final = ", ".join(f'"{n}" {kind}' for n, kind in column_types(Media).items() if n in _MEDIA)
_DETECTION: Final = "STRUCT(label VARCHAR, score DOUBLE, box INTEGER[])"
_VIEW: Final = (
    "STRUCT(number BIGINT, time_s DOUBLE, box INTEGER[], reading VARCHAR, scale DOUBLE, stand_in BOOLEAN, "
    f"members VARCHAR[], labels DOUBLE[][], detections {_DETECTION}[][])"
)
COLUMNS: Final[dict[str, str]] = {
    "directory": "VARCHAR",
    "directory_b64": "VARCHAR",
    "source": "VARCHAR",
    "source_b64": "VARCHAR",
    "member": "VARCHAR",
    "member_b64": "VARCHAR",
    "index": "BIGINT",
    "final_url": "VARCHAR",
    "row": "BIGINT",
    "columns": "MAP(VARCHAR, VARCHAR)",
    "media": f"STRUCT({_MEDIA_TYPE})",
    "failure": "STRUCT(stage VARCHAR, code VARCHAR, message VARCHAR, http_status BIGINT)",
    "judged_at": "DOUBLE",
    "first_row": "BIGINT",
    "views": f"{_VIEW}[]",
    "recheck_spans": "DOUBLE[][]",
    "recheck_views": f"{_VIEW}[]",
}
"""DuckDB's types of the columns of a part."""


@dataclass(slots=True, kw_only=True)
class ItemEvidence:
    """The evidence of one input.

    Attributes:
        views: what was seen of its views, in order.
        failure: the first failure of the input or of one of its frames.
        recheck_spans: the spans of a video that were looked at once more, (start, end) in seconds; None if
            none were asked for.
        recheck: what was seen in them.
        directory: to which the source is relative: the working directory; None if it is a URL.
    """

    item: Item
    directory: str | None = None
    media: Media | None = None
    views: list[Evidence] = field(default_factory=list)
    failure: Failure | None = None
    recheck_spans: Sequence[tuple[float, float]] | None = None
    recheck: list[Evidence] = field(default_factory=list)

    def add(self, seen: Evidence | Failure) -> None:
        """Add what was seen of the next frame."""
        self.media = seen.media or self.media
        if isinstance(seen, Evidence):
            self.views.append(seen)
        else:
            self.failure = self.failure or seen

    def stream(self) -> Iterator[Evidence | Failure]:
        """Yield the evidence as the models gave it; of several failures the first, at the end."""
        yield from self.views
        if self.failure is not None:
            yield self.failure


def to_row(evidence: ItemEvidence, members: Sequence[StoredMember], first_row: int) -> dict[str, Any]:
    """Return the row of an input, ready for JSON; its views begin at `first_row` of the embeddings."""
    item, media, failure = evidence.item, evidence.media, evidence.failure
    source, source_b64 = write_name(item.source)
    member, member_b64 = write_name(item.member) if item.member is not None else (None, None)
    directory, directory_b64 = write_name(evidence.directory) if evidence.directory else (None, None)
    return {
        "directory": directory,
        "directory_b64": directory_b64,
        "source": source,
        "source_b64": source_b64,
        "member": member,
        "member_b64": member_b64,
        "index": item.index,
        "final_url": item.final_url,
        "row": item.row,
        "columns": item.columns,
        "media": None if media is None else {name: getattr(media, name) for name in _MEDIA},
        "failure": None
        if failure is None
        else {
            "stage": failure.stage,
            "code": failure.code,
            "message": write_name(failure.message)[0],
            "http_status": failure.http_status,
        },
        "judged_at": round(time(), 3),
        "first_row": first_row,
        "views": [_view_row(seen, members) for seen in evidence.views],
        "recheck_spans": evidence.recheck_spans,
        "recheck_views": [_view_row(seen, members) for seen in evidence.recheck],
    }


def _view_row(evidence: Evidence, members: Sequence[StoredMember]) -> dict[str, Any]:
    seen = evidence.seen
    return {
        "number": evidence.number,
        "time_s": evidence.time_s,
        "box": tuple(evidence.view.box),
        "reading": evidence.view.reading,
        "scale": evidence.view.scale,
        "stand_in": evidence.stand_in,
        "members": [member.name for member in members if member.name in seen] if evidence.stand_in else None,
        "labels": [_scores(seen.get(m.name), m) for m in members if m.kind == "classifier"],
        "detections": [_found(seen.get(m.name)) for m in members if m.kind == "detector"],
    }


def _scores(seen: Seen | None, member: StoredMember) -> list[float] | None:
    return [seen.scores[label] for label in member.labels or ()] if isinstance(seen, LabelScores) else None


def _found(seen: Seen | None) -> list[dict[str, Any]] | None:
    if not isinstance(seen, Detections):
        return None
    return [{"label": one.label, "score": one.score, "box": one.box} for one in seen.found]


def vectors_of(evidence: Sequence[Evidence], member: StoredMember) -> list[NDArray[np.float16] | None]:
    """Return the embedding of each view, float16 `(d,)`; None where this member was not asked."""
    found = [view.seen.get(member.name) for view in evidence]
    return [seen.vector.astype(np.float16) if isinstance(seen, Embedding) else None for seen in found]


def from_row(row: Mapping[str, Any], members: Sequence[StoredMember], vectors: Vectors) -> ItemEvidence:
    """Return the evidence of a row; embeddings are taken from `vectors`, those of its part."""
    item = Item(
        source=read_name(row["source"], row["source_b64"]),
        index=row["index"],
        member=None if row["member"] is None else read_name(row["member"], row["member_b64"]),
        final_url=row["final_url"],
        row=row["row"],
        columns=row["columns"],
    )
    media = None if row["media"] is None else _media(row["media"])
    read = _ViewReader(item, media or Media(started=perf_counter()), members, vectors)
    views = read.views(row["views"], row["first_row"], last=row["failure"] is None)
    recheck = read.views(row["recheck_views"], row["first_row"] + len(views), last=True)
    failure = None if row["failure"] is None else Failure(item=item, media=media, **row["failure"])
    spans = row["recheck_spans"]
    directory = row["directory"]
    return ItemEvidence(
        item=item,
        directory=None if directory is None else read_name(directory, row["directory_b64"]),
        media=media,
        views=views,
        failure=failure,
        recheck_spans=None if spans is None else [(start, end) for start, end in spans],
        recheck=recheck,
    )


def _media(row: Mapping[str, Any]) -> Media:
    return Media(started=perf_counter(), **{**row, "unseen": tuple(row["unseen"])})


@dataclass(frozen=True, slots=True)
class _ViewReader:
    item: Item
    media: Media
    members: Sequence[StoredMember]
    vectors: Vectors

    def views(self, rows: Sequence[Mapping[str, Any]], first_row: int, *, last: bool) -> list[Evidence]:
        """Return the views; the last one ends the item if `last`."""
        end = len(rows) - 1
        return [
            self._view(row, first_row + number, last=last and number == end)
            for number, row in enumerate(rows)
        ]

    def _view(self, row: Mapping[str, Any], at: int, *, last: bool) -> Evidence:
        seen = self._seen(row, at)
        return Evidence(
            item=self.item,
            media=self.media,
            number=row["number"],
            time_s=row["time_s"],
            last=last,
            view=View(box=Box(*row["box"]), reading=row["reading"], scale=row["scale"]),
            seen=seen,
            forward_ms=dict.fromkeys(seen, 0.0),
            stand_in=row["stand_in"],
        )

    def _seen(self, row: Mapping[str, Any], at: int) -> dict[str, Seen]:
        labels, detections = iter(row["labels"]), iter(row["detections"])
        asked = row["members"]
        seen: dict[str, Seen] = {}
        for member in self.members:
            one: Seen | None
            if member.kind == "text-image":
                one = Embedding(vector=self.vectors[member.name][at].astype(np.float32))
            elif member.kind == "classifier":
                one = _label_scores(member, next(labels))
            else:
                one = _detections(next(detections))
            if one is not None and (asked is None or member.name in asked):
                seen[member.name] = one
        return seen


def _label_scores(member: StoredMember, scores: Sequence[float] | None) -> LabelScores | None:
    return None if scores is None else LabelScores(scores=dict(zip(member.labels or (), scores, strict=True)))


def _detections(found: Sequence[Mapping[str, Any]] | None) -> Detections | None:
    if found is None:
        return None
    boxed = (Detection(label=one["label"], score=one["score"], box=tuple(one["box"])) for one in found)
    return Detections(found=tuple(boxed))
