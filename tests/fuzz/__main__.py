"""Fuzzes one target with atheris, which learns from coverage what to try next.

    python -m tests.fuzz TARGET [--seconds 300] [--corpus FOLDER] [--seed 1]

Begins with the target's own seeds and what is in the folder, and adds to the folder what leads
somewhere new. Ends with 0 when the time is over. An input that fails is written to the working
directory, its traceback to stderr, and the end is not 0.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import tempfile
import warnings
from pathlib import Path


def main() -> None:
    atheris = importlib.import_module("atheris")  # has no types
    with atheris.instrument_imports(include=["clipmod_cli", "PIL"], enable_loader_override=False):
        from tests.fuzz.targets import TARGETS, write_seeds

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--seconds", type=int, default=300)
    parser.add_argument("--corpus")
    parser.add_argument("--seed", type=int, default=1)
    wanted = parser.parse_args()
    target = TARGETS[wanted.target]
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        seeds, kept = Path(folder) / "seeds", Path(wanted.corpus or Path(folder) / "kept")
        seeds.mkdir()
        kept.mkdir(exist_ok=True)
        write_seeds(target, seeds)
        options = {
            "max_total_time": wanted.seconds,
            "seed": wanted.seed,
            "max_len": target.longest,
            "timeout": 20,
            "rss_limit_mb": 4096,
            "verbosity": 1,
            "print_final_stats": 1,
        }
        words = [f"-{name}={value}" for name, value in options.items()]
        atheris.Setup([sys.argv[0], *words, str(kept), str(seeds)], target.feed)
        os.environ["PYTHONWARNINGS"] = "ignore"
        atheris.Fuzz()


if __name__ == "__main__":
    main()
