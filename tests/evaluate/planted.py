"""Stored evidence of many inputs, made from that of a few: embeddings between those of pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from clipmod_cli.evidence.folder import open_folder, write_part
from clipmod_cli.evidence.rows import ItemEvidence, to_row
from clipmod_cli.types import Box, Embedding, Evidence, Item, Media, View

NOISE: Final = 0.5
"""Length of what is random in an embedding, beside 1 for the rest."""


def plant(folder: Path, positive: Sequence[bool], *, seed: int = 5, in_groups_of: int = 1) -> list[str]:
    """Add stills to a folder of evidence of one text-image model, and return their hashes.

    Args:
        folder: evidence of pictures, one of which is named red-circle.
        positive: by still, whether it is more like that one than like the others, as a rule.
        seed: of what is random.
        in_groups_of: so many stills in a row are near-duplicates with hashes of their own, others are not.
    """
    stored = open_folder(folder)
    (member,) = stored.identity.members
    rng = np.random.default_rng(seed)
    seen = {Path(one.item.source).stem: one.views[0].seen[member.name] for one in stored if one.views}
    vectors = {name: one.vector for name, one in seen.items() if isinstance(one, Embedding)}
    red = vectors.pop("red-circle")
    others = list(vectors.values())
    rows, matrix, hashes = [], list[NDArray[np.float16]](), []
    base = red
    for number, is_red in enumerate(positive):
        if number % in_groups_of == 0:
            share = rng.beta(5, 3) if is_red else rng.beta(3, 5)
            mixed = share * red + (1 - share) * others[number % len(others)]
            base = _unit(_unit(mixed) + NOISE * _unit(rng.standard_normal(len(red))))
        vector = _unit(base + 0.01 * _unit(rng.standard_normal(len(red))))
        matrix.append(vector.astype(np.float16))
        hashes.append(f"{seed:032x}{number:032x}")
        rows.append(to_row(_still(number, hashes[-1], member.name, vector), [member], number))
    write_part(folder, rows, {member.name: np.stack(matrix)})
    return hashes


def _unit(vector: NDArray[np.floating]) -> NDArray[np.float32]:
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def _still(number: int, sha256: str, model: str, vector: NDArray[np.float32]) -> ItemEvidence:
    item = Item(source=f"planted/{sha256}.png", index=number)
    media = Media(started=0.0, kind="image", sha256=sha256, coverage=1.0, width=64, height=64, format="PNG")
    seen = Evidence(
        item=item,
        media=media,
        number=0,
        time_s=0.0,
        last=True,
        view=View(box=Box(0, 0, 64, 64)),
        seen={model: Embedding(vector=vector)},
        forward_ms={model: 0.0},
    )
    return ItemEvidence(item=item, media=media, views=[seen])
