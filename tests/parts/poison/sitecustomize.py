"""Loaded by each Python process with this folder in PYTHONPATH: an input named `poison` ends its worker."""

from __future__ import annotations

import os
import signal
import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

POISONED = "clipmod_cli.runs.loaded"


class _Poisoning(Loader):
    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def create_module(self, _: ModuleSpec) -> ModuleType | None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        record = module.LoadedRun.record

        def poisoned(self: Any, result: Any, **options: Any) -> Any:
            if "poison" in result.item.source and getattr(result, "code", None) != "worker_lost":
                os.kill(os.getpid(), signal.SIGKILL)
            return record(self, result, **options)

        module.LoadedRun.record = poisoned


class _Finder(MetaPathFinder):
    def find_spec(self, name: str, path: Any, target: ModuleType | None = None) -> ModuleSpec | None:
        if name != POISONED:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None:
            spec.loader = _Poisoning(spec.loader)
        return spec


sys.meta_path.insert(0, _Finder())
