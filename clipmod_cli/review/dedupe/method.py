"""What makes two inputs copies of each other: the values of `--by`, and of `review --near`."""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Literal

from clipmod_cli.errors import UsageError

METHOD_HELP: Final = "sha256, pdq[:BITS] or embedding[:COSINE]"
PDQ_DISTANCE: Final = 31
"""Of 256 bits; what the makers of PDQ advise."""
MOST_PDQ_DISTANCE: Final = 90
"""Unlike pictures differ by 128 bits on average, and hardly ever by fewer than this."""
EMBEDDING_SIMILARITY: Final = 0.97


@dataclass(frozen=True, slots=True)
class DedupeMethod:
    """How inputs are compared.

    Attributes:
        limit: of `pdq` the most bits that near copies differ by; of `embedding` their least cosine.
    """

    kind: Literal["sha256", "pdq", "embedding"]
    limit: float = 0.0


def parse_method(text: str, option: str = "--by") -> DedupeMethod:
    """Return the method that the value of an option names; raises UsageError."""
    match text.strip().partition(":"):
        case "sha256", "", "":
            return DedupeMethod("sha256")
        case "pdq", _, number:
            if not number:
                return DedupeMethod("pdq", PDQ_DISTANCE)
            if number.isascii() and number.isdigit() and int(number) <= MOST_PDQ_DISTANCE:
                return DedupeMethod("pdq", int(number))
            raise UsageError(
                f"{option} pdq:{number} needs a whole number of bits from 0 to {MOST_PDQ_DISTANCE}"
            )
        case "embedding", _, number:
            if not number:
                return DedupeMethod("embedding", EMBEDDING_SIMILARITY)
            with suppress(ValueError):
                if math.isfinite(cosine := float(number)) and 0 < cosine <= 1:
                    return DedupeMethod("embedding", cosine)
            raise UsageError(f"{option} embedding:{number} needs a cosine above 0 and up to 1, as 0.97")
    raise UsageError(f"{option} must be {METHOD_HELP}, not {text!r}")
