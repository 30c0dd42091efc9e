"""What `/openapi.json` says of every endpoint: how a key is sent, and which refusals there may be.

Endpoints describe themselves; this adds what the layers around them answer.
"""

from __future__ import annotations

from typing import Any, Final

from fastapi import FastAPI

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
UNKNOWN: Final = {"401": "Keys are asked for, and it carries none that is valid"}
CHANGING: Final = {
    "403": "A page of another origin sent it",
    "503": "The service is busy, or a model is missing",
    "504": "It took longer than the deadline",
}
WITH_BODY: Final = {
    "408": "Its body came too slowly",
    "413": "It, or something in it, is too large",
}
"""What is answered besides an endpoint's own: to any request, to those without a key, to those that are
not only reading, and to those that send something."""

FORMS: Final = frozenset({"multipart/form-data", "application/x-www-form-urlencoded"})
AGAIN: Final = frozenset({"429", "503"})


def describe(app: FastAPI, *, keys: bool) -> None:
    """Have the description tell what the layers around the endpoints answer; and that `keys` are needed."""
    plain = app.openapi
    told: list[dict[str, Any]] = []

    def described() -> dict[str, Any]:
        if not told:
            told.append(_complete(plain(), keys=keys))
        return told[0]

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
    """Say of a form what its types do not: it has no null, and a list of nothing is a field left out."""
    for kind, told in operation.get("requestBody", {}).get("content", {}).items():
        if kind not in FORMS:
            continue
        schema = schemas.get(told["schema"].get("$ref", "").rpartition("/")[2], told["schema"])
        for field in schema.get("properties", {}).values():
            kinds = [one for one in field.pop("anyOf", []) if one.get("type") != "null"]
            field.update(*kinds if len(kinds) == 1 else [{"anyOf": kinds}] if kinds else [])
            if field.get("type") == "array":
                field.setdefault("minItems", 1)


def _add_refusals(responses: dict[str, Any], refusals: dict[str, str]) -> None:
    """Say what refusals there are; where an endpoint describes one itself, only that it is JSON."""
    for status in sorted({*responses, *refusals}):
        told = responses.pop(status, {})
        if status < "400" or "application/json" in told.get("content", {}):
            responses[status] = told
        else:
            responses[status] = {
                **_answer(status, refusals.get(status, "")),
                **told,
                "content": PROBLEM_CONTENT,
            }


def _refusals(path: str, method: str, operation: dict[str, Any]) -> dict[str, str]:
    return {
        **ALWAYS,
        **({} if path in PROBES else UNKNOWN),
        **({} if method == "get" else CHANGING),
        **(WITH_BODY if "requestBody" in operation else {}),
    }


def _answer(status: str, text: str) -> dict[str, Any]:
    return {"description": text, **({"headers": WAIT} if status in AGAIN else {})}
