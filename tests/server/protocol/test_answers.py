"""What every endpoint answers alike: methods, kinds of bodies, faults in them, and what is told of them."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from tests.server.classifier.making import only_tiny
from tests.server.conftest import BASE_URL, client_of, opened
from tests.server.ensemble.pictures import RED_CIRCLE

MOST_BYTES = 4096
"""Of an answer to a request that is wrong, however wrong it is."""

SECRET = "sk-this-is-a-secret"
GZIP = b"\x1f\x8b\x08\x00"


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """A client of a service of one tiny model."""
    with pytest.MonkeyPatch.context() as patch:
        resolved = only_tiny(tmp_path_factory.mktemp("home"), patch, access_log=False)
        with opened(resolved) as service, client_of(service, resolved) as one:
            yield one


@pytest.fixture(scope="module")
def methods(client: TestClient) -> dict[str, set[str]]:
    """The described methods of each path, with values for its variables."""
    found = client.get("/openapi.json").json()["paths"]
    return {path.replace("{image_id}", "x"): {name.upper() for name in one} for path, one in found.items()}


@pytest.fixture(scope="module")
def takers(client: TestClient) -> dict[str, str]:
    """The kind of body that each endpoint with one takes."""
    found = client.get("/openapi.json").json()["paths"]
    posts = {path: one["post"]["requestBody"]["content"] for path, one in found.items() if "post" in one}
    return {path: next(iter(content)) for path, content in posts.items()}


def test_head_is_get_without_a_body(client: TestClient, methods: dict[str, set[str]]) -> None:
    unlike = {"date", "x-request-id", "content-length"}
    described = [path for path, known in methods.items() if "GET" in known]
    for path in [*described, "/ui", "/docs", "/openapi.json"]:
        get, head = client.get(path), client.head(path)
        assert (head.status_code, head.content) == (get.status_code, b""), path
        assert {k: v for k, v in head.headers.items() if k not in unlike} == {
            k: v for k, v in get.headers.items() if k not in unlike
        }, path
        if path not in {"/metrics", "/stats", "/health"}:  # their numbers change
            assert head.headers["content-length"] == get.headers["content-length"], path


def test_options_and_refused_methods_name_those_that_are_allowed(
    client: TestClient, methods: dict[str, set[str]]
) -> None:
    for path, known in methods.items():
        allowed = known | {"OPTIONS"} | ({"HEAD"} if "GET" in known else set())
        answer = client.options(path)
        assert (answer.status_code, answer.content) == (204, b""), path
        assert set(answer.headers["allow"].split(", ")) == allowed, path
        for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "TRACE", "BREW"} - allowed:
            answer = client.request(method, path)
            assert answer.status_code == 405, (method, path)
            assert set(answer.headers["allow"].split(", ")) == allowed, (method, path)
    assert client.options("/nowhere").status_code == 404


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/health/", 200),
        ("GET", "/ui/", 200),
        ("POST", "/predict/single/", 400),
        ("POST", "/classify", 400),
        ("POST", "/classify/", 400),
        ("GET", "/predict/single/", 405),
        ("OPTIONS", "/predict/single/", 204),
        ("HEAD", "/health/", 200),
        ("GET", "/health//", 404),
        ("GET", "/nowhere/", 404),
        ("GET", "/image/x/", 404),
    ],
)
def test_a_slash_too_many_makes_no_redirect(client: TestClient, method: str, path: str, status: int) -> None:
    assert client.request(method, path, follow_redirects=False).status_code == status


def test_compressed_bodies_are_415(client: TestClient, takers: dict[str, str]) -> None:
    for path, kind in takers.items():
        answer = client.post(path, content=GZIP, headers={"Content-Type": kind, "Content-Encoding": "gzip"})
        assert answer.status_code == 415, path
        assert "without Content-Encoding" in answer.text
        same = client.post(path, content=GZIP, headers={"Content-Type": kind, "Content-Encoding": "identity"})
        assert same.status_code in {400, 422}, path


def test_a_body_of_another_kind_is_told_which_kind_it_takes(
    client: TestClient, takers: dict[str, str]
) -> None:
    for path, kind in takers.items():
        other = "multipart/form-data; boundary=b" if kind == "application/json" else "application/json"
        answer = client.post(path, content=b"{}", headers={"Content-Type": other})
        assert answer.status_code in {400, 415}, path
        # /classify/ has no field that it needs always
        assert kind in answer.text or "Give either image" in answer.text, (path, answer.text)


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", 'Application/JSON;charset="UTF-8"'])
def test_parameters_of_a_kind_do_not_matter(client: TestClient, kind: str) -> None:
    answer = client.post("/predict/urls", content=b'{"urls": []}', headers={"Content-Type": kind})
    assert answer.json() == {"detail": "URL validation errors: No URLs were given"}


WRONG = {
    "not JSON": b"{",
    "deep": b"[" * 100_000,
    "deep in place": b'{"urls": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "a number of a million digits": b'{"urls": [' + b"9" * 900_000 + b"]}",
    "a float beyond all": b'{"urls": [1e999]}',
    "NaN": b'{"urls": [NaN, Infinity, -Infinity]}',
    "no UTF-8": b'{"urls": ["\xff\xfe"]}',
    "half a pair": b'{"urls": ["\\ud800"]}',
    "half a pair in a URL": b'{"urls": ["http://\\udfff.example/\\ud800"]}',
    "half a pair as a name": b'{"\\ud800": 1}',
    "NUL": b'{"urls": ["http://a\\u0000b/"]}',
    "UTF-16": '{"urls": []}'.encode("utf-16"),
    "many numbers": b'{"urls": [' + b"1," * 400_000 + b"1]}",
    "a long text": b'{"urls": "' + b"a" * 900_000 + b'"}',
    "an object": json.dumps({"urls": {SECRET: SECRET}}).encode(),
    "a secret": json.dumps({"api_key": SECRET, "urls": SECRET}).encode(),
    "an array": json.dumps([SECRET] * 1000).encode(),
    "a text": json.dumps(SECRET).encode(),
    "null": b"null",
    "nothing": b"",
}


@pytest.mark.parametrize("body", WRONG.values(), ids=WRONG.keys())
def test_a_wrong_body_is_refused_in_few_words_and_not_repeated(client: TestClient, body: bytes) -> None:
    answer = client.post("/predict/urls", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code in {400, 422}, answer.text
    assert len(answer.content) <= MOST_BYTES
    assert SECRET not in answer.text
    assert answer.json()["detail"]


@pytest.mark.parametrize("body", WRONG.values(), ids=WRONG.keys())
def test_a_wrong_moderation_is_refused_in_few_words(client: TestClient, body: bytes) -> None:
    body = body.replace(b'"urls"', b'"input"')
    answer = client.post("/v1/moderations", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code in {400, 422}, answer.text
    assert len(answer.content) <= MOST_BYTES
    assert SECRET not in answer.text
    assert answer.json()["error"]["message"]


def test_many_wrong_parameters_are_refused_in_few_words(client: TestClient) -> None:
    wrong = "&".join(f"labels={SECRET}{number}&score={SECRET}" for number in range(300))
    for path in ("/api/image-query-classification", "/classify/"):
        answer = client.post(f"{path}?{wrong}", files={"file": ("a.png", b"x")}, data={"image": SECRET})
        assert answer.status_code in {400, 422}, path
        assert len(answer.content) <= MOST_BYTES, path
        assert SECRET not in answer.text, path


PART = b'--b\r\nContent-Disposition: form-data; name="z"\r\n'
END = b"\r\n--b--\r\n"
FORM = "multipart/form-data; boundary=b"
INNER = b"--c\r\nContent-Disposition: file; filename=a.jpg\r\n\r\nx\r\n--c--\r\n"

FORMS = {
    "no boundary": ("multipart/form-data", END),
    "an empty boundary": ("multipart/form-data; boundary=", b"--\r\n"),
    "a boundary that never comes": (FORM, b"x" * 100_000),
    "a part with large headers": (FORM, PART + b"X: " + b"y" * 60_000 + b"\r\n\r\n" + END),
    "a part with many headers": (FORM, PART + b"X: y\r\n" * 9_000 + b"\r\n" + END),
    "many parts": (FORM, (PART + b"\r\n1\r\n") * 1_100 + b"--b--\r\n"),
    "a form in a form": (FORM, PART + b"Content-Type: multipart/mixed; boundary=c\r\n\r\n" + INNER + END),
    "a part without a name": (FORM, b"--b\r\nX: y\r\n\r\n" + END),
    "an encoded part": (FORM, PART + b"Content-Transfer-Encoding: base64\r\n\r\neA==" + END),
    "an unknown charset": ("multipart/form-data; charset=klingon; boundary=b", PART + b"\r\n\xff" + END),
    "another kind": ("text/plain", b"hello"),
    "no kind": ("", b"hello"),
    "a kind that is none": ("\xe4;;;=", b"hello"),
}


@pytest.mark.parametrize(("kind", "body"), FORMS.values(), ids=FORMS.keys())
def test_a_form_that_is_none_is_refused(
    client: TestClient, takers: dict[str, str], kind: str, body: bytes
) -> None:
    for path in (path for path, taken in takers.items() if taken != "application/json"):
        answer = client.post(path, content=body, headers={b"Content-Type": kind.encode("latin-1")})
        if path == "/predict/streaming" and answer.status_code == 200:  # begun before the fault came
            assert '"type":"error"' in answer.text.replace(" ", "")
            assert '"total_processed":0' in answer.text.replace(" ", "")
        else:
            assert answer.status_code in {400, 413, 415, 422}, (path, answer.text)
        assert len(answer.content) <= MOST_BYTES


@pytest.mark.parametrize("name", ["", "ä.png", "\\", '\\"', "a" * 1000, "%00", "\x7f", "..", "CON", "\udcff"])
def test_any_file_name_is_answered(client: TestClient, name: str) -> None:
    raw = name.encode(errors="surrogateescape")
    head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="' + raw + b'"\r\n\r\n'
    answer = client.post(
        "/predict/single",
        content=head + RED_CIRCLE + b"\r\n--b--\r\n",
        headers={"Content-Type": "multipart/form-data; boundary=b"},
    )
    assert answer.status_code == 200, answer.text
    assert isinstance(answer.json()["image"], str)


def test_a_hosted_picture_is_sent_again_only_if_it_changed(client: TestClient) -> None:
    judged = client.post("/predict/single", files={"file": ("a.png", RED_CIRCLE)}).json()
    path = judged["image_url"].removeprefix(BASE_URL)
    whole = client.get(path)
    tag = whole.headers["etag"]
    for given in (tag, f"W/{tag}", f'"other", {tag}', "*", f'W/"other",{tag}'):
        answer = client.get(path, headers={"If-None-Match": given})
        assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", tag), given
    for given in ('"other"', tag.strip('"'), f'"x{tag[1:]}', f'{tag[:-1]}x"', ""):
        assert client.get(path, headers={"If-None-Match": given}).status_code == 200, given
    head = client.head(path)
    assert (head.headers["content-length"], head.content) == (str(len(whole.content)), b"")
    assert client.get(path, headers={"Range": "bytes=0-9"}).content == whole.content
