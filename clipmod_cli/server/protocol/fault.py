"""A request that is not valid HTTP, as a value: the connection finds it, the application answers it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

SCOPE_KEY: Final = "clipmod.protocol_fault"
"""In the scope of a request that the connection refuses; it has no path and no headers."""


@dataclass(frozen=True, slots=True)
class ProtocolFault:
    """Why a request is refused: the status of the answer, and its text."""

    status: int
    detail: str
