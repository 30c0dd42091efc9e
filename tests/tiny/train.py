"""Trains the tiny models from drawn pictures: `python -m tests.tiny.train [NAME...]`.

The loss is CLIP's, with every pair of equal meaning in a batch as a positive.
Drawing is `tests.tiny.shapes`, measuring what came of it `tests.tiny.measure`.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from PIL import Image
from safetensors.torch import save_file
from torch.nn import functional

from tests.tiny import shapes
from tests.tiny.configs import CONFIGS, VOCABULARY
from tests.tiny.zero_shot import MODELS

PEAK_RATES = (1.5e-3, 1.2e-3, 8e-4, 8e-4)
# of each round's learning rate: a round draws new pictures and goes on from the weights of the last,
# so that no run takes long
ROUNDS = {"tiny-l": 3, "tiny-h": 3, "tiny-g": 4}
# the largest patches learn slowest
PICTURES = 8_000
# drawn for each round; turning and flipping makes eight of each
STEPS = 2_200
# a round
BATCH = 64
# three of each class: small steps, many of them, are the quickest way on a small machine
CAPTIONS = 1
# of each class in a batch: the text tower costs as much as the pictures otherwise
TELL_EVERY = 200
WARM_UP = 150
WEIGHT_DECAY = 0.05
MAX_LOG_SCALE = 4.6
# open_clip's bound of 100, a little below so that rounding to half precision stays below it
SEEDS = {"tiny-l": 20_100, "tiny-h": 20_200, "tiny-g": 20_300}
# each model learns from other pictures, or all would err alike
SPOILT = 0.35
# share of pictures that pass through a lossy format first


@dataclass(frozen=True, slots=True)
class Lesson:
    """Everything there is to learn from.

    Attributes:
        pictures: `(n, 3, size, size)` float32, normalised.
        meanings: `(n,)` index of the picture's class.
        texts: `(captions, context)` token ids.
        text_meanings: `(captions,)` index of the caption's class.
    """

    pictures: torch.Tensor
    meanings: torch.Tensor
    texts: torch.Tensor
    text_meanings: torch.Tensor


def spoil(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Returns the picture as a poor JPEG or a palette of 64 colours would show it."""
    if rng.random() < 0.2:
        return picture.quantize(64).convert("RGB")
    spoilt = io.BytesIO()
    picture.save(spoilt, "JPEG", quality=int(rng.integers(25, 90)))
    return Image.open(spoilt).convert("RGB")


def write_lesson(transform: Any, tokenizer: Any, pictures: int, seed: int) -> Lesson:
    """Returns `pictures` drawn pictures as the model sees them, and every caption."""
    rng = np.random.default_rng(seed + 1)
    geometries, meanings = [], []
    for drawn, name in shapes.labelled(pictures, seed):
        picture = spoil(drawn, rng) if rng.random() < SPOILT else drawn
        geometries.append(transform(picture))
        meanings.append(shapes.CLASSES.index(name))
    said = [(text, i) for i, name in enumerate(shapes.CLASSES) for text in shapes.captions(name)]
    texts = tokenizer([text for text, _ in said])
    return Lesson(torch.stack(geometries), torch.tensor(meanings), texts, torch.tensor([i for _, i in said]))


def turn(pictures: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    """Returns the batch in eighths, each turned and flipped differently, its light and noise varied."""
    parts = []
    for i, part in enumerate(pictures.tensor_split(8)):
        turned = torch.rot90(part, i % 4, dims=(2, 3))
        parts.append(turned.flip(3) if i >= 4 else turned)
    turned = torch.cat(parts)
    light = 1 + 0.1 * torch.randn(len(turned), 1, 1, 1, generator=rng)
    return turned * light + 0.04 * torch.randn(turned.shape, generator=rng)


def contrast(
    pictures: torch.Tensor, texts: torch.Tensor, same: torch.Tensor, scale: torch.Tensor
) -> torch.Tensor:
    """Returns CLIP's loss, its targets spread evenly over all pairs that are the same."""
    logits = scale * pictures @ texts.T
    return (
        functional.cross_entropy(logits, spread(same)) + functional.cross_entropy(logits.T, spread(same.T))
    ) / 2


def spread(same: torch.Tensor) -> torch.Tensor:
    """Returns rows that sum to 1, or stay 0 where nothing in the batch is the same."""
    return same / same.sum(dim=1, keepdim=True).clamp(min=1)


def batches(lesson: Lesson, rng: torch.Generator) -> Iterator[tuple[torch.Tensor, ...]]:
    """Yields pictures, captions of every class, and which mean the same `(pictures, captions)`."""
    by_class = [torch.nonzero(lesson.text_meanings == i).flatten() for i in range(len(shapes.CLASSES))]
    order = torch.empty(0, dtype=torch.long)
    for _ in range(STEPS):
        if len(order) < BATCH:
            order = torch.randperm(len(lesson.pictures), generator=rng)
        chosen, order = order[:BATCH], order[BATCH:]
        said = torch.cat([of[torch.randperm(len(of), generator=rng)[:CAPTIONS]] for of in by_class])
        same = lesson.meanings[chosen, None] == lesson.text_meanings[None, said]
        yield turn(lesson.pictures[chosen], rng), lesson.texts[said], same.float()


def rate(step: int) -> float:
    """Returns the share of the peak learning rate: a short rise, then half a cosine down to nothing."""
    if step < WARM_UP:
        return (step + 1) / WARM_UP
    return 0.5 + 0.5 * math.cos(math.pi * (step - WARM_UP) / (STEPS - WARM_UP))


def shrink_vocabulary(clip: Any, texts: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Keeps only the embeddings of the tokens in `texts`; returns the tokens, and the texts renumbered.

    The order stays, so that the end mark is still the highest number.
    """
    used = torch.unique(texts)
    known = clip.token_embedding.weight.detach()[used].clone()
    clip.token_embedding = torch.nn.Embedding(len(used), known.shape[1], _weight=known)
    return used, torch.searchsorted(used, texts)


def restore_vocabulary(clip: Any, used: torch.Tensor) -> None:
    """Gives the model its whole vocabulary again; every other token is zero, so that the file compresses."""
    known = clip.token_embedding.weight.detach()
    whole = torch.zeros(VOCABULARY, known.shape[1]).index_copy(0, used, known)
    clip.token_embedding = torch.nn.Embedding(VOCABULARY, known.shape[1], _weight=whole)


def learn(clip: Any, lesson: Lesson, peak_rate: float, seed: int) -> None:
    """Trains the model in place for `STEPS` steps, telling of its loss on the way."""
    rng = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(
        clip.parameters(), lr=peak_rate, weight_decay=WEIGHT_DECAY, betas=(0.9, 0.98), fused=True
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    started, total = time.monotonic(), 0.0
    for step, (pictures, texts, same) in enumerate(batches(lesson, rng), 1):
        seen, said, scale = clip(pictures, texts)
        loss = contrast(seen, said, same, scale)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(clip.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        clip.logit_scale.data.clamp_(max=MAX_LOG_SCALE)
        total += loss.item()
        if step % TELL_EVERY == 0:
            spent = time.monotonic() - started
            print(
                f"step {step}: loss {total / TELL_EVERY:.4f}, scale {scale.item():.1f}, {spent:.0f} s",
                flush=True,
            )
            total = 0.0


def open_model(name: str, *, again: bool) -> tuple[Any, Any, Any]:
    """Returns the folder's model, with its weights or `again` without, its transform and its tokenizer."""
    folder = MODELS / name
    folder.mkdir(parents=True, exist_ok=True)
    config = json.dumps(CONFIGS[name], indent=2) + "\n"
    (folder / "open_clip_config.json").write_text(config, encoding="utf-8")
    where = f"local-dir:{folder}"
    clip, _, transform = open_clip.create_model_and_transforms(where, load_weights=not again)
    return clip, transform, open_clip.get_tokenizer(where)


def save(clip: Any, folder: Path) -> None:
    """Writes the weights in half precision, as open_clip's `local-dir:` finds them."""
    weights = {key: value.to(torch.float16).contiguous() for key, value in clip.state_dict().items()}
    path = folder / "open_clip_model.safetensors"
    save_file(weights, path, metadata={"format": "pt"})
    path.chmod(0o644)


def train(name: str, number: int) -> None:
    """Does one round, from 1, of a model's training, from its folder to its folder."""
    started, seed = time.monotonic(), SEEDS[name] + number
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(mode=True)
    clip, transform, tokenizer = open_model(name, again=number == 1)
    print(f"{name}, round {number}: drawing", flush=True)
    lesson = write_lesson(transform, tokenizer, PICTURES, seed)
    used, texts = shrink_vocabulary(clip, lesson.texts)
    learn(clip.train(), replace(lesson, texts=texts), PEAK_RATES[number - 1], seed)
    restore_vocabulary(clip, used)
    save(clip.eval(), MODELS / name)
    print(f"{name}, round {number}: {time.monotonic() - started:.0f} s")


def main() -> None:
    """Trains the models named on the command line, or all, in all rounds or in those named."""
    parser = argparse.ArgumentParser(description="Train the tiny models.")
    parser.add_argument("names", nargs="*", default=list(CONFIGS), help="which models; all if none is named")
    numbers = range(1, len(PEAK_RATES) + 1)
    parser.add_argument("--round", type=int, action="append", choices=numbers, help="may be repeated")
    asked = parser.parse_args()
    for name in asked.names:
        for number in asked.round or range(1, ROUNDS[name] + 1):
            train(name, number)


if __name__ == "__main__":
    main()
