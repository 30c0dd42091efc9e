"""What is known of models without asking anybody: sizes, licences, a line on each.

Only for people to read (`clipmod models list`). What is downloaded is decided by
what the hub has (`clipmod_cli.models.hub.sources`).
"""

from __future__ import annotations

from dataclasses import dataclass

from clipmod_cli.models.specs import ENSEMBLE, NUDENET, Members, ModelSpec, parse_models

SEE_CARD = "see the model card"
_MB, _GB = 10**6, 10**9


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownModel:
    """One line of `clipmod models list`.

    Attributes:
        size: of the download, in bytes, about; None where it is not known for certain.
    """

    spec: str
    about: str
    size: int | None
    licence: str


KNOWN = (
    KnownModel(
        spec="open_clip:ViT-L-14/laion2b_s32b_b82k",
        about="text-image, 0.40 of ensemble and fallback",
        size=int(1.71 * _GB),
        licence="MIT",
    ),
    KnownModel(
        spec="open_clip:ViT-H-14/laion2b_s32b_b79k",
        about="text-image, 0.35 of ensemble",
        size=int(3.94 * _GB),
        licence="MIT",
    ),
    KnownModel(
        spec="open_clip:ViT-g-14/laion2b_s34b_b88k",
        about="text-image, 0.25 of ensemble",
        size=int(5.47 * _GB),
        licence="MIT",
    ),
    KnownModel(
        spec="hf:Falconsai/nsfw_image_detection",
        about="classifier: normal, nsfw",
        size=343 * _MB,
        licence="Apache-2.0",
    ),
    KnownModel(
        spec="hf:LukeJacob2023/nsfw-image-detector",
        about="classifier: drawings, hentai, neutral, porn, sexy",
        size=None,
        licence=SEE_CARD,
    ),
    KnownModel(
        spec="hf:nateraw/vit-age-classifier",
        about="classifier: age of a face, in nine bands",
        size=343 * _MB,
        licence=SEE_CARD,
    ),
    KnownModel(
        spec=NUDENET,
        about="detector, comes with its package",
        size=int(12.2 * _MB),
        licence="AGPL-3.0 (metadata: MIT)",
    ),
)
_BY_SPEC = {model.spec: model for model in KNOWN}


def known(spec: ModelSpec) -> KnownModel | None:
    """Return what is known of this model, if anything is."""
    return _BY_SPEC.get(spec.spec)


def download_size(members: Members) -> int | None:
    """Return the bytes that these members weigh together, about; None if one is unknown."""
    sizes = [model.size if (model := known(member.spec)) else None for member in members]
    return None if None in sizes else sum(size for size in sizes if size is not None)


def ensemble_size() -> int:
    """Return the bytes that the whole ensemble weighs, about."""
    members = parse_models([ENSEMBLE])
    return 0 if members == "auto" else download_size(members) or 0


def human_size(size: int | None) -> str:
    """Return a size as people read it: decimal units, three figures, `-` for None."""
    if size is None:
        return "-"
    value, unit = float(size), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if value < 999.5:
            break
        value, unit = value / 1000, larger
    return f"{size} B" if unit == "B" else f"{value:.3g} {unit}"
