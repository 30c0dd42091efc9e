"""Scores of many frames at once are those of each alone, to the last bit."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from clipmod_cli.judge.criteria import Criteria, WeightedReader, unsafe_mask
from clipmod_cli.judge.frame_scores import score_frame, score_frames
from clipmod_cli.judge.policy.values import Category, Policy
from clipmod_cli.judge.readers import ComparedTexts, ComparingTextReader, LabelReader, TextReader
from clipmod_cli.types import Embedding, Evidence, Failure, LabelScores
from tests.evidence import SPEC, VIEW, item_of, media_of

SIZE = 16
MEMBERS = ("a", "b", "c")


def unit(rng: np.random.Generator, count: int) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    drawn = rng.standard_normal((count, SIZE)).astype(np.float32)
    unit_vectors: np.ndarray[tuple[int, int], np.dtype[np.float32]] = drawn / np.linalg.norm(
        drawn, axis=1, keepdims=True
    )
    return unit_vectors


def criteria_of(
    rng: np.random.Generator, categories: int, scoring: Literal["softmax", "independent"], undivided: bool
) -> Criteria:
    names = [f"c{number}" for number in range(categories)]
    policy = Policy(
        name="drawn",
        scoring=scoring,
        categories=tuple(
            Category(
                name=name,
                safety="SAFE" if number < categories // 2 else "UNSAFE",
                labels={SPEC: (name,)},
                threshold=0.3 if number == categories - 1 else None,
            )
            for number, name in enumerate(names)
        ),
    )
    unsafe = unsafe_mask(policy)
    labels = [
        frozenset(policy.unsafe) if undivided and bad else frozenset({name})
        for name, bad in zip(names, unsafe, strict=True)
    ]
    texts = [ComparedTexts(prompts=unit(rng, 2), negatives=unit(rng, int(rng.integers(0, 3)))) for _ in names]
    readers = (
        TextReader(vectors=unit(rng, categories), visible=range(categories), total=categories, scale=100.0)
        if scoring == "softmax"
        else ComparingTextReader(texts=texts, unsafe=list(unsafe), scale=100.0),
        TextReader(vectors=unit(rng, categories), visible=range(categories), total=categories, scale=20.0),
        LabelReader(labels=labels, unsafe=list(unsafe) if scoring == "independent" else None),
    )
    judges = [
        WeightedReader(name=name, weight=weight, reader=reader)
        for name, weight, reader in zip(MEMBERS, (0.4, 0.35, 0.25), readers, strict=True)
    ]
    return Criteria(policy=policy, threshold=0.5, judges=judges)


def frame_of(rng: np.random.Generator, number: int, names: tuple[str, ...]) -> Evidence:
    vectors = unit(rng, 2)
    if rng.random() < 0.1:
        vectors[0, 0] = np.nan
    drawn = rng.dirichlet(np.ones(len(names)))
    frame = Evidence(
        item=item_of(number),
        media=media_of(),
        number=number,
        time_s=float(number),
        last=True,
        view=VIEW,
        seen={
            "a": Embedding(vector=vectors[0]),
            "b": Embedding(vector=vectors[1]),
            "c": LabelScores(scores=dict(zip(names, drawn.tolist(), strict=True))),
        },
        forward_ms=dict.fromkeys(MEMBERS, 1.0),
    )
    kind = rng.random()
    if kind < 0.2:
        return replace(frame, stand_in=True, seen={"b": frame.seen["b"]})
    if kind < 0.4:
        return replace(frame, skipped=("c",), seen={name: frame.seen[name] for name in ("a", "b")})
    return frame


@given(
    seed=st.integers(0, 2**32 - 1),
    categories=st.integers(2, 24),
    count=st.integers(1, 70),
    scoring=st.sampled_from(["softmax", "independent"]),
    undivided=st.booleans(),
)
@settings(max_examples=60)
def test_law_many_frames_at_once_have_the_scores_of_each_alone(
    seed: int, categories: int, count: int, scoring: Literal["softmax", "independent"], undivided: bool
) -> None:
    rng = np.random.default_rng(seed)
    criteria = criteria_of(rng, categories, scoring, undivided)
    frames = [frame_of(rng, number, criteria.names) for number in range(count)]
    together = score_frames(frames, criteria)
    assert [repr(score) for score in together] == [repr(score_frame(frame, criteria)) for frame in frames]
    finite = [
        all(np.isfinite(one.vector).all() for one in f.seen.values() if isinstance(one, Embedding))
        for f in frames
    ]
    assert [not isinstance(score, Failure) for score in together] == finite
