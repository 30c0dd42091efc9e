"""The table of HTTP interfaces. A new one is a module with a router and one entry here.

The application, the description of the API, the request rows of `/stats` and the capacity check all read
this table; nothing else lists the interfaces.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from fastapi import APIRouter
from starlette.types import ASGIApp

from clipmod_cli.server.apis import ensemble
from clipmod_cli.server.apis.classes import router as classes
from clipmod_cli.server.apis.classifier import router as classifier
from clipmod_cli.server.apis.moderations import router as moderations
from clipmod_cli.server.apis.moderations.errors import OpenaiErrorMiddleware
from clipmod_cli.settings.definition import Settings


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """One interface.

    Attributes:
        name: its tag in `/openapi.json`.
        description: of the tag.
        router: its endpoints.
        judging_paths: path prefixes of the endpoints that judge. Requests to these are counted in
            `/stats`, and a POST is refused with 503 while the service is full.
        make_state: returns objects that live as long as the application, as attributes of
            `request.state`; raises SettingsError for settings that it cannot use.
        layer: a layer around all others that answer, for errors in a shape of its own.
    """

    name: str
    description: str
    router: APIRouter
    judging_paths: tuple[str, ...]
    make_state: Callable[[Settings], Mapping[str, object]] = lambda _settings: {}
    layer: Callable[[ASGIApp], ASGIApp] | None = None


DIALECTS: Final = (
    Dialect(
        name="ensemble",
        description="The ensemble API: verdicts with the scores of every model.",
        router=ensemble.router,
        judging_paths=("/predict/",),
    ),
    Dialect(
        name="classifier",
        description="Any allowed image classifier: pictures, animations, videos.",
        router=classifier.router,
        judging_paths=("/api/",),
        make_state=classifier.make_state,
    ),
    Dialect(
        name="classes",
        description="The caller's own classes, by a text-image model.",
        router=classes.router,
        judging_paths=("/classify",),
        make_state=classes.make_state,
    ),
    Dialect(
        name="moderations",
        description="OpenAI's moderation call, for pictures.",
        router=moderations.router,
        judging_paths=("/v1/moderations",),
        make_state=moderations.make_state,
        layer=OpenaiErrorMiddleware,
    ),
)
