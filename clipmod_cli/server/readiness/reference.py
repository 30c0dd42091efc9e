"""The reference picture, judged to see whether the line works. What the models see in it decides nothing.

It goes through decoders and models as pictures of requests do, but leaves no row, file or count.
"""

from __future__ import annotations

import io
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
from PIL import Image

from clipmod_cli.pipeline import Options, run
from clipmod_cli.results import Result
from clipmod_cli.server.device_thread import Caller, DeviceThread, Ending, SharedEnsemble
from clipmod_cli.server.panels import Panel
from clipmod_cli.types import Failure, Item, Verdict

log = logging.getLogger(__name__)

SIDE: Final = 96
"""Pixels: one view for every model, and no more."""

NAME: Final = "the reference picture"


def draw_reference() -> bytes:
    """Return the picture as JPEG: grey waves with one sharp edge, so that no model sees an empty input."""
    across, down = np.meshgrid(np.arange(SIDE), np.arange(SIDE))
    levels = 128 + 60 * np.sin(across / 9) * np.cos(down / 13) + 40 * (across > down)
    file = io.BytesIO()
    Image.fromarray(levels.clip(0, 255).astype(np.uint8)).convert("RGB").save(file, "JPEG", quality=90)
    return file.getvalue()


@dataclass(frozen=True, slots=True)
class LineStatus:
    """What became of the reference picture.

    Attributes:
        fault: why it has no verdict, without a detail of this machine; None if it has one.
        degraded: a model that should have judged it failed.
        detail: the fault for the log.
    """

    fault: str | None = None
    degraded: bool = False
    detail: str = field(default="", compare=False)


@dataclass(frozen=True)
class LineCheck:
    """Judges the reference picture by every panel, the one that judges first.

    It has no deadline of its own: behind much work it waits its turn. `ending` ends it.
    """

    panels: Sequence[Panel]
    options: Options
    device: DeviceThread
    ending: Ending = field(default_factory=Ending)
    data: bytes = field(default_factory=draw_reference, repr=False)

    def __call__(self, copies: int = 1) -> LineStatus:
        """Return what became of the picture; blocks, raises nothing.

        Args:
            copies: how often the first panel judges it at once; as many as there are decoding workers
                start all of them.
        """
        first, *others = self.panels
        status = self._judge(first, copies)
        if status.fault is None and any(self._judge(other, 1).fault for other in others):
            return LineStatus(degraded=True)
        return status

    def _judge(self, panel: Panel, copies: int) -> LineStatus:
        items = [Item(source=NAME, index=index, data=self.data) for index in range(copies)]
        caller = Caller(panel.ensemble, ending=self.ending)
        options = replace(self.options, early_exit=False)  # every model has to see it
        start = time.perf_counter()
        try:
            shared = SharedEnsemble(self.device, caller)
            results = list(run(items, shared, panel.criteria, options, stopped=lambda: caller.cancelled))
        except Exception:  # whatever it is, the line does not work
            log.exception("%s cannot be judged by %s", NAME, panel.key)
            return _failed("internal_error", "")
        finally:
            caller.cancel()
        log.debug("%s was judged by %s in %.3f s", NAME, panel.key, time.perf_counter() - start)
        return _status_of(panel, results, copies)


def _failed(code: str, message: str) -> LineStatus:
    return LineStatus(f"{NAME} cannot be judged ({code})", detail=message)


def _status_of(panel: Panel, results: Sequence[Result], copies: int) -> LineStatus:
    for failed in (one for one in results if isinstance(one, Failure)):
        return _failed(failed.code, f"{panel.key}: {failed.message}")
    if len(results) < copies:
        return _failed("deadline", "the service is ending")
    stood_in = any(isinstance(one, Verdict) and one.deciding.stand_in for one in results)
    return LineStatus(degraded=stood_in and not panel.stand_in)
