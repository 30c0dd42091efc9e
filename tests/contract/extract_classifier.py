"""Reads the requests and answers that the classifier API's document prints, and writes them into the package.

    python -m tests.contract.extract_classifier PATH/TO/image-video-classification.md

Nothing is changed but `value`, which stands for a number in one printed answer: it becomes 0.5.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

from clipmod_cli.server.apis import printed

KEPT = Path(printed.__file__).parent / "classifier" / "printed.json"
_PIECE = re.compile(r"^#+ ([^\n]+)$|^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def extract(text: str) -> list[dict[str, Any]]:
    """Return each printed request with its section and with the answer printed after it, if there is one."""
    found: list[dict[str, Any]] = []
    title = ""
    for piece in _PIECE.finditer(text):
        heading, kind, body = piece.groups()
        title = heading or title
        if kind == "sh":
            found.append({"section": title, "request": body.strip(), "answer": None})
        elif kind == "json" and found:
            found[-1]["answer"] = json.loads(re.sub(r": value\b", ": 0.5", body))
    return found


def main() -> None:
    """Write the file."""
    source = Path(sys.argv[1])
    kept = {"source": source.name, "examples": extract(source.read_text(encoding="utf-8"))}
    KEPT.write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
