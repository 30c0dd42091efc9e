"""Stored evidence and labels → labelled inputs and scores under a policy: few are judged, all are scored."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from clipmod_cli.evaluate.joining import LabelOptions, read
from clipmod_cli.evaluate.matching import LabelledInput, Matches, match
from clipmod_cli.evaluate.samples import JudgedInput, LabelledSet, judged_of
from clipmod_cli.evidence.folder import (
    EvidenceFolder,
    EvidencePart,
    StoredInput,
    read_rows,
    read_vectors,
    stored_inputs,
)
from clipmod_cli.evidence.rescore import judge_one
from clipmod_cli.evidence.rows import ItemEvidence, from_row
from clipmod_cli.evidence.scores import PartScores, score_parts
from clipmod_cli.judge.criteria import Criteria
from clipmod_cli.records import RunFacts, to_record
from clipmod_cli.types import Embedding

NEAR_DUPLICATE: Final = 0.97
"""Cosine of embeddings from which on two inputs count as near-duplicates."""

COMPARED_AT_ONCE: Final = 1_024

Vector = NDArray[np.float32]


def join_evidence(
    stored: EvidenceFolder, criteria: Criteria, options: LabelOptions
) -> tuple[LabelledSet, Matches[StoredInput]]:
    """Return the labelled inputs as the criteria judge them, and how inputs and labels met.

    With a threshold of 0 an input of which some frame failed has a score too: from that threshold on it would
    be NSFW, and an error above it. Memory grows with the labels, not with the evidence.

    Raises:
        UsageError: a label means nothing, or too few labels have evidence.
        EvidenceError: a part is damaged, or its embeddings are missing.
    """
    matches = match(read(options, criteria.policy), stored_inputs(stored), root=options.root)
    matches.check(allow_unmatched=options.allow_unmatched)
    found = list(_judged(stored, criteria, matches.pairs))
    vectors = {one.judged.content: vector for one, vector in found if vector is not None}
    labelled = LabelledSet(
        pairs=[one for one, _ in found],
        policy=criteria.policy,
        threshold=criteria.threshold,
        weighted=matches.weighted,
        groups=near_duplicates(vectors),
    )
    return labelled, matches


def sums_of_all(stored: EvidenceFolder, criteria: Criteria) -> Iterator[NDArray[np.float64]]:
    """Yield what a threshold of the sum is compared with, of all inputs, part by part, as `sum_scores` does.

    Args:
        stored: the evidence.
        criteria: their threshold has no effect.

    Raises:
        EvidenceError: a part is damaged, or its embeddings are missing.
    """
    all_nsfw = score_parts(stored, replace(criteria, threshold=0.0))
    if not criteria.category_thresholds:
        yield from (_scores(part) for part in all_nsfw)
        return
    # what is NSFW under the highest threshold of the sum is so by a category's own
    for part, own in zip(all_nsfw, score_parts(stored, replace(criteria, threshold=1.0)), strict=True):
        yield np.where(own.nsfw & (own.unsafe < 1.0), np.inf, _scores(part))


def _scores(part: PartScores) -> NDArray[np.float64]:
    return np.where(np.isnan(part.unsafe), -np.inf, part.unsafe)


def _judged(
    stored: EvidenceFolder, criteria: Criteria, pairs: Sequence[LabelledInput[StoredInput]]
) -> Iterator[tuple[LabelledInput[JudgedInput], Vector | None]]:
    """Yield the labelled inputs judged, and their embeddings, in the order of the evidence."""
    policy, identity = criteria.policy, stored.identity
    facts = RunFacts(
        policy=policy.name, policy_hash=policy.hash, threshold=criteria.threshold, run_key="", run_id=""
    )
    by_part: dict[EvidencePart, dict[int, LabelledInput[StoredInput]]] = defaultdict(dict)
    for pair in pairs:
        by_part[pair.judged.part][pair.judged.row] = pair
    for part, wanted in by_part.items():
        vectors = read_vectors(part, identity.members)
        rows = read_rows(part, rows=sorted(wanted))
        for number, row in zip(sorted(wanted), rows, strict=True):
            evidence = from_row(row, identity.members, vectors)
            vector = _vector(evidence)
            result = judge_one(evidence, criteria, max_gap_s=identity.max_gap_s)
            record = to_record(result, facts).model_dump(mode="json", by_alias=True)
            pair = wanted[number]
            yield LabelledInput(judged_of(record), pair.label, pair.weight), vector


def _vector(evidence: ItemEvidence) -> Vector | None:
    """Return what text-image models saw of an input, one after the other, unit length.

    None if they saw nothing, or a mean of views without a direction.
    """
    seen: dict[str, list[Vector]] = defaultdict(list)
    for view in evidence.views:
        for name, one in view.seen.items():
            if isinstance(one, Embedding):
                seen[name].append(one.vector)
    means = [np.mean(vectors, axis=0) for _, vectors in sorted(seen.items())]
    lengths = [float(np.linalg.norm(mean)) for mean in means]
    if not means or not all(0 < length < np.inf for length in lengths):
        return None
    joined = np.concatenate([mean / length for mean, length in zip(means, lengths, strict=True)])
    return np.asarray(joined / np.sqrt(len(means)), dtype=np.float32)


@dataclass(slots=True)
class _Groups:
    """Numbers of groups; those that are joined get the same."""

    of: NDArray[np.intp]

    def join(self, ours: NDArray[np.intp], theirs: NDArray[np.intp]) -> None:
        """Join the groups of these inputs, by pairs."""
        from scipy.sparse import coo_matrix
        from scipy.sparse.csgraph import connected_components

        edges = np.unique(np.stack([self.of[ours], self.of[theirs]]), axis=1)
        shape = (len(self.of), len(self.of))
        graph = coo_matrix((np.ones(edges.shape[1], dtype=np.bool_), (edges[0], edges[1])), shape=shape)
        self.of = connected_components(graph, directed=False)[1][self.of].astype(np.intp)


def near_duplicates(vectors: Mapping[str, Vector]) -> dict[str, str]:
    """Return, for each content, the one that stands for all near-duplicates of it and of each other.

    Args:
        vectors: by content, its embedding, unit length `(d,)`; two of different lengths are of other models,
            and no near-duplicates of each other.
    """
    groups: dict[str, str] = {}
    for length in {len(vector) for vector in vectors.values()}:
        names = sorted(name for name, vector in vectors.items() if len(vector) == length)
        every = np.stack([vectors[name] for name in names])
        found = _Groups(np.arange(len(names), dtype=np.intp))
        for start in range(0, len(names), COMPARED_AT_ONCE):
            near = every[start : start + COMPARED_AT_ONCE] @ every[: start + COMPARED_AT_ONCE].T
            ours, theirs = np.nonzero(near >= NEAR_DUPLICATE)
            found.join(ours + start, theirs)
        first: dict[int, str] = {}
        for name, number in zip(names, found.of.tolist(), strict=True):
            groups[name] = first.setdefault(number, name)
    return groups
