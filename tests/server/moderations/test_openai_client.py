"""OpenAI's own client: pictures are moderated by `data:` and by URL; text is its BadRequestError."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
from functools import partial
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from openai.types import Moderation, ModerationImageURLInputParam, ModerationTextInputParam

from clipmod_cli.judge.policy.reading import load_policy
from clipmod_cli.judge.policy.values import OPENAI_CATEGORIES
from clipmod_cli.server.apis.moderations.answers import names_of
from clipmod_cli.server.apis.moderations.shapes import Moderations
from clipmod_cli.server.service import Service
from tests.end_to_end.command import ROOT
from tests.server.ensemble.pictures import ANIMATION, BLUE_SQUARE, CUT, RED_CIRCLE, RED_SQUARE, TEXT, VIDEO
from tests.server.ensemble.test_unseen import SAFE as CUT_SAFE
from tests.server.moderations.conftest import KEY
from tests.server.test_faulty_models import raise_on_purpose, see_no_numbers
from tests.urls.server import Server

DOCUMENT = (ROOT / "docs" / "http.md").read_text(encoding="utf-8")
MODEL = "omni-moderation-latest"


def image(url: str) -> ModerationImageURLInputParam:
    return {"type": "image_url", "image_url": {"url": url}}


def data(picture: bytes, kind: str = "image/png") -> ModerationImageURLInputParam:
    return image(f"data:{kind};base64,{base64.b64encode(picture).decode()}")


def text(words: str = "a caption") -> ModerationTextInputParam:
    return {"type": "text", "text": words}


def moderate(client: OpenAI, *parts: Any, model: str = MODEL) -> Moderation:
    (result,) = client.moderations.create(model=model, input=list(parts)).results
    return result


def dicts(result: Moderation) -> list[dict[str, Any]]:
    """Return the three tables by category, under the names in the answer."""
    tables = (result.categories, result.category_scores, result.category_applied_input_types)
    return [one.model_dump(by_alias=True) for one in tables]


def refused(client: OpenAI, *parts: Any, **options: Any) -> openai.APIStatusError:
    with pytest.raises(openai.APIStatusError) as caught:
        moderate(client, *parts, **options)
    error = caught.value
    assert error.message.startswith(f"Error code: {error.status_code} - "), "a sentence for a person"
    assert error.request_id
    return error


def test_a_flagged_picture_by_data(client: OpenAI) -> None:
    answer = client.moderations.create(model=MODEL, input=[data(RED_CIRCLE)])
    assert answer.id == f"modr-{answer._request_id}"
    assert answer.model == "clipmod/triple_ensemble"
    (result,) = answer.results
    flags, scores, looked = dicts(result)
    assert result.flagged
    assert result.categories.violence_graphic
    assert {name for name, is_true in flags.items() if is_true} == {"violence", "violence/graphic"}
    assert result.category_scores.violence == result.category_scores.violence_graphic > 0.5
    assert set(flags) == set(scores) == set(looked) == {*OPENAI_CATEGORIES, "red_shape"}
    assert {name for name, kinds in looked.items() if kinds} == {"violence", "violence/graphic", "red_shape"}
    assert looked["violence"] == ["image"]
    assert all(scores[name] == 0.0 for name, kinds in looked.items() if not kinds)
    extra = result.model_extra or {}
    assert extra["needs_review"] is False
    assert extra["policy"] == "shapes"
    (told,) = extra["images"]
    assert told["sha256"] == hashlib.sha256(RED_CIRCLE).hexdigest()
    assert (told["final_decision"], told["ensemble_category"]) == ("NSFW", "red_circle")


def test_a_harmless_picture_by_url(client: OpenAI, images: Server) -> None:
    result = moderate(client, image(images.url("/square.png")))
    flags, scores, _ = dicts(result)
    assert not result.flagged
    assert not any(flags.values())
    assert all(score < 0.5 for score in scores.values())
    assert moderate(client, image(images.url("/circle.jpg"))).flagged


def test_a_category_without_one_of_openais_stands_under_its_own_name(client: OpenAI) -> None:
    result = moderate(client, data(RED_SQUARE))
    flags, scores, _ = dicts(result)
    assert result.flagged
    assert {name for name, is_true in flags.items() if is_true} == {"red_shape"}
    assert scores["red_shape"] > 0.5 > scores["violence"]


def test_several_pictures_are_one_input(client: OpenAI, images: Server) -> None:
    result = moderate(client, image(images.url("/square.png")), data(BLUE_SQUARE), data(RED_CIRCLE))
    assert result.flagged
    assert result.categories.violence
    told = (result.model_extra or {})["images"]
    assert [one["flagged"] for one in told] == [False, False, True]
    assert result.category_scores.violence == pytest.approx(
        moderate(client, data(RED_CIRCLE)).category_scores.violence
    )


def test_an_animation_is_moderated_by_its_worst_frame(client: OpenAI) -> None:
    assert moderate(client, data(ANIMATION, "image/jpeg")).flagged, "the media type is only a hint"


def test_the_asynchronous_client(url: str) -> None:
    async def ask() -> list[bool]:
        async with AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:
            create = partial(client.moderations.create, model=MODEL)
            answers = await asyncio.gather(*(create(input=[data(one)]) for one in (RED_CIRCLE, BLUE_SQUARE)))
            with pytest.raises(openai.BadRequestError):
                await create(input="some words")
        return [answer.results[0].flagged for answer in answers]

    assert asyncio.run(ask()) == [True, False]


@pytest.mark.parametrize("words", ["some words", ["some", "words"], "https://example.com/a.jpg"])
def test_text_is_an_error(client: OpenAI, words: Any) -> None:
    with pytest.raises(openai.BadRequestError, match="Text is not judged") as caught:
        client.moderations.create(model=MODEL, input=words)
    error = caught.value
    assert (error.code, error.type) == ("text_not_supported", "invalid_request_error")
    assert str(error.param).startswith("input")


def test_text_beside_a_picture_is_an_error(client: OpenAI) -> None:
    error = refused(client, text(), data(BLUE_SQUARE))
    assert (error.status_code, error.code) == (400, "text_not_supported")


def test_an_operator_may_have_text_ignored_beside_pictures_and_never_alone(lenient: str) -> None:
    with OpenAI(base_url=lenient, api_key=KEY, max_retries=0) as client:
        result = moderate(client, text(), data(RED_CIRCLE))
        assert result.flagged
        assert (result.model_extra or {})["ignored_input_types"] == ["text"]
        silent = moderate(client, data(RED_CIRCLE))
        assert (silent.model_extra or {})["ignored_input_types"] == []
        assert refused(client, text()).code == "text_not_supported"
        assert refused(client, "words").code == "text_not_supported"


@pytest.mark.parametrize(
    ("part", "status", "code", "reason"),
    [
        (data(TEXT), 400, "invalid_image_format", "unsupported_format"),
        (data(CUT), 400, "image_parse_error", "decode_error"),
        (data(VIDEO), 400, "invalid_image_format", "unsupported_format"),
        (data(b""), 400, "empty_image_file", "empty_file"),
        (image("data:image/png;base64,@@@@"), 400, "invalid_base64_image", None),
        (image("data:image/png;base64,aGVsbG8"), 400, "invalid_base64_image", None),
        (image("data:image/png;base64,aGVs\nbG8="), 400, "invalid_base64_image", None),
        (image("data:image/svg+xml,<svg/>"), 400, "invalid_image_url", None),
        (image("file:///etc/passwd"), 400, "invalid_image_url", "invalid_url"),
        (image(""), 400, "invalid_image_url", "invalid_url"),
        (image("http://example.com/" + "a" * 9000), 400, "invalid_image_url", "invalid_url"),
    ],
)
def test_what_is_no_picture_is_an_error(
    client: OpenAI, part: Any, status: int, code: str, reason: str | None
) -> None:
    error = refused(client, data(BLUE_SQUARE), part)
    assert (error.status_code, error.code, error.param) == (status, code, "input[1].image_url.url")
    assert isinstance(error.body, dict)
    assert error.body.get("reason") == reason


def test_what_cannot_be_downloaded_is_an_error(client: OpenAI, images: Server) -> None:
    for path, reason in (("/missing.jpg", "http_error"), ("/page.html", "not_an_image")):
        error = refused(client, data(BLUE_SQUARE), image(images.url(path)))
        assert (error.status_code, error.param) == (400, "input[1].image_url.url")
        assert isinstance(error.body, dict)
        assert error.body["reason"] == reason
    assert refused(client, image(images.url("/film.mp4"))).code == "invalid_image_format"


def test_a_private_address_is_never_asked(client: OpenAI, images: Server) -> None:
    before = images.paths()
    error = refused(client, image(images.url("/circle.jpg", host="127.0.0.1")))
    assert (error.code, images.paths()) == ("failed_to_download_image", before)
    assert isinstance(error.body, dict)
    assert error.body["reason"] == "blocked_address"


def test_a_model_of_another_service_is_not_found(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="does not exist here") as caught:
        moderate(client, data(BLUE_SQUARE), model="text-moderation-latest")
    assert caught.value.code == "model_not_found"
    (listed,) = client.models.list().data
    assert listed.id == "clipmod/triple_ensemble"
    assert not moderate(client, data(BLUE_SQUARE), model=listed.id).flagged


def test_a_policy_is_named_in_the_query(client: OpenAI) -> None:
    create = partial(client.moderations.create, model=MODEL, input=[data(RED_CIRCLE)])
    assert create(extra_query={"policy": "shapes"}).results[0].flagged
    with pytest.raises(openai.BadRequestError, match="The policy 'nsfw' is not allowed here"):
        create(extra_query={"policy": "nsfw"})


def test_the_described_example_has_the_shape_of_an_answer(client: OpenAI) -> None:
    answer = client.moderations.with_raw_response.create(model=MODEL, input=[data(RED_CIRCLE)])
    told, example = json.loads(answer.text), Moderations.model_config["json_schema_extra"]
    assert isinstance(example, dict)
    described: Any = Moderations.model_validate(example["example"]).model_dump()
    assert set(told) == set(described)
    (result,), (example_result,) = told["results"], described["results"]
    assert set(result) == set(example_result)
    assert set(result["images"][0]) == set(example_result["images"][0])
    assert set(example_result["categories"]) == set(OPENAI_CATEGORIES)


def test_without_a_key_it_is_the_clients_own_error(lenient: str) -> None:
    with (
        OpenAI(base_url=lenient, api_key="another", max_retries=0) as client,
        pytest.raises(openai.AuthenticationError, match="An API key is needed") as caught,
    ):
        moderate(client, data(BLUE_SQUARE))
    assert caught.value.code == "invalid_api_key"


def test_more_pictures_than_may_be(lenient: str) -> None:
    with OpenAI(base_url=lenient, api_key=KEY, max_retries=0) as client:
        assert refused(client, *[data(BLUE_SQUARE)] * 3).code == "too_many_images"


def test_what_was_not_looked_at_is_an_error_unless_the_operator_calls_it_safe(
    client: OpenAI, service: Service, lenient: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = refused(client, data(CUT_SAFE))
    assert (error.status_code, error.code) == (400, "invalid_image")
    assert "not all of it was looked at (truncated)" in error.message
    with OpenAI(base_url=lenient, api_key=KEY, max_retries=0) as other:
        result = moderate(other, data(CUT_SAFE))
    assert not result.flagged
    assert (result.model_extra or {})["review_reasons"][0] == "truncated"
    monkeypatch.setattr(service, "unseen", "flag")
    result = moderate(client, data(CUT_SAFE))
    assert result.flagged
    assert any(dicts(result)[0].values())


def test_a_review_is_flagged(client: OpenAI, service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    model: Any = service.panel.ensemble.members[1].model  # not the fallback's
    monkeypatch.setattr(model, "submit", partial(raise_on_purpose, model.submit))
    answer = client.moderations.create(model=MODEL, input=[data(BLUE_SQUARE)])
    (result,) = answer.results
    extra = result.model_extra or {}
    assert answer.model == "clipmod/openclip_fallback"
    assert (result.flagged, extra["needs_review"], extra["images"][0]["degraded"]) == (True, True, True)
    assert extra["review_reasons"] == ["fallback_model"]
    assert any(dicts(result)[0].values()), "clients may look at the categories alone"
    monkeypatch.setattr(service, "unseen", "safe")
    result = moderate(client, data(BLUE_SQUARE))
    assert (result.flagged, any(dicts(result)[0].values())) == (False, False)


@pytest.mark.parametrize("fault", [raise_on_purpose, see_no_numbers])
def test_failing_models_are_an_error_and_no_answer(
    client: OpenAI, service: Service, monkeypatch: pytest.MonkeyPatch, fault: Any
) -> None:
    with monkeypatch.context() as patch:
        for member in service.panel.ensemble.members:
            model: Any = member.model
            patch.setattr(model, "submit", partial(fault, model.submit))
        with pytest.raises(openai.InternalServerError) as caught:
            moderate(client, data(BLUE_SQUARE))
    assert (caught.value.status_code, caught.value.type) == (500, "server_error")
    assert "secret" not in str(caught.value.body)
    assert not moderate(client, data(BLUE_SQUARE)).flagged


def test_the_documents_example_runs(
    url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    (code,) = re.findall(r"```python\n(import base64\n.*?)```", DOCUMENT, re.DOTALL)
    exec(code.replace("http://127.0.0.1:8000/v1", url), {})  # noqa: S102 - what is exec'd is ours
    assert capsys.readouterr().out.startswith("clipmod/triple_ensemble ")


def test_the_document_tells_how_built_in_categories_are_mapped() -> None:
    rows = [line.strip("|").split("|") for line in DOCUMENT.splitlines() if line.startswith("| ")]
    start = next(number for number, row in enumerate(rows) if row[0].strip() == "OpenAI's category")
    policies = [cell.strip(" `") for cell in rows[start][1:]]
    told: dict[str, dict[str, list[str]]] = {name: {} for name in policies}
    for first, *cells in rows[start + 1 : start + 5]:
        for policy, cell in zip(policies, cells, strict=True):
            own = re.findall(r"`([^`]+)`", cell)
            for name in re.findall(r"`([^`]+)`", first) if "`" in first else own:
                told[policy] |= {name: own if "`" in first else [name]} if own else {}
    for policy in policies:
        assert told[policy] == {name: own for name, own in names_of(load_policy(policy)).items() if own}


def test_a_full_service_is_the_clients_own_error(
    url: str, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service.load, "most", 0)
    with OpenAI(base_url=url, api_key="none", max_retries=0) as client:
        error = refused(client, data(BLUE_SQUARE))
        assert isinstance(error, openai.InternalServerError)
        assert (error.status_code, error.response.headers["retry-after"]) == (503, "1")
        monkeypatch.undo()
        assert not moderate(client, data(BLUE_SQUARE)).flagged
