"""Lines on their way from the thread that judges to the task that sends; a slow client holds up nobody.

What waits lies in the request's pile, so that memory does not grow with it.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque

from anyio import to_thread

from clipmod_cli.server.forms.pile import Piece, Pile


class Outbox:
    """A queue of lines from threads to one task. Made inside the event loop that takes from it."""

    def __init__(self, pile: Pile) -> None:
        """Keep what waits in this pile."""
        self._pile = pile
        self._loop = asyncio.get_running_loop()
        self._ready = asyncio.Event()
        self._lock = threading.Lock()
        self._waiting: deque[Piece] = deque()
        self._ended = False
        self._begun = False

    @property
    def begun(self) -> bool:
        """Whether any line was ever put in."""
        return self._begun

    def put(self, line: bytes) -> None:
        """Add a line; blocks no longer than a write to a file.

        Raises:
            OSError: the temporary folder takes no more.
        """
        piece = self._pile.put(line)
        with self._lock:
            self._waiting.append(piece)
            self._begun = True
        self._wake()

    def end(self) -> None:
        """Say that no further line follows."""
        with self._lock:
            self._ended = True
        self._wake()

    async def take(self) -> bytes | None:
        """Wait for the next line; None once there are no more."""
        while True:
            with self._lock:
                piece = self._waiting.popleft() if self._waiting else None
                ended = self._ended
                if piece is None:
                    self._ready.clear()
            if piece is not None:
                return await self._read(piece)
            if ended:
                return None
            await self._ready.wait()

    async def _read(self, piece: Piece) -> bytes:
        if isinstance(piece, bytes):
            self._pile.drop([piece])
            return piece
        return await to_thread.run_sync(self._pile.get, [piece])

    def _wake(self) -> None:
        # where nobody takes any more the loop may be closed, and then nobody is to be woken
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._ready.set)
