"""One batch after the other is shown to what can look at frames."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from clipmod_cli.ensemble.ensemble import Measures
from clipmod_cli.ensemble.looks import Enough
from clipmod_cli.types import Evidence, Failure, Frame


def measure(
    seeing: Measures, batches: Iterable[Sequence[Frame | Failure]], enough: Enough | None = None
) -> Iterator[Evidence | Failure]:
    """Yield what is seen, each batch begun once the one before it was waited for."""
    for batch in batches:
        yield from seeing.begin(batch, enough)()
