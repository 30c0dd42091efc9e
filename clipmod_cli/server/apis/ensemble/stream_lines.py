"""The lines of `/predict/streaming`: `data: `, JSON, and an empty line."""

from __future__ import annotations

from pydantic import BaseModel

from clipmod_cli.server.apis.ensemble.answers import Sum, prediction_fields, sentence_of, shown
from clipmod_cli.server.apis.ensemble.judging import Keeper
from clipmod_cli.server.apis.ensemble.shapes import (
    Progress,
    StreamedError,
    StreamedPrediction,
    StreamedSummary,
)
from clipmod_cli.server.service import Judged
from clipmod_cli.types import Failure


class Lines:
    """Makes the lines of one request, and sums them up.

    Attributes:
        arrived: how many files have come so far.
        all_arrived: no further one follows.
    """

    def __init__(self, keeper: Keeper) -> None:
        """Begin with nothing."""
        self.arrived = 0
        self.all_arrived = False
        self._keeper = keeper
        self._sum = Sum()
        self._current = 0

    def line_of(self, judged: Judged) -> bytes:
        """Return the line of a picture that was judged, or could not be."""
        self._current += 1
        if isinstance(judged.result, Failure):
            return self._failed(judged.result)
        self._sum.add(judged.record)
        fields = prediction_fields(judged, self._keeper.place(judged))
        return _line(StreamedPrediction(**fields, progress=self._progress()))

    def refusal(self, detail: str) -> bytes:
        """Return the line of a request that could not be read to its end."""
        self._keeper.tally.error = detail
        self._sum.errors.append(detail)
        return _line(StreamedError(image=None, error=detail, progress=self._progress()))

    def summary(self) -> bytes:
        """Return the last line."""
        total = self._sum
        return _line(
            StreamedSummary(
                total_processed=total.images,
                nsfw_count=total.nsfw,
                safe_count=total.safe,
                total_time_ms=round(total.total_ms, 3),
                average_time_per_image_ms=total.mean_ms,
                errors=total.errors or None,
            )
        )

    def _failed(self, failure: Failure) -> bytes:
        name, sentence = shown(failure.item.source), sentence_of(failure)
        self._keeper.tally.error = failure.code
        self._sum.errors.append(f"Error processing {name}: {sentence}")
        return _line(StreamedError(image=name, error=sentence, progress=self._progress()))

    def _progress(self) -> Progress:
        final, total = self.all_arrived, self.arrived
        return Progress(current=self._current, total=max(total, self._current), total_is_final=final)


def _line(value: BaseModel) -> bytes:
    return b"data: " + value.model_dump_json().encode() + b"\n\n"
