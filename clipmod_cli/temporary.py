"""The temporary files that items bring along: removed once nobody will look at them again.

A film may be looked at twice, so it is not for decoding to remove it. Who makes such files is
`clipmod_cli.sources`.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from clipmod_cli.types import Failure, Item


class Temporary:
    """The files of the items of one run. Safe to use from any thread; what is left goes at its end."""

    def __init__(self) -> None:
        self._paths: set[str] = set()
        self._lock = threading.Lock()
        self._over = False

    def watch(self, items: Iterable[Item | Failure]) -> Iterator[Item | Failure]:
        """Yield the items, and take over the files that they bring."""
        for item in items:
            if isinstance(item, Item) and item.spilled is not None and not self._take(item.spilled):
                return
            yield item

    def done(self, item: Item) -> None:
        """Remove the item's file, if it brought one."""
        if item.spilled is not None:
            with self._lock:
                self._paths.discard(item.spilled)
            _remove(item.spilled)

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove all that is left: of items that were brought and never judged."""
        with self._lock:
            self._over = True
            left, self._paths = self._paths, set()
        for path in left:
            _remove(path)

    def _take(self, path: str) -> bool:
        with self._lock:
            if not self._over:
                self._paths.add(path)
                return True
        _remove(path)  # nobody judges any more
        return False


def _remove(path: str) -> None:
    with contextlib.suppress(OSError):
        Path(path).unlink()
