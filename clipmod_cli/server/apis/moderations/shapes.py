"""Requests and answers of `/v1/moderations` and `/v1/models`, for `/openapi.json` and for answering.

Fields that OpenAI's answers lack stand last.
"""

from __future__ import annotations

from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from clipmod_cli.judge.policy.values import OPENAI_CATEGORIES
from clipmod_cli.records.parts import BankMatchRow
from clipmod_cli.results import DecidedBy
from clipmod_cli.server.operations.openapi import WAIT
from clipmod_cli.types import Decision, ReviewReason

MODEL_PATTERN: Final = r"^(omni-moderation|clipmod).*"
"""Names in a request: OpenAI's own for pictures, so that its clients work unchanged, and this service's."""

URL_CHARS: Final = 8192
"""Of a URL that is no `data:` URL."""


def _like(example: Any) -> ConfigDict:
    return ConfigDict(json_schema_extra={"example": example}, allow_inf_nan=False)


class ModerationError(BaseModel):
    """What is at fault."""

    message: str = Field(description="A sentence for a person")
    type: str = Field(examples=["invalid_request_error", "rate_limit_error", "server_error"])
    param: str | None = Field(description="Where in the request", examples=["input[0].image_url.url"])
    code: str | None = Field(description="OpenAI's code", examples=["invalid_image_format"])
    reason: str | None = Field(default=None, description="clipmod's error code, of a closed list")


class ModerationProblem(BaseModel):
    """Any error."""

    error: ModerationError


class ModeratedImage(BaseModel):
    """One picture of the input."""

    flagged: bool
    final_decision: Decision
    ensemble_category: str = Field(description="The most probable category of the policy")
    unsafe_score: float = Field(description="NSFW at or over the policy's threshold, 0..1")
    needs_review: bool
    review_reasons: list[ReviewReason]
    degraded: bool = Field(description="Judged by fewer models than configured")
    judged_by: str = Field(description="The panel of models")
    sha256: str
    decided_by: DecidedBy = Field(description="`models`, or a bank of hashes, `deny` or `allow`")
    matches: list[BankMatchRow] | None = Field(default=None, description="The entries of the banks")


class ImageModeration(BaseModel):
    """The result of one input, all of its pictures together."""

    flagged: bool = Field(
        description="NSFW, or to be reviewed (not with `--unseen safe`); at least one category is then true"
    )
    categories: dict[str, bool] = Field(
        description="OpenAI's, and the policy's UNSAFE categories that are none of these, by their own names"
    )
    category_scores: dict[str, float] = Field(description="0..1, the highest of all pictures")
    category_applied_input_types: dict[str, list[Literal["image"]]] = Field(
        description="Empty where the policy or its models do not look"
    )
    needs_review: bool = Field(description="A person should look at a picture")
    review_reasons: list[ReviewReason]
    unsafe_score: float
    threshold: float
    policy: str
    policy_hash: str = Field(description="Identifies the content of the policy")
    ignored_input_types: list[Literal["text"]] = Field(description="What stood beside the pictures unread")
    images: list[ModeratedImage] = Field(description="One for each picture, in order")


_SEEN: Final = {"sexual": 0.98}
_EXAMPLE: Final = {
    "id": "modr-0d1d2f0c6f7b4f0c8d1c0f6a1b2c3d4e",
    "model": "clipmod/triple_ensemble",
    "results": [
        {
            "flagged": True,
            "categories": {name: name in _SEEN for name in OPENAI_CATEGORIES},
            "category_scores": {name: _SEEN.get(name, 0.0) for name in OPENAI_CATEGORIES},
            "category_applied_input_types": {
                name: ["image"] if name in _SEEN else [] for name in OPENAI_CATEGORIES
            },
            "needs_review": False,
            "review_reasons": [],
            "unsafe_score": 0.98,
            "threshold": 0.5,
            "policy": "nsfw",
            "policy_hash": "f498a04d",
            "ignored_input_types": [],
            "images": [
                {
                    "flagged": True,
                    "final_decision": "NSFW",
                    "ensemble_category": "explicit",
                    "unsafe_score": 0.98,
                    "needs_review": False,
                    "review_reasons": [],
                    "degraded": False,
                    "judged_by": "triple_ensemble",
                    "sha256": "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824",
                    "decided_by": "models",
                    "matches": None,
                }
            ],
        }
    ],
}


class Moderations(BaseModel):
    """The answer of `/v1/moderations`."""

    model_config = _like(_EXAMPLE)

    id: str = Field(description="`modr-` and the request's id, as in `X-Request-ID` and the log")
    model: str = Field(description="Who judged: `clipmod/` and the panel of models")
    results: list[ImageModeration] = Field(description="One: a list of parts is one input")


class ModelEntry(BaseModel):
    """A model that judges."""

    id: str
    object: Literal["model"] = "model"
    created: int = Field(description="When this service started, seconds since 1970")
    owned_by: str = "clipmod"


class ModelList(BaseModel):
    """The answer of `/v1/models`."""

    model_config = _like(
        {
            "object": "list",
            "data": [
                {
                    "id": "clipmod/triple_ensemble",
                    "object": "model",
                    "created": 1767225600,
                    "owned_by": "clipmod",
                }
            ],
        }
    )

    object: Literal["list"] = "list"
    data: list[ModelEntry]


_TEXT_PART: Final = {
    "type": "object",
    "required": ["type", "text"],
    "properties": {"type": {"const": "text"}, "text": {"type": "string"}},
    "additionalProperties": False,
    "description": "400, unless the service was started with --v1-ignore-text and a picture stands beside it",
}
_IMAGE_PART: Final = {
    "type": "object",
    "required": ["type", "image_url"],
    "properties": {
        "type": {"const": "image_url"},
        "image_url": {
            "type": "object",
            "required": ["url"],
            "properties": {
                "url": {"type": "string", "format": "uri", "description": "https, http, or data: with base64"}
            },
            "additionalProperties": False,
        },
    },
    "additionalProperties": False,
}
REQUEST: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "title": "ModerationRequest",
                    "required": ["input"],
                    "additionalProperties": False,
                    "properties": {
                        "input": {
                            "type": "array",
                            "minItems": 1,
                            "items": {"oneOf": [_IMAGE_PART, _TEXT_PART]},
                            "description": "One input; its pictures have one result. Text is not judged",
                        },
                        "model": {
                            "type": "string",
                            "pattern": MODEL_PATTERN,
                            "default": "omni-moderation-latest",
                            "description": "Any of these; the answer names the one that judged",
                        },
                    },
                },
                "example": {
                    "model": "omni-moderation-latest",
                    "input": [{"type": "image_url", "image_url": {"url": "https://example.com/picture.jpg"}}],
                },
            }
        },
    }
}
"""The body, which is read without FastAPI: see `reading`."""

_DESCRIPTIONS: Final = {
    400: "The request or a picture is at fault, or it is text; or it calls the service by another name",
    401: "A valid API key is required",
    403: "A page of another origin sent it",
    404: "The model is not known",
    408: "Its body came too slowly",
    413: "It, or a picture in it, is too large",
    415: "Its body is not JSON",
    422: "A query parameter is not of its kind",
    429: "Too many requests",
    500: "The service, or a model, is at fault",
    503: "The service is busy, or out of memory",
    504: "It took longer than the deadline",
    507: "The disk is full",
}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the descriptions of errors; default: of all."""
    return {
        status: {
            "model": ModerationProblem,
            "description": _DESCRIPTIONS[status],
            **({"headers": WAIT} if status in {429, 503} else {}),
        }
        for status in statuses or _DESCRIPTIONS
    }
