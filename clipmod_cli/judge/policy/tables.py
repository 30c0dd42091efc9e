"""The tables of a policy file as pydantic models: keys, types and ranges, and sentences for what is wrong."""

from __future__ import annotations

import datetime as dt
import json
import re
import unicodedata
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, LiteralString

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)
from pydantic_core import PydanticCustomError

from clipmod_cli.errors import SpecError, did_you_mean
from clipmod_cli.judge.policy.expectations import EXPECTED_OUTCOMES, ExpectedOutcome
from clipmod_cli.judge.policy.tuning import PromisedRate
from clipmod_cli.judge.policy.values import OPENAI_CATEGORIES, Safety, Scoring
from clipmod_cli.models.backend import Backend
from clipmod_cli.models.registry import BACKENDS

MAX_QUOTED: Final = 60  # characters of a value in a message, which must stay one line

_ENDS_IN_WEIGHT = re.compile(r"\s*=\s*[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?\s*$")


def _must_be(words: LiteralString) -> WrapValidator:
    """Report a value of a wrong type or range as "must be `words`"; faults inside it keep theirs."""

    def check(value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
        try:
            return validate(value)
        except ValidationError as error:
            if any(detail["loc"] or detail["type"] == "value_error" for detail in error.errors()):
                raise
            raise PydanticCustomError("must_be", words) from None

    return WrapValidator(check)


def _check_name(text: str) -> str:
    if not is_printable_name(text):
        raise ValueError(f"{quoted(text)} has spaces around it or control characters in it")
    return text


def _check_template(text: str) -> str:
    if text.count("{}") != 1:
        raise ValueError(f"the template {quoted(text)} must have exactly one {{}} for the prompt")
    return text


def _is_parsed(backend: Backend, spec: str) -> bool:
    try:
        return backend.parse(spec).spec == spec
    except SpecError:
        return False


def _check_spec(spec: str) -> str:
    bare = _ENDS_IN_WEIGHT.sub("", spec)
    if bare != spec:
        raise ValueError(f"a label map is for a model without its weight: {quoted(bare)}, not {quoted(spec)}")
    backend = BACKENDS.get(spec.partition(":")[0])
    if spec in {"auto", "ensemble", "fallback"} or (backend and backend.kind == "text-image"):
        raise ValueError(f'{quoted(spec)} has no labels of its own: text-image models use "prompts"')
    if backend is None or not _is_parsed(backend, spec):
        named = [prefix for prefix, plain in BACKENDS.items() if _is_parsed(plain, prefix)]
        hint = f" (did you mean {quoted('hf:' + spec)}?)" if "/" in spec else did_you_mean(spec, named)
        raise ValueError(
            f"{quoted(spec)} is not a model with labels: use {', '.join(named)}, hf:OWNER/NAME, hf:PATH or "
            f"onnx:PATH{hint}"
        )
    return spec


def _check_openai(name: str) -> str:
    if name not in OPENAI_CATEGORIES:
        known = ", ".join(OPENAI_CATEGORIES)
        hint = did_you_mean(name, OPENAI_CATEGORIES)
        raise ValueError(f"OpenAI has no category {quoted(name)}{hint}; it has {known}")
    return name


def _check_outcomes(value: Any) -> tuple[Any, ...]:
    """Return one outcome, or a list of them, as a tuple."""
    outcomes = tuple(value) if isinstance(value, list) else (value,)
    if not outcomes or any(one not in EXPECTED_OUTCOMES for one in outcomes):
        raise PydanticCustomError("must_be", '"NSFW", "review", "Safe" or a list of them')
    return outcomes


_filled = Field(min_length=1)
_listed = Field(strict=False, min_length=1)  # TOML has lists, not tuples
_pair = Field(strict=False, min_length=2, max_length=2)
_table = _must_be("a table")

Text = Annotated[str, Field(pattern=r"\S"), _must_be("text")]
Texts = Annotated[tuple[Text, ...], _listed, _must_be("a list of texts")]
Name = Annotated[Text, AfterValidator(_check_name)]
Template = Annotated[Text, AfterValidator(_check_template)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False), _must_be("a number from 0 to 1")]
Count = Annotated[int, Field(ge=0), _must_be("a whole number")]
Spec = Annotated[str, AfterValidator(_check_spec)]
OpenaiCategories = Annotated[
    tuple[Annotated[str, AfterValidator(_check_openai)], ...], _listed, _must_be("a list of texts")
]
LabelTable = Annotated[dict[Spec, Texts], _filled, _must_be("a table of lists by model")]


class _Table(BaseModel):
    """A table of the file. Its defaults stand for keys left out; their values are those of `Policy`."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")


class CategoryTable(_Table):
    """One of `[[categories]]`."""

    name: Name
    safety: Annotated[Safety, _must_be('"SAFE" or "UNSAFE"')]
    label: Name = ""
    description: Annotated[str, _must_be("text")] = ""
    threshold: Share = 0
    review_margin: Share = 0
    otherwise: Annotated[bool, _must_be("true or false")] = False
    prompts: Texts = ()
    negatives: Texts = ()
    labels: LabelTable = {}
    head: Text = ""
    openai: OpenaiCategories = ()


class ThresholdTable(_Table):
    """`[thresholds]`: the NSFW threshold by sensitivity."""

    low: Share = 0
    medium: Share = 0
    high: Share = 0
    ultra: Share = 0


class VideoTable(_Table):
    """`[video]`: at most a day, because no accepted video is longer; a gap is longer than a film's frame."""

    persistence_s: Annotated[float, Field(ge=0, le=86_400), _must_be("a number from 0 to 86400")] = 0
    max_gap_s: Annotated[float, Field(ge=0.01, le=86_400), _must_be("a number from 0.01 to 86400")] = 0


class TunedModelTable(_Table):
    """One of `[[tuned.models]]`."""

    spec: Text
    revision: Text
    weight: Annotated[float, Field(gt=0, le=1), _must_be("a number over 0, at most 1")]


class PromiseTable(_Table):
    """One of `[[tuned.promises]]`."""

    category: Name | None = None
    threshold: Share
    rate: Annotated[PromisedRate, _must_be('"recall", "precision" or "flagged"')]
    target: Share
    delta: Share
    prevalence: Share | None = None
    bound: Share
    positives: Count
    inputs: Count


class CalibrationTable(_Table):
    """`[tuned.calibration]`; with a slope of 0 or less a higher score would have no higher probability."""

    kind: Annotated[Literal["platt"], _must_be('"platt"')]
    slope: Annotated[float, Field(gt=0, allow_inf_nan=False), _must_be("a number over 0")]
    intercept: Annotated[float, Field(allow_inf_nan=False), _must_be("a number")]
    prevalence: Annotated[float, Field(gt=0, lt=1), _must_be("a number over 0 and under 1")] | None = None
    positives: Count
    negatives: Count


class TunedTable(_Table):
    """`[tuned]`, as `clipmod tune` writes it."""

    base_hash: Text
    date: Annotated[dt.date, _must_be("a date")]
    labels_sha256: Text | None = None
    calibration: Annotated[CalibrationTable, _table] | None = None
    models: Annotated[list[Annotated[TunedModelTable, _table]], _filled, _must_be("a list of tables")]
    promises: Annotated[list[Annotated[PromiseTable, _table]], _filled, _must_be("a list of tables")]


class ExpectationTable(_Table):
    """One of `[[tests]]`."""

    picture: Text
    decision: Annotated[tuple[ExpectedOutcome, ...], PlainValidator(_check_outcomes)] = ()
    category: Name = ""
    matched: Annotated[tuple[Name, ...], Field(strict=False), _must_be("a list of texts")] = ()
    score_at_least: Share = 0
    score_at_most: Share = 0


class PolicyTable(_Table):
    """The whole file."""

    name: Name
    categories: Annotated[
        list[Annotated[CategoryTable, _table]], _must_be("a list of tables ([[categories]])")
    ]
    description: Annotated[str, _must_be("text")] = ""
    templates: Annotated[tuple[Template, ...], _listed, _must_be("a list of texts")] = ()
    scoring: Annotated[Scoring, _must_be('"softmax" or "independent"')] = "softmax"
    agreement_threshold: Share = 0
    review_margin: Share = 0
    min_coverage: Share = 0
    thresholds: Annotated[ThresholdTable, _table] = ThresholdTable()
    video: Annotated[VideoTable, _table] = VideoTable()
    not_judged: LabelTable = {}
    tuned: Annotated[TunedTable, _table] | None = None
    tests: Annotated[list[Annotated[ExpectationTable, _table]], _must_be("a list of tables ([[tests]])")] = []


TABLES: Final[Mapping[str | int, type[BaseModel]]] = {
    "categories": CategoryTable,
    "thresholds": ThresholdTable,
    "video": VideoTable,
    "tuned": TunedTable,
    "tests": ExpectationTable,
}
"""By their names in a policy."""


def quoted(text: str) -> str:
    """Return text in double quotes, on one line, without control characters, and not too long."""
    short = text if len(text) <= MAX_QUOTED else text[: MAX_QUOTED - 1] + "…"
    return json.dumps(short, ensure_ascii=False).replace("\x7f", "\\u007f")


def is_printable_name(text: str) -> bool:
    """Return whether a name is not blank and has no spaces around it and no control characters."""
    return text == text.strip() != "" and not any(unicodedata.category(sign) == "Cc" for sign in text)


def normalise(text: str) -> str:
    """Return a text as CLIP's tokenizer takes it: lower case, single spaces."""
    return " ".join(text.split()).lower()
