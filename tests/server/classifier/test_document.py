"""Every request that the classifier API's document prints works, and answers in the printed shape."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.contract.curl import Curl, read_curl
from tests.contract.extract_classifier import KEPT
from tests.server.classifier.making import gif, plain, png
from tests.video.films import write_film

EXAMPLES: list[dict[str, Any]] = json.loads(KEPT.read_text(encoding="utf-8"))["examples"]
FORM_TYPE = "multipart/form-data"


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A short MP4."""
    path = tmp_path_factory.mktemp("film") / "1.mp4"
    return write_film(path, [plain(colour) for colour in ("blue", "red")]).read_bytes()


def send(client: TestClient, curl: Curl, film: bytes) -> Any:
    """Return the answer to a printed request, its files being real ones of the printed kind."""
    by_kind = {"mp4": film, "gif": gif(["blue", "green", "red"])}
    files = [
        (field, (name, by_kind.get(Path(name).suffix[1:].lower(), png("red")), kind or None))
        for field, name, kind in curl.files
    ]
    headers = {name: value for name, value in curl.headers.items() if value != FORM_TYPE}
    answer = client.request(curl.method, curl.target, headers=headers, files=files)
    assert answer.status_code == 200, answer.text
    return answer.json()


def assert_like(given: Any, printed: Any, place: str = "answer") -> None:
    """Check that the answer has everything of a printed one, with the same names, types and nesting.

    Lists are as long as there are labels and files; each element is like one of those printed.
    """
    kind: Any = (int, float) if isinstance(printed, float) else type(printed)
    assert isinstance(given, kind), place
    if isinstance(printed, list):
        assert given, place
        for index, one in enumerate(given):
            like = printed[index] if index < len(printed) else printed[-1]
            assert_like(one, like, f"{place}[{index}]")
    elif isinstance(printed, dict):
        assert printed.keys() <= given.keys(), place
        for name, value in printed.items():
            assert_like(given[name], value, f"{place}.{name}")


@pytest.mark.parametrize("example", EXAMPLES, ids=[example["section"] for example in EXAMPLES])
def test_a_printed_request_works(client: TestClient, film: bytes, example: dict[str, Any]) -> None:
    curl = read_curl(example["request"])
    answer = send(client, curl, film)
    # the list of labels is printed after the request with many files, whose answers are by index
    bare = curl.target.startswith("/api/multi-image-classification")
    if bare:
        assert [list(one) for one in answer] == [["0"], ["1"], ["2"]]
        for index, one in enumerate(answer):
            assert_like(one[str(index)], example["answer"])
    elif example["answer"] is not None:
        assert_like(answer, example["answer"])


def test_all_five_endpoints_are_printed() -> None:
    targets = {read_curl(example["request"]).target.partition("?")[0] for example in EXAMPLES}
    assert len(EXAMPLES) == len(targets) == 5


def test_the_document_describes_what_the_service_describes(client: TestClient) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    for example in EXAMPLES:
        operation = paths[read_curl(example["request"]).target.partition("?")[0]]["post"]
        assert {"200", "400", "413", "500", "503", "504"} <= operation["responses"].keys()
        assert "model_names" in {one["name"] for one in operation["parameters"]}
