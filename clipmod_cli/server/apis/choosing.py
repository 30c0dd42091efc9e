"""What a request may choose itself where the operator allows it: policy, threshold and coverage.

`?policy=nsfw&threshold=0.4&coverage=centre`. What is not allowed is refused and never ignored: a client that
believes in a stricter threshold must not get the answer of another one.
"""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Final, Literal

from fastapi import Depends, Query, Request

from clipmod_cli.decode.limits import Coverage
from clipmod_cli.server.panels import RequestPanels
from clipmod_cli.server.problems import problem
from clipmod_cli.server.service import Service
from clipmod_cli.server.state import Configured, Served
from clipmod_cli.settings.definition import Settings

NAMES: Final = ("policy", "threshold", "coverage")
SHOWN_CHARS: Final = 100
"""Of a client's word in a refusal."""

PolicyName = Annotated[
    str | None, Query(description="Judge by this policy; the operator has to allow it (--allow-policy)")
]
Threshold = Annotated[
    float | None,
    Query(
        ge=0, le=1, allow_inf_nan=False,
        description="NSFW from this unsafe score on; the operator has to allow it (--allow-threshold)",
    ),
]  # fmt: skip
CoverageName = Annotated[
    Literal["full", "centre"] | None,
    Query(
        description="Show the models all of a picture or its middle; the operator has to allow it "
        "(--allow-coverage)"
    ),
]


async def _chosen(
    request: Request,
    service: Served,
    settings: Configured,
    policy: PolicyName = None,
    threshold: Threshold = None,
    coverage: CoverageName = None,
) -> RequestPanels:
    """Return what judges the request.

    Raises:
        HTTPException: 400, it asks for what is not allowed or not known here.
    """
    _check_names(request)
    panels = service.default if policy is None else _of_policy(policy, service)
    if threshold is not None:
        _check_allowed("threshold", settings, allowed=settings.allow_threshold)
        panels = panels.with_threshold(threshold)
    if coverage is not None:
        _check_allowed("coverage", settings, allowed=settings.allow_coverage)
        panels = panels.with_coverage(Coverage(full=coverage == "full"))
    return panels


Chosen = Annotated[RequestPanels, Depends(_chosen)]
"""What judges the request, as it asks in its query."""


def policy_names(service: Service) -> list[str]:
    """Return the names of the policies that requests may ask for, the default first."""
    return [service.panel.policy.name, *service.by_policy]


def allowed_names(settings: Settings) -> list[str]:
    """Return which query parameters are allowed; the default policy may always be named."""
    allowed = {"policy": True, "threshold": settings.allow_threshold, "coverage": settings.allow_coverage}
    return [name for name in NAMES if allowed[name]]


def _check_names(request: Request) -> None:
    counts = Counter(name for name, _ in request.query_params.multi_items())
    if strange := [name for name in counts if name not in NAMES]:
        raise problem(
            400, f"Unknown query parameter: {strange[0][:SHOWN_CHARS]!r}. There are: {', '.join(NAMES)}"
        )
    if twice := [name for name, count in counts.items() if count > 1]:
        raise problem(400, f"The query parameter {twice[0]} is given more than once")


def _of_policy(name: str, service: Service) -> RequestPanels:
    if name == service.panel.policy.name:
        return service.default
    if name not in service.by_policy:
        allowed = ", ".join(policy_names(service))
        raise problem(400, f"The policy {name[:SHOWN_CHARS]!r} is not allowed here. Allowed: {allowed}")
    return service.by_policy[name]


def _check_allowed(name: str, settings: Settings, *, allowed: bool) -> None:
    if not allowed:
        names = ", ".join(allowed_names(settings))
        raise problem(400, f"Requests cannot choose the {name} here. Allowed query parameters: {names}")
