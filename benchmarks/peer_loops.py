"""What `benchmarks.peers` measures: pairs of a peer's own way and clipmod's, with the same weights."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from clipmod_cli.bench.models import BenchModels, with_bench_policy
from clipmod_cli.bench.pictures import items_of
from clipmod_cli.bench.stages import run_once
from clipmod_cli.ensemble.cache import DUPLICATE_CACHE_BYTES
from clipmod_cli.ensemble.ensemble import Ensemble, Member
from clipmod_cli.models import nudenet
from clipmod_cli.models.device.device import Placement, place
from clipmod_cli.models.open_clip import architecture
from clipmod_cli.models.open_clip.architecture import RandomModel, RandomState, architecture_of
from clipmod_cli.models.seam import Model
from clipmod_cli.models.specs import ENSEMBLE, FALLBACK, ModelSpec, parse_models
from clipmod_cli.models.tower.shape import shape_of, state_of
from clipmod_cli.pipeline import Options, start_decoders

__all__ = ["Placement", "classifier", "detector", "ensemble", "retrieval", "vit_l"]

CLASSES = 4
"""Of the loop's softmax."""

STARTS_ANEW = frozenset({"clip-retrieval"})
"""Peers that are commands: what they take for one picture is their start, and no part of a comparison."""

RETRIEVAL = [sys.executable]
"""The interpreter of an environment that has clip-retrieval."""

Side = Callable[[Sequence[Path]], None]


@dataclass(frozen=True)
class Tower:
    """One architecture with the same numbers for both sides.

    Attributes:
        visual: open_clip's own module, float32.
        preprocess: open_clip's own transform.
        model: clipmod's.
    """

    visual: torch.nn.Module
    preprocess: Callable[[Image.Image], torch.Tensor]
    model: RandomModel


def tower_of(spec: ModelSpec, placement: Placement) -> Tower:
    from open_clip.transform import PreprocessCfg, image_transform_v2

    found = architecture_of(spec)
    shape = shape_of(found.visual)
    if shape is None:
        raise SystemExit(f"{spec.spec} is no standard transformer")
    visual = found.visual.to_empty(device="cpu")
    numbers = RandomState(shape)
    for name, tensor in state_of(visual).items():
        tensor.copy_(numbers[name])
    model = architecture.load(spec, name=spec.short_name, placement=placement)
    transform = image_transform_v2(PreprocessCfg(**found.preprocess), is_train=False)
    visual = visual.to(placement.device).eval()
    return Tower(visual, transform, model)


@contextmanager
def vit_l(folder: Path) -> Iterator[tuple[Side, Side]]:
    """Give the loop of open_clip's README with ViT-L-14, and clipmod with it alone."""
    with _towers([FALLBACK], folder) as sides:
        yield sides


@contextmanager
def ensemble(folder: Path) -> Iterator[tuple[Side, Side]]:
    """Give the same loop over the ensemble's three models, and clipmod with them."""
    with _towers([ENSEMBLE], folder) as sides:
        yield sides


@contextmanager
def _towers(models: Sequence[str], folder: Path) -> Iterator[tuple[Side, Side]]:
    placement = place("auto", "auto")
    members = parse_models(models)
    if members == "auto":
        raise SystemExit("name the models")
    towers = [tower_of(member.spec, placement) for member in members]
    weights = [member.weight for member in members]

    def theirs(paths: Sequence[Path]) -> None:
        for path in paths:
            readme(towers, path, placement.device)

    with _clipmod([tower.model for tower in towers], weights, placement, folder) as ours:
        yield theirs, ours


def readme(towers: Sequence[Tower], path: Path, device: torch.device) -> list[list[float]]:
    """Classify a picture as open_clip's README does, by each tower; it is decoded once.

    On a CPU the README's line on autocast does nothing.
    """
    with Image.open(path) as picture:
        return [_classify(tower, picture, device) for tower in towers]


def _classify(tower: Tower, picture: Image.Image, device: torch.device) -> list[float]:
    image = tower.preprocess(picture).unsqueeze(0).to(device)
    texts = torch.eye(CLASSES, tower.model.width, device=device)
    with torch.no_grad(), torch.autocast("cuda") if device.type == "cuda" else nullcontext():
        features = tower.visual(image)
        features /= features.norm(dim=-1, keepdim=True)
        shares: list[float] = (100.0 * features @ texts.T).softmax(dim=-1)[0].tolist()
    return shares


@contextmanager
def classifier(folder: Path) -> Iterator[tuple[Side, Side]]:
    """Give transformers' pipeline, called with a file at a time, and clipmod with the same folder."""
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor, pipeline

    from clipmod_cli.models import transformers

    placement = place("auto", "auto")
    with tempfile.TemporaryDirectory(dir=folder) as saved:
        torch.manual_seed(0)
        names = {0: "normal", 1: "nsfw"}
        config = ViTConfig(id2label=names, label2id={name: i for i, name in names.items()})
        ViTForImageClassification(config).save_pretrained(saved)
        half = [0.5] * 3
        ViTImageProcessor(
            size={"height": 224, "width": 224}, image_mean=half, image_std=half
        ).save_pretrained(saved)
        peer: Any = pipeline("image-classification", model=saved, device=placement.device)
        own = transformers.load(Path(saved), name="vit", spec="hf:vit", placement=placement)

    def theirs(paths: Sequence[Path]) -> None:
        for path in paths:
            peer(str(path))

    with _clipmod([own], [1.0], placement, folder) as ours:
        yield theirs, ours


@contextmanager
def detector(folder: Path) -> Iterator[tuple[Side, Side]]:
    """Give `NudeDetector.detect`, called with a file at a time, and clipmod with the same detector."""
    placement = place("auto", "auto")
    own = nudenet.load(name="nudenet", spec="nudenet", device=str(placement.device))
    from nudenet import NudeDetector  # after ours, which keeps its runtime from reporting to its maker

    peer = NudeDetector()

    def theirs(paths: Sequence[Path]) -> None:
        for path in paths:
            peer.detect(str(path))

    with _clipmod([own], [1.0], placement, folder) as ours:
        yield theirs, ours


@contextmanager
def retrieval(folder: Path) -> Iterator[tuple[Side, Side]]:
    """Give clip-retrieval's own command over a folder with ViT-L-14, and clipmod with ViT-L-14.

    It starts anew in each run and loads its model, with weights that it downloads itself. Whoever measures
    it takes off a run over one picture (`STARTS_ANEW`); give it thousands of pictures all the same.
    """
    placement = place("auto", "auto")
    (member,) = (m for m in parse_models([FALLBACK]) if not isinstance(m, str))
    tower = tower_of(member.spec, placement)

    def theirs(paths: Sequence[Path]) -> None:
        with tempfile.TemporaryDirectory(dir=folder) as place_:
            pictures, output = Path(place_) / "in", Path(place_) / "out"
            pictures.mkdir()
            for path in paths:
                (pictures / path.name).hardlink_to(path)
            subprocess.run(
                [
                    *RETRIEVAL, "-m", "clip_retrieval.cli", "inference",
                    f"--input_dataset={pictures}", f"--output_folder={output}",
                    f"--clip_model=open_clip:{member.spec.arch}", "--enable_text=False",
                ],
                check=True,
                stdout=subprocess.DEVNULL,
            )  # fmt: skip

    with _clipmod([tower.model], [1.0], placement, folder) as ours:
        yield theirs, ours


def has_retrieval() -> bool:
    """Return whether clip-retrieval is where it is looked for."""
    asked = [*RETRIEVAL, "-c", "import clip_retrieval"]
    return subprocess.run(asked, check=False, stderr=subprocess.DEVNULL).returncode == 0


@contextmanager
def _clipmod(
    models: Sequence[Model], weights: Sequence[float], placement: Placement, folder: Path
) -> Iterator[Side]:
    batch = nudenet.BATCH if models[0].name == "nudenet" and len(models) == 1 else placement.batch_size
    members = [Member(model, weight) for model, weight in zip(models, weights, strict=True)]
    loaded: BenchModels = with_bench_policy(
        Ensemble(members=members, dtype=placement.dtype_name, batch_size=batch), placement
    )
    with start_decoders(Options(isolate=True)) as decoders:

        def ours(paths: Sequence[Path]) -> None:
            # as `scan` does, but for its store and its cache of earlier runs
            options = Options(
                decoders=decoders, infer_ahead=True, duplicate_cache_bytes=DUPLICATE_CACHE_BYTES
            )
            done = run_once(items_of(paths, len(paths)), loaded, options, folder / "records.jsonl")
            if done.errors:
                raise SystemExit(f"{done.errors} pictures could not be judged")

        yield ours
