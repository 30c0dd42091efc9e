"""What the endpoints of a review work on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from clipmod_cli.review.queue.pictures import ReviewPictures
from clipmod_cli.review.queue.session import ReviewSession


@dataclass(frozen=True, slots=True)
class ReviewCategory:
    """A category of the policy, and what an input of it is."""

    name: str
    label: Literal["unsafe", "safe"]


@dataclass(frozen=True, slots=True)
class ReviewContext:
    """One review.

    Attributes:
        categories: that can be chosen, in the order of the keys 1 to 9.
        finish: ends the command.
    """

    session: ReviewSession
    pictures: ReviewPictures
    categories: tuple[ReviewCategory, ...]
    finish: Callable[[], None]
