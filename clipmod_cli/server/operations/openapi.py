"""Adds to `/openapi.json` what the layers around the endpoints answer: keys and refusals."""

from __future__ import annotations

from typing import Any, Final

from fastapi import FastAPI

from clipmod_cli.server.problems import FORMS
from clipmod_cli.server.request_info import PROBES

TAGS: Final = [
    {"name": "operations", "description": "For those who run the service."},
    {"name": "probes", "description": "For what starts and watches the service; open without a key."},
]

SCHEMES: Final = {
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    "bearer": {"type": "http", "scheme": "bearer"},
    "session": {
        "type": "apiKey",
        "in": "cookie",
        "name": "clipmod_session",
        "description": "What /ui/login sets.",
    },
}


PROBLEM: Final = {
    "title": "Problem",
    "description": "Every error's answer.",
    "type": "object",
    "required": ["detail"],
    "properties": {"detail": {"type": "string", "description": "What happened, and what to do"}},
}

PROBLEM_CONTENT: Final = {"application/json": {"schema": {"$ref": "#/components/schemas/Problem"}}}

WAIT: Final = {"Retry-After": {"description": "Seconds to wait", "schema": {"type": "integer", "minimum": 1}}}

ALWAYS: Final = {
    "400": "The request, or something in it, is wrong; or it calls the service by a name that is not its own",
    "429": "Too many requests",
    "500": "The service, or a model, is at fault",
}
UNKNOWN: Final = {"401": "A valid API key is required"}
CHANGING: Final = {
    "403": "A page of another origin sent it",
    "503": "The service is busy, or a model is missing",
    "504": "It took longer than the deadline",
}
WITH_BODY: Final = {
    "408": "Its body came too slowly",
    "413": "It, or something in it, is too large",
    "415": "It is compressed, or not of the kind that the endpoint takes",
}
"""Answers beside an endpoint's own: to any request, without a key, to other methods than GET, and to
requests with a body."""

AGAIN: Final = frozenset({"429", "503"})


def describe(app: FastAPI, *, keys: bool) -> None:
    """Complete the description with refusals, and with security schemes if `keys` are required."""
    plain = app.openapi
    cached: list[dict[str, Any]] = []

    def described() -> dict[str, Any]:
        if not cached:
            cached.append(_complete(plain(), keys=keys))
        return cached[0]

    app.openapi = described  # type: ignore[method-assign]


def _complete(document: dict[str, Any], *, keys: bool) -> dict[str, Any]:
    parts = document.setdefault("components", {})
    parts.setdefault("schemas", {})["Problem"] = PROBLEM
    if keys:
        parts["securitySchemes"] = SCHEMES
        document["security"] = [{name: []} for name in SCHEMES]
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            if keys and path in PROBES:
                operation["security"] = []
            _add_refusals(operation["responses"], _refusals(path, method, operation))
            _mend_form(operation, parts["schemas"])
    return document


def _mend_form(operation: dict[str, Any], schemas: dict[str, Any]) -> None:
    """Correct the description of a form: it has no null and no empty lists, and its files are binary."""
    for kind, described in operation.get("requestBody", {}).get("content", {}).items():
        if kind not in FORMS:
            continue
        schema = schemas.get(described["schema"].get("$ref", "").rpartition("/")[2], described["schema"])
        for field in schema.get("properties", {}).values():
            kinds = [one for one in field.pop("anyOf", []) if one.get("type") != "null"]
            field.update(*kinds if len(kinds) == 1 else [{"anyOf": kinds}] if kinds else [])
            if field.get("type") == "array":
                field.setdefault("minItems", 1)
            for one in (field, field.get("items", {})):
                if one.pop("contentMediaType", None) is not None:
                    one["format"] = "binary"  # as older generators of clients know it


def _add_refusals(responses: dict[str, Any], refusals: dict[str, str]) -> None:
    """Add the refusals; those that an endpoint describes itself get their JSON content."""
    for status in sorted({*responses, *refusals}):
        described = responses.pop(status, {})
        if status < "400" or "application/json" in described.get("content", {}):
            responses[status] = described
        else:
            headers = {"headers": WAIT} if status in AGAIN else {}
            text = {"description": refusals.get(status, "")}
            responses[status] = {**text, **headers, **described, "content": PROBLEM_CONTENT}


def _refusals(path: str, method: str, operation: dict[str, Any]) -> dict[str, str]:
    return {
        **ALWAYS,
        **({} if path in PROBES else UNKNOWN),
        **({} if method == "get" else CHANGING),
        **(WITH_BODY if "requestBody" in operation else {}),
    }
