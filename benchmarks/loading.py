"""From nothing to a first verdict: how long a start takes and how much memory, by what is kept on disk.

    python -m benchmarks.loading [--arch ViT-L-14] [--rounds 3] [--dtypes bfloat16,float32]

Writes seeded random weights in float32 to a temporary folder, and starts processes over it:

    first       nothing is kept: the text tower embeds the policy's prompts, what can be kept is kept
    prompts     the prompts are kept, the tower is not
    warm        both are kept: every later start
    cold        the same, with the files out of the page cache where the system allows that

Prints one JSON object; times are medians. Processor time is steadier than time where others are at work.
`resident_mb` is what a process holds beyond one that has only imported torch, after its first picture.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

START = """
import json, resource, sys, time
began = time.perf_counter()
import torch
import numpy as np
from clipmod_cli.assemble import load_ensemble
from clipmod_cli.judge.policy.reading import load_policy
from clipmod_cli.judge.prepare import prepare

def resident():
    with open("/proc/self/smaps_rollup") as told:
        return next(int(line.split()[1]) for line in told if line.startswith("Rss:")) / 1e3

idle, imported = resident(), time.perf_counter() - began
policy = load_policy("nsfw")
ensemble = load_ensemble("open_clip:local-dir:" + sys.argv[1], policy, device="cpu", dtype=sys.argv[2])
prepare(ensemble, policy, threshold=0.5)
ready, used = time.perf_counter() - began, time.process_time()
model = ensemble.members[0].model
height, width = model.view.crop
picture = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
model.submit([type("Looked", (), {"views": {model.view: picture}})()])()
print(json.dumps({
    "import_s": imported,
    "ready_s": ready,
    "ready_cpu_s": used,
    "verdict_s": time.perf_counter() - began,
    "resident_mb": resident() - idle,
    "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
    "open_clip_imported": "open_clip" in sys.modules,
}))
"""
"""What a start does, without decoding: a process of its own."""

SETTLE_S = 4
"""A file that was just written is hashed anew at each start; so long it has to lie."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--arch", default="ViT-L-14")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dtypes", default="bfloat16,float32")
    parser.add_argument("--folder", type=Path, help="where to write the weights (default: a temporary one)")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=wanted.folder) as place:
        weights = _save(Path(place) / "model", wanted.arch)
        told: dict[str, Any] = {"arch": wanted.arch, "cores": os.cpu_count(), "rounds": wanted.rounds}
        told["weights_mb"] = round(weights.stat().st_size / 1e6)
        for dtype in wanted.dtypes.split(","):
            told[dtype] = _measure(weights, dtype, wanted.rounds, Path(place) / f"cache-{dtype}")
    print(json.dumps(told, indent=1))


def _save(folder: Path, arch: str) -> Path:
    """Write a model folder in a process of its own, and return its weights."""
    script = (
        "import json, sys, torch, open_clip; from pathlib import Path\n"
        "from safetensors.torch import save_file\n"
        "arch, folder = sys.argv[1], Path(sys.argv[2]); folder.mkdir(); torch.manual_seed(0)\n"
        "model = open_clip.create_model(arch)\n"
        "config = {'model_cfg': open_clip.get_model_config(arch),"
        " 'preprocess_cfg': model.visual.preprocess_cfg}\n"
        "(folder / 'open_clip_config.json').write_text(json.dumps(config))\n"
        "tensors = {name: one.contiguous() for name, one in model.state_dict().items()}\n"
        "save_file(tensors, folder / 'open_clip_model.safetensors')\n"
    )
    subprocess.run([sys.executable, "-c", script, arch, str(folder)], check=True, stderr=subprocess.DEVNULL)
    return folder / "open_clip_model.safetensors"


def _measure(weights: Path, dtype: str, rounds: int, cache: Path) -> dict[str, Any]:
    time.sleep(SETTLE_S)
    first = _start(weights, dtype, cache)
    prompts, warm, cold = [], [], []
    for _ in range(rounds):
        shutil.rmtree(cache / "clipmod" / "towers")
        prompts.append(_start(weights, dtype, cache))
        warm.append(_start(weights, dtype, cache))
        for path in (weights, *cache.rglob("*.safetensors")):
            _forget(path)
        cold.append(_start(weights, dtype, cache))
    kept = sum(path.stat().st_size for path in cache.rglob("*.safetensors"))
    states = {"prompts": _median(prompts), "warm": _median(warm), "cold": _median(cold)}
    return {"tower_file_mb": round(kept / 1e6, 1), "first": _median([first]), **states}


def _start(weights: Path, dtype: str, cache: Path) -> dict[str, Any]:
    command = [sys.executable, "-c", START, str(weights.parent), dtype]
    own = {**os.environ, "XDG_CACHE_HOME": str(cache)}
    done = subprocess.run(command, env=own, capture_output=True, text=True, timeout=600, check=True)
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def _forget(path: Path) -> None:
    """Have the system drop a file's pages from memory."""
    if hasattr(os, "posix_fadvise"):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


def _median(starts: list[dict[str, Any]]) -> dict[str, Any]:
    return {name: round(statistics.median(one[name] for one in starts), 2) for name in starts[0]}


if __name__ == "__main__":
    main()
