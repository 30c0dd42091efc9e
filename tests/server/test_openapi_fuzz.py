"""schemathesis against every endpoint in this process: what `/openapi.json` says is what is answered."""

from __future__ import annotations

import base64
import socket
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import strategies as st
from schemathesis.core.result import Ok
from schemathesis.engine import events, from_schema
from schemathesis.engine.recorder import ScenarioRecorder
from schemathesis.schemas import BaseSchema

from clipmod_cli.server.app import create_app
from tests.server.classifier.making import gif, only_tiny, png, save_colour_classifier
from tests.server.conftest import opened
from tests.server.ensemble.pictures import RED_CIRCLE

EXAMPLES = 5
"""For each endpoint, besides those that cover each parameter's limits one by one."""

ACCEPTED = ["2xx", "400", "404"]
"""No description can say which bytes are a picture, so 400 is an answer to data that is well described."""

KEY = "a-key-that-is-long-enough"

PICTURES = (png("red"), gif(["red", "blue"]), RED_CIRCLE, b"", b"no picture")
"""What schemathesis sends as a file, so that answers to pictures are checked too."""

schemathesis.openapi.format("binary", st.sampled_from(PICTURES))
schemathesis.openapi.format(
    "uri", st.sampled_from([f"data:image/png;base64,{base64.b64encode(one).decode()}" for one in PICTURES])
)

CONFIG = schemathesis.Config.from_dict(
    {
        "generation": {"max-examples": EXAMPLES},
        "headers": {"X-API-Key": KEY},
        "checks": {"positive_data_acceptance": {"expected-statuses": ACCEPTED}},
    }
)


@pytest.fixture(scope="module")
def description(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BaseSchema]:
    """The description of a service of tiny models, which finds nobody on the network."""
    home = tmp_path_factory.mktemp("home")
    classifier = save_colour_classifier(tmp_path_factory.mktemp("models") / "colours")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", _nobody)
        resolved = only_tiny(
            home,
            patch,
            classifier=(f"Falconsai/nsfw_image_detection={classifier}",),
            server_name=("testserver",),
            access_log=False,
            api_keys=(KEY,),
        )
        with opened(resolved) as service:
            app = create_app(service, resolved.settings)
            headers = {"X-API-Key": KEY}
            yield schemathesis.openapi.from_asgi("/openapi.json", app, config=CONFIG, headers=headers)


def _nobody(*_: Any, **__: Any) -> None:
    raise socket.gaierror(socket.EAI_NONAME, "nobody")


def test_every_answer_is_as_described(description: BaseSchema) -> None:
    faults: list[str] = []
    asked = Counter[str]()
    for event in from_schema(description).execute():
        match event:
            case events.ScenarioFinished():
                asked[event.recorder.label] += len(event.recorder.interactions)
                faults += _faults(event.recorder)
            case events.NonFatalError():
                faults.append(f"{event.label}: {event.value}")
            case events.FatalError():
                raise event.exception
    assert not faults, "\n\n".join(faults)
    assert set(_labels(description)) <= {label for label, count in asked.items() if count}, asked


def _labels(description: BaseSchema) -> list[str]:
    return [found.ok().label for found in description.get_all_operations() if isinstance(found, Ok)]


def _faults(recorder: ScenarioRecorder) -> list[str]:
    nodes = [node for nodes in recorder.checks.values() for node in nodes]
    failed = [node.failure_info for node in nodes if node.failure_info is not None]
    return [f"{recorder.label}: {one.failure}\n{one.code_sample[:500]}" for one in failed]
