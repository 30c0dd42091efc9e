"""Early exit in the service: answers list who was asked, and callers keep their own questions."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from starlette.testclient import TestClient

from clipmod_cli.ensemble.batch import CanSkipRest
from clipmod_cli.ensemble.ensemble import Ensemble, Member
from clipmod_cli.server.device_thread import Caller, DeviceThread, SharedEnsemble
from clipmod_cli.types import Evidence, Frame, Seen
from tests.colour_models import RedClassifier, frame_of
from tests.end_to_end.command import TINY
from tests.measuring import infer
from tests.server.conftest import SettingsOf, served

PICTURES = TINY / "pictures"


def single(client: TestClient, path: Path) -> Any:
    answer = client.post("/predict/single", files={"file": (path.name, path.read_bytes())})
    assert answer.status_code == 200
    return answer.json()


def test_an_answer_lists_who_was_asked_and_names_who_was_not(settings_of: SettingsOf) -> None:
    names = ("red-circle.jpg", "blue-square.png", "nothing.png")
    with served(settings_of()) as client:
        full = [single(client, PICTURES / name) for name in names]
    with served(settings_of(early_exit="exact")) as client:
        early = [single(client, PICTURES / name) for name in names]
        animation = single(client, PICTURES / "red-circle-in-one-frame.gif")
    assert any(one["models_skipped"] for one in early)
    for one, other in zip(early, full, strict=True):
        assert (one["final_decision"], one["needs_review"]) == (
            other["final_decision"],
            other["needs_review"],
        )
        assert [*one["models_used"], *(one["models_skipped"] or [])] == other["models_used"]
        told = one["results"]["triple_ensemble"]
        assert list(told["per_model_predictions"]) == one["models_used"] == told["models_used"]
        assert (other["models_skipped"], other["unsafe_score_bounds"]) == (None, None)
        if one["models_skipped"]:
            low, high = one["unsafe_score_bounds"]
            assert low <= one["unsafe_score"] <= high
    assert animation["models_skipped"] is None
    assert len(animation["models_used"]) == 3


class Question:
    """Calls everything enough, or nothing, and knows what it was asked of."""

    def __init__(self, *, content: bool) -> None:
        self.content = content
        self.asked: list[list[int]] = []

    def __call__(self, frames: Sequence[Frame], seen: Mapping[str, Sequence[Seen]]) -> NDArray[np.bool_]:
        assert all(len(one) == len(frames) for one in seen.values())
        self.asked.append([frame.item.index for frame in frames])
        return np.full(len(frames), self.content)


def test_callers_in_one_forward_pass_are_each_asked_their_own() -> None:
    models = [RedClassifier(name=name) for name in ("first", "second")]
    ensemble = Ensemble(members=[Member(model, 0.5) for model in models], batch_size=16)
    gate = threading.Event()
    models[0].before = lambda _: None if gate.wait(100.0) else pytest.fail("never opened")
    questions: list[CanSkipRest | None] = [None, Question(content=True), Question(content=False), None]
    found: dict[int, list[Evidence]] = {}
    thread = DeviceThread()

    def look(number: int) -> None:
        frames = [frame_of(0.5, 10 * number + at) for at in range(2)]
        results = infer(SharedEnsemble(thread, Caller(ensemble)), [frames], questions[number])
        found[number] = [one for one in results if isinstance(one, Evidence)]

    callers = [threading.Thread(target=look, args=(number,)) for number in range(4)]
    for caller in callers:
        caller.start()
    while len(thread.queue) < 8:
        threading.Event().wait(0.001)
    gate.set()
    thread.start()
    for caller in callers:
        caller.join(100.0)
    thread.close()
    assert [model.calls for model in models] == [[8], [6]]
    assert {number: [one.skipped for one in seen] for number, seen in found.items()} == {
        0: [(), ()], 1: [("second",)] * 2, 2: [(), ()], 3: [(), ()],
    }  # fmt: skip
    for number in (1, 2):
        question = questions[number]
        assert isinstance(question, Question)
        assert [sorted(asked) for asked in question.asked] == [[10 * number, 10 * number + 1]]
