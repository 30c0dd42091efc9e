"""What the extraction takes from a document, and what it leaves."""

from __future__ import annotations

import json

from tests.contract.extract_ensemble import KEPT, extract

DOCUMENT = """
4. POST /predict/single - One

Purpose: to show

Input Example (cURL):

curl -X POST "http://localhost/predict/single" \\
  -F "file=@a.jpg"

Input Example (Python):

import requests

response = requests.post(url)

Success Response:

{
  "a": [1]
}

Error Response:

{"detail": "x"}
    "a": 2
  }
}

Error Handling:

  • prose
7. POST /predict/streaming - Many

Streaming Response Format: Each line is prefixed:

data: {"a": 1}

data: {"type": "summary"}

🚨 Error Responses

413 Payload Too Large:

{"detail": "y"}

Prose: that belongs to nothing

📝 Example Usage

Health Check:

curl -X GET "http://localhost/health"

More prose
"""


def test_snippets_answers_and_what_is_left() -> None:
    found = extract(DOCUMENT)
    assert [(one["section"], one["language"], one["text"]) for one in found["requests"]] == [
        (
            "/predict/single",
            "curl",
            'curl -X POST "http://localhost/predict/single" \\\n  -F "file=@a.jpg"',
        ),
        ("/predict/single", "python", "import requests\n\nresponse = requests.post(url)"),
        ("Example Usage", "curl", 'curl -X GET "http://localhost/health"'),
    ]
    assert [(one["section"], one["answer"]) for one in found["answers"]] == [
        ("/predict/single", {"a": [1]}),
        ("/predict/single", {"detail": "x"}),
        ("/predict/streaming", [{"a": 1}, {"type": "summary"}]),
        ("Error Responses", {"detail": "y"}),
    ]
    (stray,) = found["skipped"]
    assert DOCUMENT.splitlines()[stray["line"] - 1] == '    "a": 2'
    assert stray["text"] == '    "a": 2\n  }\n}'


def test_the_kept_file_names_its_source() -> None:
    kept = json.loads(KEPT.read_text(encoding="utf-8"))
    assert kept["source"] == "ensemble-nsfw-api.md"
