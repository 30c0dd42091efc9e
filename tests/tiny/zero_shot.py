"""Judges pictures with open_clip alone, by the recipe that the tool promises to follow.

It imports nothing of the tool, so that it can be held against it. One picture
after another, no speed: that is the tool's task.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from numpy.typing import NDArray
from PIL import Image

from tests.tiny import shapes

HERE = Path(__file__).parent
MODELS = HERE / "models"
POLICY = HERE / "shapes.toml"
WEIGHTS = {"tiny-l": 0.40, "tiny-h": 0.35, "tiny-g": 0.25}
# those of the real ensemble
BATCH = 64


@dataclass(frozen=True, slots=True)
class TinyModel:
    """A loaded model with open_clip's own transform and tokenizer."""

    clip: Any
    transform: Any
    tokenizer: Any
    dtype: torch.dtype


@dataclass(frozen=True, slots=True)
class Policy:
    """What `shapes.toml` says: prompts by category, in order, and which categories are unsafe."""

    templates: tuple[str, ...]
    prompts: Mapping[str, Sequence[str]]
    unsafe: frozenset[str]


def load(name: str, *, bf16: bool = False) -> TinyModel:
    """Returns a committed model by name, with float32 or bfloat16 weights."""
    where = f"local-dir:{MODELS / name}"
    precision = "pure_bf16" if bf16 else "fp32"
    clip, _, transform = open_clip.create_model_and_transforms(where, precision=precision)
    dtype = torch.bfloat16 if bf16 else torch.float32
    return TinyModel(clip.eval(), transform, open_clip.get_tokenizer(where), dtype)


def read_policy(path: Path = POLICY) -> Policy:
    """Returns the policy in a TOML file, unchecked."""
    written = tomllib.loads(path.read_text(encoding="utf-8"))
    return Policy(
        tuple(written["templates"]),
        {category["name"]: category["prompts"] for category in written["categories"]},
        frozenset(c["name"] for c in written["categories"] if c["safety"] == "UNSAFE"),
    )


@torch.inference_mode()
def category_vectors(
    model: TinyModel, prompts: Mapping[str, Sequence[str]], templates: Sequence[str] = ("{}",)
) -> torch.Tensor:
    """Returns float32 `(categories, d)`: the normalised means of the normalised text embeddings."""
    means = []
    for words in prompts.values():
        texts = [template.format(word) for template in templates for word in words]
        embedded = model.clip.encode_text(model.tokenizer(texts)).float()
        means.append(torch.nn.functional.normalize(embedded, dim=-1).mean(dim=0))
    return torch.nn.functional.normalize(torch.stack(means), dim=-1)


@torch.inference_mode()
def embed_pictures(model: TinyModel, pictures: Iterable[Image.Image]) -> torch.Tensor:
    """Returns float32 `(n, d)` of unit length, through open_clip's own transform."""
    seen = torch.stack([model.transform(picture) for picture in pictures]).to(model.dtype)
    parts = [model.clip.encode_image(seen[i : i + BATCH]).float() for i in range(0, len(seen), BATCH)]
    return torch.nn.functional.normalize(torch.cat(parts), dim=-1)


@torch.inference_mode()
def probabilities(model: TinyModel, pictures: torch.Tensor, categories: torch.Tensor) -> NDArray[np.float32]:
    """Returns `(n, categories)`: softmax of exp(logit_scale) x cosine, from unit vectors."""
    logits = model.clip.logit_scale.float().exp() * pictures @ categories.T
    return np.asarray(logits.softmax(dim=-1).numpy(), dtype=np.float32)


def classify(model: TinyModel, pictures: Sequence[Image.Image]) -> list[str]:
    """Returns for each picture the most probable of `shapes.CLASSES`."""
    prompts = {name: shapes.names(name) for name in shapes.CLASSES}
    vectors = category_vectors(model, prompts)
    best = probabilities(model, embed_pictures(model, pictures), vectors).argmax(axis=1)
    return [shapes.CLASSES[int(i)] for i in best]


def unsafe_scores(
    model: TinyModel, pictures: Sequence[Image.Image], policy: Policy | None = None
) -> NDArray[np.float32]:
    """Returns `(n,)`: for each picture the probability of the policy's unsafe categories."""
    policy = policy or read_policy()
    vectors = category_vectors(model, policy.prompts, policy.templates)
    scores = probabilities(model, embed_pictures(model, pictures), vectors)
    unsafe = [i for i, name in enumerate(policy.prompts) if name in policy.unsafe]
    return np.asarray(scores[:, unsafe].sum(axis=1), dtype=np.float32)


def ensemble_scores(models: Mapping[str, TinyModel], pictures: Sequence[Image.Image]) -> NDArray[np.float32]:
    """Returns `(n,)`: the weighted mean of the models' unsafe scores under `shapes.toml`."""
    parts = [WEIGHTS[name] * unsafe_scores(model, pictures) for name, model in models.items()]
    return np.asarray(np.sum(parts, axis=0), dtype=np.float32)
