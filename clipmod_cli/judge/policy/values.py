"""A policy as frozen values, and which of its categories a model can see. Reads and checks nothing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, TypeAlias, get_args

from clipmod_cli.errors import UsageError
from clipmod_cli.judge.policy.expectations import PolicyTest
from clipmod_cli.judge.policy.heads import Head
from clipmod_cli.judge.policy.tuning import Tuning
from clipmod_cli.models.registry import BACKENDS

Safety: TypeAlias = Literal["SAFE", "UNSAFE"]
Sensitivity: TypeAlias = Literal["low", "medium", "high", "ultra"]
Scoring: TypeAlias = Literal["softmax", "independent"]
OpenaiCategory: TypeAlias = Literal[
    "harassment", "harassment/threatening", "hate", "hate/threatening", "illicit", "illicit/violent",
    "self-harm", "self-harm/intent", "self-harm/instructions", "sexual", "sexual/minors", "violence",
    "violence/graphic",
]  # fmt: skip
OPENAI_CATEGORIES: Final[tuple[OpenaiCategory, ...]] = get_args(OpenaiCategory)
"""The categories of OpenAI's moderation call."""

DIGITS: Final = 6
"""Of scores, which are rounded before they are compared: so a record says itself why it was decided so."""

DEFAULT_THRESHOLDS: Final[Mapping[Sensitivity, float]] = {
    "low": 0.7,
    "medium": 0.5,
    "high": 0.35,
    "ultra": 0.2,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Category:
    """A class that an image can be put into.

    Attributes:
        label: its name for people; the name with spaces if none is given.
        threshold: of an UNSAFE category: its own score of at least this is NSFW, whatever the unsafe score.
        review_margin: a score of its own this near to that threshold needs review; None for the policy's.
        otherwise: whether the category is taken where a detector finds nothing.
        prompts: texts for text-image models.
        negatives: look-alikes of an UNSAFE category, as texts: under independent scoring it must beat them.
        labels: by model spec, which of that model's own labels count as this category.
        head: in place of prompts, what was learnt of it from labels.
        openai: of an UNSAFE category: which of OpenAI's categories it is in answers of `/v1/moderations`.
    """

    name: str
    safety: Safety
    label: str = ""
    description: str = ""
    threshold: float | None = None
    review_margin: float | None = None
    otherwise: bool = False
    prompts: tuple[str, ...] = ()
    negatives: tuple[str, ...] = ()
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    head: Head | None = None
    openai: tuple[OpenaiCategory, ...] = ()

    def __post_init__(self) -> None:
        """Set the default label."""
        if not self.label:
            object.__setattr__(self, "label", self.name.replace("_", " ").strip() or self.name)

    def is_seen_by(self, spec: str, *, text_image: bool) -> bool:
        """Return whether a model of this spec (without weight) can give evidence for the category."""
        if not text_image:
            return bool(self.labels.get(spec))
        return bool(self.prompts) or (self.head is not None and self.head.of_model(spec) is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class CategoryThreshold:
    """The threshold of one UNSAFE category, beside that of the unsafe score.

    Attributes:
        index: of the category in its policy.
        band: scores too near to the threshold, from the first to the second; None for none.
    """

    index: int
    name: str
    threshold: float
    band: tuple[float, float] | None


def review_band(threshold: float, margin: float) -> tuple[float, float] | None:
    """Return the scores within `margin` of a threshold, from the first to the second; None for none."""
    return (round(threshold - margin, DIGITS), round(threshold + margin, DIGITS)) if margin else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Categories, and from which unsafe score on an image is NSFW.

    Attributes:
        templates: sentences with one `{}` each, into which every prompt and negative is put.
        scoring: whether categories share one probability, or each UNSAFE one is scored as if it were the only
            one (docs/policies.md).
        agreement_threshold: less agreement of the models than this needs review.
        review_margin: an unsafe score this near to the threshold in force needs review.
        min_coverage: a smaller share of the displayed pixels shown to the models needs review.
        thresholds: the NSFW threshold by sensitivity.
        persistence_s: in a video, a shorter hit than this does not decide, but needs review.
        max_gap_s: a longer time of a video or animation without a look needs review, in seconds.
        not_judged: by spec of a classifier, which of its labels are known and belong to no category.
        categories: from mild to severe.
        text: the TOML that it was read from; empty if it was not.
        folder: the folder of the file that it was read from, absolute; paths in it are relative to that.
        tuned: where its thresholds come from, if `clipmod tune` found them.
        tests: what results of pictures must be; they change none.
    """

    name: str
    categories: tuple[Category, ...]
    description: str = ""
    templates: tuple[str, ...] = ("{}",)
    scoring: Scoring = "softmax"
    agreement_threshold: float = 0.7
    review_margin: float = 0.1
    min_coverage: float = 0.9
    thresholds: Mapping[Sensitivity, float] = field(default_factory=lambda: dict(DEFAULT_THRESHOLDS))
    persistence_s: float = 0.0
    max_gap_s: float = 10.0
    not_judged: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    text: str = field(default="", compare=False, repr=False)
    folder: str | None = field(default=None, compare=False, repr=False)
    tuned: Tuning | None = None
    tests: tuple[PolicyTest, ...] = ()

    def review_band(self, threshold: float) -> tuple[float, float] | None:
        """Return the unsafe scores too near to the threshold, from the first to the second; None for none."""
        return review_band(threshold, self.review_margin) if self.unsafe else None

    @property
    def category_thresholds(self) -> tuple[CategoryThreshold, ...]:
        """The thresholds of single categories, from mild to severe."""
        margins = [
            self.review_margin if c.review_margin is None else c.review_margin for c in self.categories
        ]
        return tuple(
            CategoryThreshold(
                index=i, name=c.name, threshold=c.threshold, band=review_band(c.threshold, margins[i])
            )
            for i, c in enumerate(self.categories)
            if c.safety == "UNSAFE" and c.threshold is not None
        )

    def with_tuning(self, tuned: Tuning) -> Policy:
        """Return the policy with tuned thresholds; that of the unsafe score holds for all sensitivities."""
        own = {one.category: one.threshold for one in tuned.promises}
        thresholds = self.thresholds if None not in own else dict.fromkeys(self.thresholds, own[None])
        categories = tuple(replace(c, threshold=own[c.name]) if c.name in own else c for c in self.categories)
        return replace(self, thresholds=thresholds, categories=categories, tuned=tuned)

    @property
    def unsafe(self) -> tuple[str, ...]:
        """The names of the UNSAFE categories, from mild to severe."""
        return tuple(c.name for c in self.categories if c.safety == "UNSAFE")

    @property
    def is_independent(self) -> bool:
        """Whether UNSAFE categories are scored one by one."""
        return self.scoring == "independent"

    @property
    def hash(self) -> str:
        """Eight hex digits of a SHA-256 over everything that can change a verdict or its probability.

        Names, labels and descriptions for people, comments, `not_judged`, `openai`, `tests`, and the order of
        prompts, templates and mapped labels are left out; the order of categories is not.
        """
        categories = [
            {
                "name": c.name,
                "safety": c.safety,
                "otherwise": c.otherwise,
                "texts": sorted(self.texts_of(c)),
                "labels": {spec: sorted(labels) for spec, labels in c.labels.items()},
                **({} if c.threshold is None else {"own_threshold": [c.threshold, c.review_margin]}),
                **({} if c.head is None else {"head": c.head.digest}),
                **(self._compared_texts(c) if self.is_independent else {}),
            }
            for c in self.categories
        ]
        hashed: dict[str, Any] = {
            "categories": categories,
            "thresholds": dict(self.thresholds),
            "agreement_threshold": self.agreement_threshold,
            "review_margin": self.review_margin,
            "min_coverage": self.min_coverage,
            "video": [self.persistence_s, self.max_gap_s],
        }
        if self.tuned is not None:
            hashed["tuned"] = [[one.spec, one.revision, one.weight] for one in self.tuned.models]
            if (found := self.tuned.calibration) is not None:
                hashed["calibration"] = [found.kind, found.slope, found.intercept]
        canonical = json.dumps(hashed, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(canonical.encode()).hexdigest()[:8]

    def _compared_texts(self, category: Category) -> dict[str, Any]:
        """Return what independent scoring compares: the texts of each prompt are one vector."""
        sides = {"best_of": category.prompts, "negatives": category.negatives}
        return {side: sorted(sorted(self.filled(text)) for text in texts) for side, texts in sides.items()}

    def threshold_for(self, sensitivity: Sensitivity, threshold: float | None = None) -> float:
        """Return the score from which on an image is NSFW: `threshold` if given, 0..1.

        Raises:
            UsageError: `threshold` is not a number from 0 to 1, or the threshold is tuned and so has no
                sensitivities.
        """
        if sensitivity != "medium" and self.tuned and self.tuned.threshold_of(None) is not None:
            raise UsageError(
                f"--sensitivity {sensitivity} has no effect: the policy {self.name!r} has one tuned "
                "threshold. Leave it out, or give --threshold"
            )
        if threshold is None:
            return self.thresholds[sensitivity]
        if not 0.0 <= threshold <= 1.0:
            raise UsageError(f"--threshold must be a number from 0 to 1, not {threshold}")
        return threshold

    def texts_of(self, category: Category) -> tuple[str, ...]:
        """Return all prompts of a category in all templates."""
        return tuple(text for prompt in category.prompts for text in self.filled(prompt))

    def filled(self, prompt: str) -> tuple[str, ...]:
        """Return a prompt in all templates."""
        return tuple(template.replace("{}", prompt) for template in self.templates)

    @property
    def texts(self) -> tuple[str, ...]:
        """All texts that a text-image model must embed, each once."""
        prompts = (prompt for c in self.categories for prompt in (*c.prompts, *c.negatives))
        return tuple(dict.fromkeys(text for prompt in prompts for text in self.filled(prompt)))


def seen_categories(policy: Policy, *, spec: str, text_image: bool) -> tuple[str, ...]:
    """Return the names of the categories that a model can give evidence for.

    A text-image model sees those with prompts or a head for it, any other those with mapped labels of its
    spec (without weight). `otherwise` is not evidence, but where no category has prompts, what no head
    recognises is of that category. A model that sees nothing cannot judge the policy, even where nothing is
    UNSAFE.
    """
    seen = [c for c in policy.categories if c.is_seen_by(spec, text_image=text_image)]
    if text_image and seen and not any(c.prompts for c in policy.categories):
        seen = [c for c in policy.categories if c in seen or c.otherwise]
    return tuple(c.name for c in seen)


def sees_enough(policy: Policy, seen: Sequence[str], *, detector: bool) -> bool:
    """Return whether a model that sees these categories has two to compare.

    Under independent scoring one of them must be SAFE; what a detector finds needs no comparison.
    """
    if len(seen) < (1 if detector else 2):
        return False
    return detector or not policy.is_independent or not set(seen) <= set(policy.unsafe)


def unseen_categories(policy: Policy, *, spec: str, text_image: bool) -> tuple[str, ...]:
    """Return the names of the UNSAFE categories that a model cannot see, and so would call Safe."""
    seen = seen_categories(policy, spec=spec, text_image=text_image)
    return tuple(name for name in policy.unsafe if name not in seen)


def policy_notes(policy: Policy) -> tuple[str, ...]:
    """Return a sentence for each model that a policy does not suit, and each threshold without effect.

    These are not faults: a policy may be meant for other models only.
    """
    specs = sorted({spec for c in policy.categories for spec in c.labels})
    heads = [model.spec for c in policy.categories if c.head for model in c.head.models]
    models = [(spec, spec, True) for spec in dict.fromkeys(heads)]
    if not heads and any(c.prompts for c in policy.categories):
        models = [("a text-image model", "", True)]
    models += [(spec, spec, False) for spec in specs]
    notes = [note for name, spec, text in models for note in _notes(policy, name, spec, text_image=text)]
    return (*notes, *_threshold_notes(policy))


def _threshold_notes(policy: Policy) -> Iterator[str]:
    """Yield a sentence for each category whose threshold the unsafe score reaches no later than its own."""
    for one in policy.category_thresholds:
        crossed = [name for name, threshold in policy.thresholds.items() if threshold <= one.threshold]
        if crossed:
            first = "highest score" if policy.is_independent else "sum"
            yield (
                f"the threshold of {one.name}, {one.threshold}, has no effect at the sensitivities "
                f"{', '.join(crossed)}: the {first} of the UNSAFE categories reaches its own threshold first"
            )


def _notes(policy: Policy, name: str, spec: str, *, text_image: bool) -> Iterator[str]:
    seen = seen_categories(policy, spec=spec, text_image=text_image)
    unseen = unseen_categories(policy, spec=spec, text_image=text_image)
    if unseen:
        yield f"{name} cannot see {', '.join(unseen)}, and is refused without --allow-partial"
    backend = BACKENDS.get(spec.partition(":")[0])
    if backend is not None and backend.kind == "detector":
        if not any(c.otherwise for c in policy.categories):
            yield f'{name} is refused: no category is "otherwise", for images where it finds nothing'
    elif set(seen) <= set(policy.unsafe):
        effect = "is refused" if policy.is_independent else "would call every image NSFW"
        yield f"{name} sees no SAFE category, and {effect}"
