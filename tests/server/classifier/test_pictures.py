"""The four endpoints for pictures: printed shapes, frames of animations, and the old service's defects."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.server.classifier.making import gif, png

ONE = "/api/image-classification"
MANY = "/api/multi-image-classification"
QUERY = "/api/image-query-classification"
MANY_QUERY = "/api/multi-image-query-classification"


def ask(client: TestClient, path: str, *files: bytes, **params: Any) -> Any:
    """Return the answer of an endpoint to these files; it must be a good one."""
    field = "files" if "multi" in path else "file"
    sent = [(field, (f"{number}.bin", data)) for number, data in enumerate(files)]
    answer = client.post(path, files=sent, params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_all_labels_come_the_highest_first(client: TestClient) -> None:
    labels = ask(client, ONE, png("green"))
    assert [set(label) for label in labels] == [{"score", "label"}] * 3
    assert labels[0]["label"] == "green"
    assert labels[0]["score"] > 0.99
    assert sum(label["score"] for label in labels) == pytest.approx(1)
    assert [one["score"] for one in labels] == sorted((one["score"] for one in labels), reverse=True)


def test_many_pictures_are_answered_by_index(client: TestClient) -> None:
    answer = ask(client, MANY, png("red"), png("blue"), png("green"))
    assert [list(entry) for entry in answer] == [["0"], ["1"], ["2"]]
    tops = [entry[str(index)][0]["label"] for index, entry in enumerate(answer)]
    assert tops == ["red", "blue", "green"]


def test_an_animation_hides_nothing_behind_its_first_frame(client: TestClient) -> None:
    labels = {one["label"]: one["score"] for one in ask(client, ONE, gif(["blue"] * 9 + ["red"]))}
    assert labels["blue"] > 0.99
    assert labels["red"] > 0.99


def test_a_query_keeps_labels_at_or_over_the_score(client: TestClient) -> None:
    (only,) = ask(client, QUERY, png("red"))
    assert only.keys() == {"label", "score"}
    assert only["label"] == "red"
    assert len(ask(client, QUERY, png("red"), score=0)) == 3
    assert ask(client, QUERY, png("red"), score=1) == []
    assert [hit["label"] for hit in ask(client, QUERY, png("red"), score=only["score"])] == ["red"]


def test_a_query_looks_for_the_labels_asked_for(client: TestClient) -> None:
    assert ask(client, QUERY, png("red"), labels=["green", "blue"]) == []
    assert [hit["label"] for hit in ask(client, QUERY, png("red"), labels=["green", "red"])] == ["red"]


def test_frames_of_an_animation_count_from_0_and_each_label_has_its_first(client: TestClient) -> None:
    hits = ask(client, QUERY, gif(["blue", "blue", "red", "blue", "red", "green"]))
    assert [(hit["frame"], hit["label"]) for hit in hits] == [(0, "blue"), (2, "red"), (5, "green")]


def test_true_numbers_of_a_long_animation(client: TestClient) -> None:
    film = ["blue"] * 300
    film[299] = "red"
    hits = ask(client, QUERY, gif(film))
    assert [(hit["frame"], hit["label"]) for hit in hits] == [(0, "blue"), (299, "red")]


def test_many_queries_are_answered_by_index(client: TestClient) -> None:
    answer = ask(client, MANY_QUERY, png("red"), gif(["green", "blue"]), png("green"), labels=["red", "blue"])
    assert [[hit["label"] for hit in entry[str(i)]] for i, entry in enumerate(answer)] == [
        ["red"],
        ["blue"],
        [],
    ]
    assert "frame" not in answer[0]["0"][0]
    assert answer[1]["1"][0]["frame"] == 1


@pytest.mark.parametrize("frames", [1, 2, 3, 10])
@pytest.mark.parametrize("percent", [0, 1, 5, 50, 100])
def test_a_short_animation_in_fast_mode_is_not_empty(client: TestClient, frames: int, percent: int) -> None:
    film = gif(["red"] * frames)
    hits = ask(client, QUERY, film, fast_mode="true", skip_frames_percentage=percent)
    assert [hit["label"] for hit in hits] == ["red"]
    assert hits[0].get("frame", 0) == 0


def test_fast_mode_looks_at_the_last_frame(client: TestClient) -> None:
    hits = ask(client, QUERY, gif(["blue"] * 40 + ["red"]), fast_mode="true", skip_frames_percentage=50)
    assert [(hit["frame"], hit["label"]) for hit in hits] == [(0, "blue"), (40, "red")]


@pytest.mark.parametrize("path", [QUERY, MANY_QUERY])
def test_the_first_matching_label_comes_alone(client: TestClient, path: str) -> None:
    film = gif(["blue", "red", "green"])
    wanted = {"labels": ["red", "green"], "return_on_first_matching_label": "true"}
    answer = ask(client, path, film, **wanted)
    hits = answer[0]["0"] if path == MANY_QUERY else answer
    assert [(hit["frame"], hit["label"]) for hit in hits] == [(1, "red")]


def test_the_first_match_ends_a_file_and_not_the_request(client: TestClient) -> None:
    answer = ask(
        client,
        MANY_QUERY,
        gif(["red", "green"]),
        gif(["blue", "green"]),
        return_on_first_matching_label="true",
    )
    assert [entry[str(i)][0]["label"] for i, entry in enumerate(answer)] == ["red", "blue"]


def test_labels_reach_every_model_and_every_file(client: TestClient) -> None:
    names = ["Falconsai/nsfw_image_detection", "others"]
    answer = ask(
        client, MANY_QUERY, gif(["red"]), gif(["red"]), model_names=names, labels=["red", "warm"], score=0.5
    )
    expected = [{names[0]: ["red"]}, {names[1]: ["warm"]}]
    for index, entry in enumerate(answer):
        given = [
            {name: [hit["label"] for hit in hits] for name, hits in by.items()} for by in entry[str(index)]
        ]
        assert given == expected


def test_labels_of_one_request_do_not_reach_the_next(client: TestClient) -> None:
    assert ask(client, QUERY, png("red"), labels=["red"])
    assert [hit["label"] for hit in ask(client, QUERY, png("blue"))] == ["blue"]
    assert [hit["label"] for hit in ask(client, QUERY, png("red"), labels=["red"])] == ["red"]


def test_several_models_answer_under_their_names(client: TestClient) -> None:
    answer = ask(client, ONE, png("red"), model_names=["others", "nudenet"])
    assert [list(one) for one in answer] == [["others"], ["nudenet"]]
    assert answer[0]["others"][0]["label"] == "warm"
    assert len(answer[1]["nudenet"]) == 18
    assert ask(client, QUERY, png("red"), model_names="others") == [
        {"others": ask(client, QUERY, png("red"), model_name="others")}
    ]


def test_the_detector_says_0_for_what_it_does_not_see(client: TestClient) -> None:
    labels = ask(client, ONE, png("red"), model_name="nudenet")
    assert {one["score"] for one in labels} == {0.0}
    assert ask(client, QUERY, png("red"), model_name="nudenet") == []


@pytest.mark.parametrize(
    ("path", "files", "params", "status", "said"),
    [
        (ONE, [b"no picture"], {}, 400, "0.bin"),
        (ONE, [b""], {}, 400, "empty"),
        (ONE, [png("red")[:-300]], {}, 400, "0.bin"),
        (ONE, [], {}, 422, "file"),
        (
            ONE,
            [png("red")],
            {"model_name": "google/vit-base-patch16-224"},
            400,
            "not a model of this service",
        ),
        (ONE, [png("red")], {"model_name": "/etc"}, 400, "not a model of this service"),
        (ONE, [png("red")], {"model_name": "others", "model_names": "others"}, 400, "either"),
        (ONE, [png("red")], {"model_names": ["others", "x/y"]}, 400, "x/y"),
        (MANY, [png("red"), b"no picture"], {}, 400, "1.bin"),
        (MANY, [png("red")] * 11, {}, 400, "At most 10 files"),
        (QUERY, [png("red")], {"labels": "purple"}, 400, "red, green, blue"),
        (QUERY, [png("red")], {"score": "2"}, 422, "score"),
        (QUERY, [png("red")], {"score": "nan"}, 422, "score"),
        (QUERY, [png("red")], {"fast_mode": "true", "skip_frames_percentage": "-1"}, 422, "skip_frames"),
        (MANY_QUERY, [png("red"), gif(["red", "blue"])[:-40]], {}, 400, "1.bin"),
    ],
)
def test_errors_are_statuses(
    client: TestClient, path: str, files: list[bytes], params: Any, status: int, said: str
) -> None:
    field = "files" if "multi" in path else "file"
    sent = [(field, (f"{number}.bin", data)) for number, data in enumerate(files)]
    answer = client.post(path, files=sent, params=params)
    assert answer.status_code == status, answer.text
    assert said in answer.text
    assert answer.json().keys() == {"detail"}
