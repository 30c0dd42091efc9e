"""A policy prepared for an ensemble: all that judging needs. Formulas: docs/policies.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from clipmod_cli.errors import SettingsError
from clipmod_cli.judge.certainty import MARGIN, PartialScores, certain_outcomes, score_bounds
from clipmod_cli.judge.policy.values import CategoryThreshold, Policy
from clipmod_cli.judge.readers import (
    ComparedTexts,
    LabelReader,
    Probabilities,
    Reader,
    is_mostly_unmapped,
    own_scores,
    read_all,
    unmapped_share,
)
from clipmod_cli.models.specs import LEAST_WEIGHT
from clipmod_cli.types import UNSEEN_REASONS, Frame, Item, Media, Seen, UnseenReason


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightedReader:
    """A model's weight, and how its evidence becomes probabilities."""

    name: str
    weight: float
    reader: Reader

    @property
    def has_unmapped(self) -> bool:
        """Whether the model can give labels that no category has."""
        return isinstance(self.reader, LabelReader) and bool(self.reader.unmapped)

    @property
    def has_undivided(self) -> bool:
        """Whether a label of the model stands for several UNSAFE categories."""
        return isinstance(self.reader, LabelReader) and self.reader.has_undivided

    def is_mostly_unmapped(self, seen: Seen) -> bool:
        """Return whether most of what it saw has no category."""
        return is_mostly_unmapped(unmapped_share(self.reader, seen))


@dataclass(frozen=True, slots=True, kw_only=True)
class Criteria:
    """All that judging needs: no model, no file, no network.

    Attributes:
        threshold: an unsafe score of at least this is NSFW, 0..1.
        unseen: UNSAFE categories that some model cannot see (only with `--allow-partial`).
        degraded: a model of the ensemble is missing.
        screens: models that are not members, after which a picture may only exit early, in their order.
        names: of the categories, in the policy's order.
        unsafe: by category, whether it is UNSAFE.
        unsafe_places: the indices of the UNSAFE categories.
        precedence: category indices; of equally high ones the first names a picture.
        category_thresholds: of single categories, beside that of the unsafe score.
        agree_by_side: models agree where their sides (SAFE or UNSAFE) are equal, since several UNSAFE
            categories may be true at once, or one of them has labels that it does not divide among them;
            otherwise where their categories are equal.
    """

    policy: Policy
    threshold: float
    judges: Sequence[WeightedReader]
    unseen: Sequence[str] = ()
    degraded: bool = False
    screens: Sequence[WeightedReader] = ()
    names: tuple[str, ...] = field(init=False, repr=False)
    unsafe: NDArray[np.bool_] = field(init=False, repr=False, compare=False)
    unsafe_places: tuple[int, ...] = field(init=False, repr=False)
    precedence: tuple[int, ...] = field(init=False, repr=False)
    category_thresholds: tuple[CategoryThreshold, ...] = field(init=False, repr=False)
    agree_by_side: bool = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Check the numbers, and compute what every frame needs.

        Raises:
            SettingsError: if the threshold is not within 0..1, or a weight is too small or not finite.
        """
        if not 0.0 <= self.threshold <= 1.0:  # also refuses NaN, by which every image would be Safe
            raise SettingsError(f"the threshold is {self.threshold}; it must be from 0 to 1")
        for judge in self.judges:
            if not LEAST_WEIGHT <= judge.weight < np.inf:
                raise SettingsError(
                    f"{judge.name} has the weight {judge.weight}; it must be at least {LEAST_WEIGHT}, "
                    "and finite"
                )
        categories = self.policy.categories
        unsafe = np.array(unsafe_mask(self.policy), dtype=np.bool_)
        unsafe.setflags(write=False)
        object.__setattr__(self, "names", tuple(c.name for c in categories))
        object.__setattr__(self, "unsafe", unsafe)
        object.__setattr__(self, "unsafe_places", tuple(np.flatnonzero(unsafe).tolist()))
        object.__setattr__(self, "precedence", precedence_of(self.policy))
        object.__setattr__(self, "category_thresholds", self.policy.category_thresholds)
        by_side = self.policy.is_independent or any(judge.has_undivided for judge in self.judges)
        object.__setattr__(self, "agree_by_side", by_side)

    def outcome_is_certain(
        self, frames: Sequence[Frame], seen: Mapping[str, Sequence[Seen]]
    ) -> NDArray[np.bool_]:
        """Return, for each frame, whether no model that was not run can change decision or review.

        Which of several views of a still decides depends on the scores of all. So none of these is certain
        unless all are in the batch, and whichever decides, the outcome is the same: each that may decide has
        a certain decision, and each certainly needs no review, or the still needs it whatever its scores are.
        Beside a view that is certainly NSFW, none with a certainly lower score decides.

        Args:
            frames: the frames of one batch.
            seen: by name of each model that was run, its evidence of each frame; finite.
        """
        done = [member for member in self.judges if member.name in seen]
        shares = [read_all(member.reader, seen[member.name]) for member in done]
        partial = PartialScores(
            shares=shares,
            own=[self._own_scores(m, seen[m.name], read) for m, read in zip(done, shares, strict=True)],
            weights=[member.weight for member in done],
            remaining=sum(member.weight for member in self.judges if member.name not in seen),
        )
        unmapped = np.zeros(len(frames), dtype=np.bool_)
        for member in done:
            unmapped |= [member.is_mostly_unmapped(one) for one in seen[member.name]]
        review = unmapped | [bool(self.unseen_reasons(frame.media)) for frame in frames]
        reviewed, clear = certain_outcomes(
            partial,
            self.policy,
            unsafe=self.unsafe,
            threshold=self.threshold,
            review=review,
            by_side=self.agree_by_side,
        )
        if any(member.has_unmapped for member in self.judges if member.name not in seen):
            reviewed &= review  # else they could add this reason
            clear &= False
        low, high = score_bounds(partial, self.unsafe, independent=self.policy.is_independent)
        # where categories have thresholds of their own, each view counts, whatever its unsafe score
        is_hit = (low >= self.threshold + MARGIN) & (not self.category_thresholds)
        return _of_stills(frames, reviewed, clear, review, bounds=(np.where(is_hit, low, 0.0), high))

    def _own_scores(
        self, member: WeightedReader, seen: Sequence[Seen], shares: Probabilities
    ) -> Probabilities:
        """Return the `own_scores` of each `(n, categories)`, from their shares."""
        if not self.category_thresholds:
            return shares
        return np.stack([own_scores(member.reader, one, row) for one, row in zip(seen, shares, strict=True)])

    def unseen_reasons(self, media: Media, *, unmapped: bool = False) -> tuple[UnseenReason, ...]:
        """Return why something of an input was not looked at, or with `unmapped` not judged."""
        reasons: set[UnseenReason] = set(media.unseen_reasons)
        if self.policy.unsafe and media.coverage is not None and media.coverage < self.policy.min_coverage:
            reasons.add("coverage")
        if unmapped:
            reasons.add("unmapped_labels")
        if self.unseen:
            reasons.add("unseen_category")
        return tuple(reason for reason in UNSEEN_REASONS if reason in reasons)


def severity_order(policy: Policy) -> tuple[int, ...]:
    """Return category indices, UNSAFE from the last listed to the first, then SAFE likewise."""
    backwards = list(reversed(list(enumerate(policy.categories))))
    return tuple(i for safety in ("UNSAFE", "SAFE") for i, c in backwards if c.safety == safety)


def precedence_of(policy: Policy) -> tuple[int, ...]:
    """Return category indices, UNSAFE before SAFE, from severe to mild.

    Under independent scoring the UNSAFE ones are from mild to severe: there, equal scores come from a label
    that stands for several categories, and a picture is named as the mildest of them.
    """
    order = severity_order(policy)
    if not policy.is_independent:
        return order
    unsafe = [index for index in order if policy.categories[index].safety == "UNSAFE"]
    return (*reversed(unsafe), *order[len(unsafe) :])


def unsafe_mask(policy: Policy) -> tuple[bool, ...]:
    """Return, for each category, whether it is UNSAFE."""
    return tuple(c.safety == "UNSAFE" for c in policy.categories)


def mapped_labels(policy: Policy, spec: str) -> tuple[frozenset[str], ...]:
    """Return, for each category, the labels of the model `spec` that count as it."""
    return tuple(frozenset(c.labels.get(spec, ())) for c in policy.categories)


def categories_with_prompts(policy: Policy) -> tuple[int, ...]:
    """Return the indices of the categories that a text-image model can see."""
    return tuple(i for i, c in enumerate(policy.categories) if c.prompts)


def mean_vectors(embeddings: Mapping[str, NDArray[np.float32]], policy: Policy) -> NDArray[np.float32]:
    """Return the vector of each category that has prompts, unit length, float32 `(visible, d)`.

    It is the mean over all its prompts in all templates of the normalised text embeddings,
    normalised again: open_clip's zero-shot recipe (`build_zero_shot_classifier`).

    Args:
        embeddings: by text (a prompt in a template), unit length `(d,)`.
        policy: whose categories they describe.
    """
    texts = [policy.texts_of(policy.categories[index]) for index in categories_with_prompts(policy)]
    return np.stack([_mean_of(each, embeddings) for each in texts])


def compared_texts(
    embeddings: Mapping[str, NDArray[np.float32]], policy: Policy
) -> tuple[ComparedTexts, ...]:
    """Return, by category, the vectors of its prompts and negatives: of each the mean over all templates.

    Args:
        embeddings: by text (a prompt in a template), unit length `(d,)`.
        policy: whose categories they describe.
    """
    size = len(next(iter(embeddings.values())))

    def vectors(prompts: Sequence[str]) -> NDArray[np.float32]:
        means = [_mean_of(policy.filled(prompt), embeddings) for prompt in prompts]
        return np.stack(means) if means else np.zeros((0, size), dtype=np.float32)

    return tuple(
        ComparedTexts(prompts=vectors(c.prompts), negatives=vectors(c.negatives)) for c in policy.categories
    )


def _mean_of(texts: Sequence[str], embeddings: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float32]:
    """Return the mean of the texts' vectors, made unit length again, float32 `(d,)`."""
    mean = np.mean([embeddings[text] for text in texts], axis=0)
    return np.asarray(mean / np.linalg.norm(mean), dtype=np.float32)


def _of_stills(
    frames: Sequence[Frame],
    reviewed: NDArray[np.bool_],
    clear: NDArray[np.bool_],
    forced: NDArray[np.bool_],
    *,
    bounds: tuple[NDArray[np.float64], NDArray[np.float64]],
) -> NDArray[np.bool_]:
    """Return, for each frame, whether it belongs to a still whose outcome is certain.

    Args:
        frames: of one batch.
        reviewed: `(n,)`, frames with a certain decision that certainly need review.
        clear: `(n,)`, those that certainly need none.
        forced: `(n,)`, frames for which their item needs review whatever its scores are.
        bounds: `(n,)` each, the lowest unsafe score of frames that are certainly NSFW (of others 0.0), and
            the highest of all.
    """
    hit_from, high = bounds
    of_item: dict[Item, list[int]] = {}
    for at, frame in enumerate(frames):
        of_item.setdefault(frame.item, []).append(at)
    certain = np.zeros(len(frames), dtype=np.bool_)
    for views in of_item.values():
        media = frames[views[0]].media
        if media.kind == "image" and media.views == len(views):
            deciding = [at for at in views if not high[at] < hit_from[views].max() - MARGIN]
            is_same = len(deciding) == 1 or forced[views].any() or clear[deciding].all()
            certain[views] = is_same and (reviewed | clear)[deciding].all()
    return certain
