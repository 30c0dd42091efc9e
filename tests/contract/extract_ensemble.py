"""Reads the requests and answers that the ensemble API's document prints, and writes them into the package.

    python -m tests.contract.extract_ensemble PATH/TO/ensemble-nsfw-api.md

The document marks no code: a snippet follows a line such as "Input Example (cURL):" and ends at the next
such line, an answer is the JSON below a line such as "Response:". What lies between two answers and is no
JSON is a stray fragment: it is skipped, and written down with its line under `skipped`.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clipmod_cli.server.apis import printed

KEPT = Path(printed.__file__).parent / "ensemble" / "printed.json"

_SECTION = re.compile(
    r"\d+\. (?:GET|POST) (?P<path>/\S*) - .*|(?:\S+ )?(?P<other>Error Responses|Example Usage)"
)
_MARK = re.compile(
    r"(?:Input Example|(?:Success |Error )?Response|Streaming Response Format|Error Handling)\b.*:.*"
    r"|\d{3} [A-Z][A-Za-z ]+:|(?:Single Image Analysis|Batch Analysis|Health Check):"
)
_LANGUAGES = (("cURL", "curl"), ("Python", "python"), ("JavaScript", "javascript"))
_EVENT = "data: "
_STRAY = re.compile(r"\n([^\n].*)", re.DOTALL)
"""On the very next line: prose has an empty line before it."""


@dataclass
class _Block:
    """What stands below a mark."""

    section: str
    mark: str
    line: int
    lines: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "\n".join(self.lines).strip("\n")


def extract(text: str) -> dict[str, list[dict[str, Any]]]:
    """Return the printed requests, the printed answers, and the fragments that belong to neither."""
    found: dict[str, list[dict[str, Any]]] = {"requests": [], "answers": [], "skipped": []}
    for block in _blocks(text):
        place = {"section": block.section, "mark": block.mark, "line": block.line}
        if language := _language_of(block):
            found["requests"].append({**place, "language": language, "text": block.text})
        elif block.text.startswith(_EVENT):
            found["answers"].append({**place, "answer": _events(block.text)})
        elif block.text.startswith("{"):
            answer, end = json.JSONDecoder().raw_decode(block.text)
            found["answers"].append({**place, "answer": answer})
            if stray := _STRAY.match(block.text[end:]):
                line = block.line + _blank_lines(block) + block.text[:end].count("\n") + 2
                found["skipped"].append({"section": block.section, "line": line, "text": stray[1]})
    return found


def _blocks(text: str) -> Iterator[_Block]:
    section, block = "", None
    for number, line in enumerate(text.splitlines(), 1):
        title = _SECTION.fullmatch(line)
        if title or _MARK.fullmatch(line):
            if block:
                yield block
            section = (title["path"] or title["other"]) if title else section
            block = None if title else _Block(section, line, number)
        elif block:
            block.lines.append(line)
    if block:
        yield block


def _language_of(block: _Block) -> str | None:
    for name, language in _LANGUAGES:
        if f"({name}" in block.mark:
            return language
    if not block.text.startswith("curl "):
        return None
    block.lines = block.text.partition("\n\n")[0].split("\n")  # prose may follow it
    return "curl"


def _events(text: str) -> list[Any]:
    return [json.loads(line.removeprefix(_EVENT)) for line in text.splitlines() if line.startswith(_EVENT)]


def _blank_lines(block: _Block) -> int:
    """Return how many empty lines stand above the text."""
    return next(i for i, line in enumerate(block.lines) if line)


def main() -> None:
    """Write the file."""
    source = Path(sys.argv[1])
    kept = {"source": source.name, **extract(source.read_text(encoding="utf-8"))}
    KEPT.write_text(json.dumps(kept, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
