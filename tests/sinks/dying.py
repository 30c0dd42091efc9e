"""A run that dies as it completes its table: `python -m tests.sinks.dying OUTPUT STEP`.

STEP is how many files appear by rename or go before it dies.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from clipmod_cli.output.base import sink_for
from clipmod_cli.output.resuming.resume import ResumeOptions
from tests.sinks.outputs import KEY, URLS, line_of


def main(output: str, step: str) -> None:
    left = int(step)

    def dying(call: Callable[..., Any]) -> Callable[..., Any]:
        def die_or_call(*words: Any, **options: Any) -> Any:
            nonlocal left
            if left == 0:
                os._exit(9)
            left -= 1
            return call(*words, **options)

        return die_or_call

    sink = sink_for(output)(Path(output), ResumeOptions(conditions=URLS))
    done = sink.begin(KEY)
    for source in ("a", "b", "c")[done.count :]:
        sink.write(None, line_of(source))  # type: ignore[arg-type]
    sink.close()
    Path.replace = dying(Path.replace)  # type: ignore[method-assign]
    Path.unlink = dying(Path.unlink)  # type: ignore[method-assign]
    sink.complete()


if __name__ == "__main__":
    main(*sys.argv[1:])
