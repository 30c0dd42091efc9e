"""What it costs to judge stored evidence by another policy: its scores alone, and full records.

    python -m benchmarks.evidence [--stills 1000000] [--policy nsfw] [--threads 1]
        [--folder DIR] [--only records]

Stores evidence of N stills by the writer of `clipmod scan --evidence`, with random embeddings of the
ensemble's dimensions (768, 1024 and 1024 float16 numbers: 5.6 kB a still), and judges it three times, each in
a process of its own, start included. Prompts were embedded before, by random text towers of one small layer.

    scores    the scores of all stills by one policy, as `policies diff` takes them
    diff      clipmod policies diff POLICY general --evidence EV: the scores by two policies
    records   clipmod rescore EV --policy POLICY -o new.jsonl: a line for each still

Prints a line of JSON for each: CPU seconds, seconds, and the resident megabytes after a fifth of the time,
after four fifths, and at most. Evidence is kept and used again with `--folder`, and else removed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import psutil

from clipmod_cli import load_ensemble, load_policy
from clipmod_cli.assemble import fetcher
from clipmod_cli.cli.run import open_evidence
from clipmod_cli.ensemble.ensemble import Ensemble
from clipmod_cli.evidence.folder import open_folder
from clipmod_cli.evidence.scores import score_parts
from clipmod_cli.evidence.stored_models import stored_models
from clipmod_cli.judge.prepare import criteria_of, prepare
from clipmod_cli.models.hub.client import Hub
from clipmod_cli.settings.definition import Settings
from clipmod_cli.types import Box, Embedding, Evidence, Item, Media, View

MEMBERS = {"ViT-L-14": (768, 0.40), "ViT-H-14": (1024, 0.35), "ViT-g-14": (1024, 0.25)}
"""The embeddings' dimensions and the weights of the ensemble."""
OTHER_POLICY = "general"
AT_ONCE = 4_096
WAIT_S = 0.1
THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stills", type=int, default=1_000_000)
    parser.add_argument("--policy", default="nsfw")
    parser.add_argument("--folder", type=Path, help="where the evidence is kept, or is already")
    parser.add_argument("--threads", type=int, help="of the matrix products; all cores if left out")
    parser.add_argument("--only", default="scores,diff,records", help="which of the three")
    parser.add_argument("--score", type=Path, help=argparse.SUPPRESS)
    wanted = parser.parse_args()
    if wanted.score:
        _score(wanted.score, wanted.policy)
        return
    with tempfile.TemporaryDirectory(dir=wanted.folder and wanted.folder.parent) as scratch:
        folder = wanted.folder or Path(scratch, "kept")
        os.environ |= {"XDG_CACHE_HOME": str(folder / "cache"), "XDG_DATA_HOME": scratch}
        if wanted.threads:
            os.environ |= dict.fromkeys(THREADS, str(wanted.threads))
        if not (folder / "EV").exists():
            print(
                f"storing {wanted.stills} stills took {_store(folder, wanted.stills, wanted.policy):.0f} s",
                file=sys.stderr,
            )
        commands = _commands(folder / "EV", Path(scratch), wanted.policy)
        for name in wanted.only.split(","):
            print(
                json.dumps({"measured": name, "threads": wanted.threads, **_run(commands[name])}), flush=True
            )


def _store(folder: Path, stills: int, policy: str) -> float:
    """Store the evidence of some stills; return how long it took, in seconds."""
    start = time.perf_counter()
    specs = [
        f"open_clip:local-dir:{_model(folder / name, size)}={weight}"
        for name, (size, weight) in MEMBERS.items()
    ]
    ensemble = load_ensemble(specs, load_policy(policy), device="cpu", dtype="float32", offline=True)
    for name in (policy, OTHER_POLICY):  # embeds the prompts
        prepare(ensemble, load_policy(name), threshold=0.5)
    settings = Settings(evidence=str(folder / "EV"))
    writer = open_evidence(settings, "/srv/uploads", ensemble, load_policy(policy))
    try:
        rng = np.random.default_rng(0)
        for first in range(0, stills, AT_ONCE):
            for evidence in _evidence(ensemble, first, min(AT_ONCE, stills - first), rng):
                writer.add(evidence)
                writer.finish(evidence.item)
    finally:
        writer.close()
    return time.perf_counter() - start


def _model(folder: Path, size: int) -> Path:
    """Write a text-image model with embeddings of this size: one small layer a tower, random weights."""
    import open_clip
    from safetensors.torch import save_file

    folder.mkdir(parents=True)
    tower = {"layers": 1, "width": 64}
    config = {
        "embed_dim": size,
        "vision_cfg": {**tower, "image_size": 32, "head_width": 32, "patch_size": 8},
        "text_cfg": {**tower, "context_length": 77, "vocab_size": 49_408, "heads": 2},
    }
    half = [0.5, 0.5, 0.5]
    preprocess = {
        "size": [32, 32], "mode": "RGB", "mean": half, "std": half, "interpolation": "bicubic",
        "resize_mode": "shortest", "fill_color": 0,
    }  # fmt: skip
    text = json.dumps({"model_cfg": config, "preprocess_cfg": preprocess})
    (folder / "open_clip_config.json").write_text(text, encoding="utf-8")
    clip = open_clip.create_model(f"local-dir:{folder}", load_weights=False)
    weights = {key: value.contiguous() for key, value in clip.state_dict().items()}
    save_file(weights, folder / "open_clip_model.safetensors", metadata={"format": "pt"})
    return folder


def _evidence(ensemble: Ensemble, first: int, count: int, rng: np.random.Generator) -> list[Evidence]:
    vectors = {}
    for member in ensemble.members:
        drawn = rng.standard_normal((count, MEMBERS[member.model.name][0]), dtype=np.float32)
        vectors[member.model.name] = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
    found = []
    for number in range(count):
        index = first + number
        item = Item(source=f"photos/{index // 1000:04}/{index}.jpg", index=index)
        media = Media(
            started=0.0, sha256=f"{index:064x}", bytes=79_155, mtime_ns=17 * 10**17, width=512, height=384,
            format="JPEG", coverage=1.0, views=1, decode_time_ms=4.2,
        )  # fmt: skip
        seen = {name: Embedding(vector=vector[number]) for name, vector in vectors.items()}
        view = View(box=Box(0, 0, 512, 384), scale=1.7)
        one = Evidence(
            item=item, media=media, number=0, time_s=0.0, last=True, view=view, seen=seen,
            forward_ms=dict.fromkeys(seen, 900.0),
        )  # fmt: skip
        found.append(one)
    return found


def _commands(evidence: Path, scratch: Path, policy: str) -> Mapping[str, Sequence[str]]:
    clipmod = [sys.executable, "-m", "clipmod_cli"]
    return {
        "scores": [sys.executable, "-m", "benchmarks.evidence", "--score", str(evidence), "--policy", policy],
        "diff": [*clipmod, "policies", "diff", policy, OTHER_POLICY, "--evidence", str(evidence), "--json"],
        "records": [
            *clipmod,
            "rescore",
            str(evidence),
            "--policy",
            policy,
            "-q",
            "-o",
            str(scratch / "new.jsonl"),
        ],
    }


def _score(folder: Path, name: str) -> None:
    """Score all stills of a folder by a policy, in this process."""
    stored, policy = open_folder(folder), load_policy(name)
    models = stored_models(stored.identity, fetcher(Hub.from_environment(offline=True)))
    criteria = criteria_of(models, policy, threshold=policy.threshold_for("medium"), degraded=False)
    counts = [(len(part.rows), int(part.nsfw.sum())) for part in score_parts(stored, criteria)]
    print("{} stills, {} NSFW".format(*map(sum, zip(*counts, strict=True))))


def _run(words: Sequence[str]) -> dict[str, float]:
    """Run a command; return what it took."""
    start, sizes = time.perf_counter(), []
    with subprocess.Popen(words, stdout=subprocess.DEVNULL) as process:
        watched = psutil.Process(process.pid)
        while True:
            pid, status, used = os.wait4(process.pid, os.WNOHANG)
            if pid:
                break
            sizes.append(watched.memory_info().rss)
            time.sleep(WAIT_S)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{words} ended with {process.returncode}")
    return {
        "cpu_s": round(used.ru_utime + used.ru_stime, 1),
        "s": round(time.perf_counter() - start, 1),
        "mb_after_a_fifth": round(sizes[len(sizes) // 5] / 1e6),
        "mb_after_four_fifths": round(sizes[len(sizes) * 4 // 5] / 1e6),
        "mb_at_most": round(max(sizes) / 1e6),
    }


if __name__ == "__main__":
    main()
