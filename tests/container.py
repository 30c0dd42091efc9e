"""Reads the Dockerfile and the compose file, for the tests of what they promise."""

from __future__ import annotations

import itertools
import shlex
import tomllib
from importlib import import_module
from pathlib import Path
from typing import Any, Final, NamedTuple

ROOT: Final = Path(__file__).parent.parent
VOLUMES: Final = {"/weights", "/data"}


class Instruction(NamedTuple):
    name: str
    argument: str


def dockerfile() -> list[Instruction]:
    """The instructions, continued lines joined."""
    lines = (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()
    text = "\n".join(line for line in lines if not line.lstrip().startswith("#"))
    joined = text.replace("\\\n", " ").splitlines()
    return [Instruction(*line.split(maxsplit=1)) for line in joined if line.strip()]


def stage(name: str) -> list[Instruction]:
    """The instructions of one stage, its FROM first."""
    steps = dockerfile()
    starts = [i for i, step in enumerate(steps) if step.name == "FROM"] + [len(steps)]
    stages = [steps[a:b] for a, b in itertools.pairwise(starts)]
    return next(s for s in stages if s[0].argument.endswith(f" AS {name}"))


def arguments(steps: list[Instruction], name: str) -> list[str]:
    return [step.argument for step in steps if step.name == name]


def environment(steps: list[Instruction]) -> dict[str, str]:
    words = [word for argument in arguments(steps, "ENV") for word in shlex.split(argument)]
    return dict(word.split("=", 1) for word in words)


def project() -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return found


def compose() -> dict[str, Any]:
    yaml: Any = import_module("yaml")
    found: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    return found
