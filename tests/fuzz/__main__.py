"""Fuzzes with atheris, which learns from coverage what to try next.

    python -m tests.fuzz TARGET [--seconds 300] [--corpus FOLDER] [--seed 1]

Begins with the target's own seeds and what is in the folder, and adds to the folder what leads
somewhere new. Ends with 0 when the time is over. An input that fails is written to the working
directory, its traceback to stderr, and the end is not 0.

Of several targets each has the time for itself, one after another, and a file `TARGET.log` in the
working directory for what it says; stdout gets how each ended, as JSON.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any, NoReturn


def main() -> None:
    atheris = importlib.import_module("atheris")  # has no types
    with atheris.instrument_imports(include=["clipmod_cli", "PIL"], enable_loader_override=False):
        from tests.fuzz.targets import TARGETS

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("targets", nargs="+", choices=TARGETS, metavar="TARGET")
    parser.add_argument("--seconds", type=int, default=300)
    parser.add_argument("--corpus")
    parser.add_argument("--seed", type=int, default=1)
    wanted = parser.parse_args()
    warnings.simplefilter("ignore")
    if len(wanted.targets) == 1:
        _fuzz(atheris, wanted.targets[0], wanted)
    # Imports with instruments take longer than a short run, so all runs have the same ones.
    ends = {name: _fuzz_apart(atheris, name, wanted) for name in wanted.targets}
    print(json.dumps(ends))
    sys.exit(any(ends.values()))


def _fuzz_apart(atheris: Any, name: str, wanted: argparse.Namespace) -> int:
    """Return how a process ended that fuzzes this target."""
    process = os.fork()
    if not process:
        log = os.open(f"{name}.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        os.dup2(log, 1)
        os.dup2(log, 2)
        _fuzz(atheris, name, wanted)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def _fuzz(atheris: Any, name: str, wanted: argparse.Namespace) -> NoReturn:
    """Fuzz one target, and end this process."""
    from tests.fuzz.targets import TARGETS, write_seeds

    target = TARGETS[name]
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
    sys.exit()


if __name__ == "__main__":
    main()
